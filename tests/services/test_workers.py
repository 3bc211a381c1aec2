"""Workers as children: started, signalled, killed, and gone afterwards."""

import signal
from collections.abc import Callable

import psutil
import pytest
from celery import Celery

from tests.services.processes import alive, wait_until
from tests.services.workers import Crew

APP = "tests.services.trivial"


@pytest.fixture
def trivial_crew(new_crew: Callable[..., Crew], rabbitmq_url: str, redis_url: str) -> Crew:
    return new_crew(broker_url=rabbitmq_url, test_redis_url=redis_url)


@pytest.fixture
def client(rabbitmq_url: str, redis_url: str):
    with Celery("client", broker=rabbitmq_url, backend=redis_url, set_as_current=False) as app:
        app.conf.update(
            task_default_queue="trivial",
            task_default_queue_type="quorum",
            task_default_exchange_type="topic",
        )
        yield app
        app.backend.result_consumer.stop()
        app.backend.client.close()


def test_worker_killed_in_mid_task_is_replaced_and_the_task_runs(trivial_crew, client) -> None:
    worker = trivial_crew.worker(app=APP)
    napping = client.send_task("trivial.nap", [1.5])
    worker.wait_for_log("trivial.nap.* received")
    family = worker.children()

    worker.kill9()

    assert not worker.running()
    assert not any(map(alive, family))
    worker.start()
    assert napping.get(timeout=20) == "slept"


def test_killed_pool_process_is_replaced_by_its_worker(trivial_crew) -> None:
    worker = trivial_crew.worker(app=APP)
    victim = worker.children()[0].pid

    worker.kill9_child(victim)

    wait_until(
        lambda: len(pids := {child.pid for child in worker.children()}) == 2 and victim not in pids
    )


def test_frozen_worker_does_nothing_until_it_is_thawed(trivial_crew, client) -> None:
    worker = trivial_crew.worker(app=APP)

    worker.freeze()

    frozen = [worker.pid, *(child.pid for child in worker.children())]
    wait_until(lambda: {psutil.Process(pid).status() for pid in frozen} == {psutil.STATUS_STOPPED})
    added = client.send_task("trivial.add", [1, 2])
    worker.thaw()
    assert added.get(timeout=20) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_worker_ends_when_it_is_asked(trivial_crew, number: int) -> None:
    worker = trivial_crew.worker(app=APP, pool="threads")
    family = worker.children()

    code = worker.stop() if number == signal.SIGTERM else worker.soft_stop()

    assert code == 0
    assert not any(map(alive, family))


def test_beat_becomes_ready(trivial_crew) -> None:
    beat = trivial_crew.beat(app=APP)

    assert beat.ready
    assert beat.stop() == 0


def test_worker_that_cannot_start_says_why_at_once(trivial_crew) -> None:
    with pytest.raises(RuntimeError, match="no_such_application"):
        trivial_crew.worker(app="no_such_application")
