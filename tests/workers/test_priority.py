"""Urgent steps do not wait behind the backlog of their queue."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.workers import connect
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
def test_an_urgent_step_overtakes_the_backlog_of_its_queue(
    open_shop: OpenShop, broker: str
) -> None:
    shop = open_shop(broker)
    backlog = [shop.start("napping", 0.1) for _ in range(40)]
    shop.crew.worker(concurrency=1)
    wait_until(lambda: finished_naps(shop) > 0, timeout=30)

    assert shop.start("urgent", 1).result(timeout=20) == 2
    overtaken = len(backlog) - finished_naps(shop)

    assert overtaken > len(backlog) / 2
    assert all(one.result(timeout=30) for one in backlog)


def finished_naps(shop: Shop) -> int:
    return sum(row["status"] == "succeeded" for row in shop.steps("nap"))


def test_whoever_consumes_a_queue_takes_its_urgent_messages_too(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker(name="main", concurrency=1)
    shop.crew.worker(name="annex", concurrency=1, queues=["annex"])

    assert shop.start("urgent_there", 1).result(timeout=30) == 4
    with connect.broker(shop.settings)() as connection:
        channel = connection.channel()
        for queue in ("orchestrator.high", "annex.high"):
            assert channel.queue_declare(queue, passive=True).consumer_count == 1


def test_an_excluded_urgent_queue_is_left_to_other_workers(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker(
        name="plain", concurrency=1, options=["--without-mingle", "-X", "orchestrator.high"]
    )

    assert shop.start("chain", 1).result(timeout=20) == 5
    handle = shop.start("urgent", 1)
    assert shop.start("chain", 1).result(timeout=20) == 5
    assert not handle.view().facts.finished
    shop.crew.worker(name="quick", concurrency=1, queues=["orchestrator.high"])

    assert handle.result(timeout=30) == 2
