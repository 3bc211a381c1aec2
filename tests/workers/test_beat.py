"""Beat as a mere alarm clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
def test_beat_wakes_what_is_due_when_no_pump_does(open_shop: OpenShop, broker: str) -> None:
    shop = open_shop(broker, pump_interval="1h")
    worker = shop.crew.worker()
    shop.crew.beat()

    assert shop.start("recovering", 7).result(timeout=20) == 8

    worker.wait_for_log(r"orchestrator\.wake_due.*succeeded")
    worker.wait_for_log(r"orchestrator\.redrive.*succeeded")


def test_beat_leaves_no_file_behind(open_shop: OpenShop) -> None:
    shop = open_shop("files")
    before = set(Path.cwd().iterdir())
    worker = shop.crew.worker()
    beat = shop.crew.beat()
    worker.wait_for_log(r"orchestrator\.wake_due.*succeeded")

    beat.stop()

    assert set(Path.cwd().iterdir()) <= before


def test_duties_can_be_asked_for_twice_at_once(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker()
    shop.crew.beat()
    shop.crew.beat()

    assert [shop.start("recovering", 7).result(timeout=20) for _ in range(3)] == [8, 8, 8]

    worker.wait_for_log(r"orchestrator\.wake_due.*succeeded")
    assert {step["attempt"] for step in shop.steps("fail_once")} == {2}
