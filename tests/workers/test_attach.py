"""A Celery application of the user's own works on flows."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from tests.services.processes import wait_until
from tests.workers.conftest import Shop
from workers import connect

OpenShop = Callable[..., Shop]


def test_application_runs_its_own_tasks_and_flows(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker(app="tests.workers.cinema", queues=["cinema", shop.settings.queue])

    assert shop.start("chain", 1).result(timeout=20) == 5

    with Celery("visitor", broker=shop.settings.broker_url, set_as_current=False) as visitor:
        visitor.send_task("tests.workers.cinema.greet", ["you"], queue="cinema")
    worker.wait_for_log(r"cinema\.greet.*succeeded.*hello you")


def test_application_leaves_what_it_lacks_to_others(open_shop: OpenShop) -> None:
    shop = open_shop()
    handle = shop.start("chain", 1)
    stranger = shop.crew.worker(
        app="tests.workers.cinema",
        queues=[shop.settings.queue],
        env={"CINEMA_SHOWS": ""},
    )
    stranger.wait_for_log(r"chain\.add.* received")

    shop.crew.worker()

    assert handle.result(timeout=30) == 5


def test_queue_of_a_step_is_made_by_whoever_comes_first(open_shop: OpenShop) -> None:
    shop = open_shop()
    handle = shop.start("elsewhere", 1)
    shop.crew.worker(queues=[shop.settings.queue, "annex"])

    assert handle.result(timeout=20) == 4

    with connect.broker(shop.settings)() as connection:
        channel = connection.channel()
        for queue in ("annex", "annex.dead", shop.settings.queue, f"{shop.settings.queue}.dead"):
            wait_until(
                lambda queue=queue: not channel.queue_declare(queue, passive=True).message_count,
                timeout=5,
            )
