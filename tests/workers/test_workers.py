"""Workers run flows, on every pool and every broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import ExecutionFailed
from orchestrator.runtime import quarantine
from orchestrator.workers import connect
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_flows_run_on_every_pool_and_broker(open_shop: OpenShop, broker: str, pool: str) -> None:
    shop = open_shop(broker)
    shop.crew.worker(pool=pool)

    chain = shop.start("chain", 1)
    fan = shop.start("fan", 20)
    resting = shop.start("resting", 0.05)

    assert chain.result(timeout=30) == 5
    assert fan.result(timeout=30) == sum(n * n for n in range(20))
    assert resting.result(timeout=30) == 2


def test_coroutine_steps_of_one_process_wait_beside_each_other(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker(pool="threads", concurrency=8)

    handles = [shop.start("resting", 1.0) for _ in range(8)]

    assert [handle.result(timeout=3) for handle in handles] == [2] * 8


def test_everything_sent_is_marked_as_sent(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker()

    assert shop.start("fan", 100).result(timeout=30) > 0

    wait_until(
        lambda: not shop.rows("SELECT 1 FROM orchestrator.steps WHERE sent < dispatch"), timeout=5
    )


def test_failed_step_is_shown_as_a_failed_task(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker()

    with pytest.raises(ExecutionFailed, match="there is no 7"):
        shop.start("failing_at_once", 7).result(timeout=20)

    worker.wait_for_log(r"failing_at_once\.refuse.*raised expected.*LookupError: there is no 7")


def test_retried_attempt_is_shown_as_a_retried_task(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker()

    assert shop.start("recovering", 7).result(timeout=20) == 8

    worker.wait_for_log(r"recovering\.fail_once.*retry: LookupError: there is no 7")


def test_worker_without_the_flow_leaves_it_to_one_that_has_it(open_shop: OpenShop) -> None:
    shop = open_shop()
    stranger = shop.crew.worker(env={"ORCHESTRATOR_MODULES": ""}, name="stranger")
    handle = shop.start("chain", 1)
    stranger.wait_for_log(r"chain\.add.* received")

    shop.crew.worker(name="knows")

    assert handle.result(timeout=30) == 5
    (first, *_) = shop.steps("add")
    assert first["attempt"] == 1
    assert first["deaths"] == 0


def test_message_of_another_release_is_kept_in_quarantine(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker()
    connection = connect.broker(shop.settings)()
    producer = connection.Producer()
    producer.publish(
        [["another", "format"], {}, {}],
        exchange="",
        routing_key=shop.settings.queue,
        headers={"task": "chain.add", "id": "1", "orchestrator-v": 99},
    )

    def kept() -> bool:
        found = shop.database.run(quarantine.listed)
        return [set_aside.queue for set_aside in found] == [shop.settings.queue]

    wait_until(kept, timeout=20)
    connection.release()


def test_steps_of_another_queue_run_where_it_is_consumed(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker(queues=["other"])
    handle = shop.start("chain", 1)
    assert not handle.view().facts.finished

    shop.crew.worker(queues=[shop.settings.queue])

    assert handle.result(timeout=20) == 5


def test_worker_refuses_a_database_without_our_schema(
    open_shop: OpenShop, empty_database_url: str
) -> None:
    shop = open_shop("files", database_url=empty_database_url)

    worker = shop.crew.worker(wait=False)

    assert worker.child.wait(60) == 1
    assert "the worker does not start" in worker.tail(1)
    assert "orchestrator db upgrade" in worker.tail(1)
