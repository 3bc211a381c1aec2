"""Flows run from end to end: a program starts them, worker processes do them, over RabbitMQ."""

from __future__ import annotations

import pytest

from tests.acceptance import flows
from tests.acceptance.site import Site


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_every_shape_of_flow_comes_to_its_result(site: Site, pool: str) -> None:
    site.worker(pool=pool)

    handles = [
        site.start(flows.line, 1),
        site.start(flows.hops, 1),
        site.start(flows.fan, 30),
        site.start(flows.fan, 0),
        site.start(flows.diamond, 1),
        site.start(flows.mixed, 1),
    ]

    assert site.results(handles) == [5, 5, sum(n * n for n in range(30)), 0, 6, 5 + 2]
    assert site.calls() == {
        "add": 4 + 1,
        "add_apart": 4 + 2 + 1,
        "numbers": 3,
        "square": 30 + 3,
        "total": 3,
        "plus": 2,
    }
    site.sound()
