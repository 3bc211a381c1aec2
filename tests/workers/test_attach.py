"""A Celery application of the user's own works on flows."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import pytest
from celery import Celery

from orchestrator import flow, step
from orchestrator.settings import Settings
from orchestrator.workers import connect
from orchestrator.workers.app import attach
from orchestrator.workers.crew import crew_of
from tests.services.processes import wait_until
from tests.workers.bookshop.flows import order
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@step
def unused() -> None:
    """What an execution may need that was started before a flow was changed."""


def test_application_runs_its_own_tasks_and_flows(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker(app="tests.workers.cinema", queues=["cinema", shop.settings.queue])

    assert shop.start("chain", 1).result(timeout=20) == 5

    with Celery("visitor", broker=shop.settings.broker_url, set_as_current=False) as visitor:
        visitor.send_task("tests.workers.cinema.greet", ["you"], queue="cinema")
    worker.wait_for_log(r"cinema\.greet.*succeeded.*hello you")


def test_worker_tells_at_its_start_of_steps_in_queues_that_nobody_consumes(
    open_shop: OpenShop,
) -> None:
    shop = open_shop()
    worker = shop.crew.worker(app="tests.workers.cinema")  # consumes its own default queue only

    worker.wait_for_log(
        r"WARNING.*this worker has flows with steps on queue 'orchestrator', which neither it nor "
        r"another living worker consumes: start it with -Q cinema,annex,orchestrator\b.*, or "
        r"another worker with -Q orchestrator"
    )
    shop.crew.worker(queues=[shop.settings.queue])
    third = shop.crew.worker(app="tests.workers.cinema")

    assert "on queue 'annex'" in third.log()
    assert "on queue 'orchestrator'" not in third.log(), "another worker consumes it"


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


def test_application_configured_by_an_object_keeps_its_discovered_tasks(
    open_shop: OpenShop,
) -> None:
    shop = open_shop()
    worker = shop.crew.worker(
        app="tests.workers.bookshop.celery_app", queues=["books", shop.settings.queue]
    )

    assert shop.orchestrator.start(order, "Emma", 3).result(timeout=20) == "bookshop: 12"

    with Celery("visitor", broker=shop.settings.broker_url, set_as_current=False) as visitor:
        visitor.send_task("tests.workers.bookshop.tasks.price", ["Persuasion"], queue="books")
    worker.wait_for_log(r"bookshop\.tasks\.price.*succeeded.*: 10")


@step
def one(number: int) -> int:
    return number


@flow
def of_this_module(number: int) -> int:
    return one(number)


def test_named_modules_are_imported_with_those_of_tasks_and_modules_at_once() -> None:
    named = Celery("named", broker="memory://", set_as_current=False)
    attach(named, ["tests.workers.bookshop.flows"], settings=Settings())
    assert crew_of(named).catalogue.flows == {}

    named.loader.import_default_modules()

    assert set(crew_of(named).catalogue.flows) == {"order"}
    assert "order.total" in named.tasks
    assert "order.price" in named.tasks

    given = Celery("given", broker="memory://", set_as_current=False)
    attach(given, [importlib.import_module(__name__)], settings=Settings())
    assert "of_this_module" in crew_of(given).catalogue.flows
    assert "of_this_module.one" in given.tasks


def test_module_that_is_not_there_ends_the_start_of_a_worker_with_its_name() -> None:
    app = Celery("named", broker="memory://", set_as_current=False)
    attach(app, ["tests.workers.nowhere"], settings=Settings())

    with pytest.raises(ModuleNotFoundError, match=r"tests\.workers\.nowhere"):
        app.loader.import_default_modules()


def test_a_checkout_has_a_short_name_for_the_application() -> None:
    short = importlib.import_module("workers.app")
    installed = importlib.import_module("orchestrator.workers.app")

    assert (short.app, short.attach) == (installed.app, installed.attach)


def test_a_worker_has_all_steps_of_its_modules() -> None:
    with Celery("kiosk", set_as_current=False) as app:
        attach(app, modules=[sys.modules[__name__]])

        assert unused.function in crew_of(app).catalogue.functions
