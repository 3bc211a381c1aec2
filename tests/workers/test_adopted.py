"""Celery tasks as steps: their bodies run as they always did, their retries are the step's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import celery
import pytest
from celery import Celery, shared_task
from celery.exceptions import Ignore, Reject

from orchestrator import DefinitionError, ExecutionFailed, Retry, RetryAfter, Step, step
from orchestrator import Reject as RejectStep
from orchestrator.runtime import bodies
from orchestrator.workers import adopted
from tests.runtime.lab import Lab
from tests.workers import warehouse
from tests.workers.conftest import Shop
from tests.workers.warehouse import Fatal, Flaky, raises, told


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    bodies.run_tasks_with(adopted.run)
    told.clear()
    raises.clear()
    made = Lab.open(database_url, warehouse.FLOWS)
    yield made
    made.close()


def run(lab: Lab, flow: Any, *, attempts: int = 1) -> Any:
    """Run a flow to its end, over so many attempts of its step."""
    handle = lab.start(flow, "tea")
    worker = lab.worker()
    for attempt in range(1, attempts + 1):
        lab.drain(worker)
        if attempt < attempts:
            lab.advance(minutes=15)
            lab.sweep()
    lab.sound(handle)
    return handle


def test_a_task_runs_as_a_step_and_as_the_plain_function(lab: Lab) -> None:
    assert run(lab, warehouse.reserving).result(0) == "2 tea"
    assert warehouse.adopted_reserve("tea", 3) == "3 tea"
    assert run(lab, warehouse.shipping).result(0) == "tea shipped by warehouse.ship"


def test_its_request_is_filled(lab: Lab) -> None:
    handle = run(lab, warehouse.packing)

    seen = handle.result(0)

    assert seen["id"] == seen["key"] == str(lab.address(handle, "pack").id)
    assert (seen["retries"], seen["called_directly"]) == (0, False)
    assert (seen["args"], seen["kwargs"]) == (["tea"], {})
    assert seen["root_id"] == handle.id
    assert seen["delivery_info"]["redelivered"] is False
    assert seen["hostname"]
    assert warehouse.pack.request.id is None, "nothing of it is left behind"


def test_its_hooks_are_called_once_per_attempt(lab: Lab) -> None:
    raises.extend([Flaky("one"), Flaky("two")])

    handle = run(lab, warehouse.packing, attempts=3)

    assert handle.result(0)["retries"] == 2
    names = [name for name, *_ in told]
    assert names == [
        "before_start",
        "on_retry",
        "before_start",
        "on_retry",
        "before_start",
        "on_success",
        "after_return",
    ]
    assert ("on_retry", "Flaky", "ExceptionInfo") in told
    assert ("after_return", "SUCCESS") in told
    assert told[0] == ("before_start", str(lab.address(handle, "pack").id), ("tea",), {})


def test_retrying_itself_is_an_attempt_of_the_step(lab: Lab) -> None:
    raises.extend([Flaky("one")])
    handle = lab.start(warehouse.packing, "tea")
    lab.drain()

    row = lab.row(handle, "pack")
    assert (row["status"], row["attempt"], row["error"]["kind"]) == ("ready", 1, "Flaky")
    assert row["due_at"] - row["began_at"] >= timedelta(seconds=7), "its default_retry_delay"
    lab.advance(seconds=5)
    assert lab.sweep().messages == []
    lab.advance(seconds=3)
    assert len(lab.sweep().messages) == 1
    assert len(raises) == 0


def test_its_max_retries_end_it_with_its_error(lab: Lab) -> None:
    raises.extend([Flaky("one"), Flaky("two"), Flaky("three"), Flaky("never")])

    handle = run(lab, warehouse.packing, attempts=5)

    with pytest.raises(ExecutionFailed, match="Flaky: three"):
        handle.result(0)
    assert len(raises) == 1
    assert [name for name, *_ in told][-2:] == ["on_failure", "after_return"]
    assert told[-1] == ("after_return", "FAILURE")


def test_a_countdown_of_its_own_is_kept(lab: Lab) -> None:
    handle = lab.start(warehouse.waiting, "tea")
    lab.drain()
    row = lab.row(handle, "later")
    assert timedelta(seconds=89) < row["due_at"] - row["began_at"] < timedelta(seconds=92)
    lab.advance(seconds=91)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "tea"


def test_automatic_retries_become_the_steps_policy(lab: Lab) -> None:
    settings = warehouse.adopted_weigh.settings
    assert settings.retry == Retry(
        5, first="3s", factor=2, cap="5s", jitter=False, on=(Flaky,), not_on=(Fatal,)
    )
    assert warehouse.adopted_label.settings.retry == Retry(
        2, first="2s", factor=1, cap="2s", jitter=False, on=(Flaky,)
    )
    assert warehouse.adopted_pack.settings.retry == Retry()

    raises.extend([Flaky("one"), Flaky("two")])
    handle = run(lab, warehouse.weighing, attempts=3)
    assert handle.result(0) == 3
    raises.append(Flaky("again"))
    assert run(lab, warehouse.labelling, attempts=2).result(0) == "tea/1"


@pytest.mark.parametrize("error", [Fatal("broken"), ValueError("other")])
def test_what_is_not_retried_fails_at_once(lab: Lab, error: Exception) -> None:
    raises.append(error)

    handle = run(lab, warehouse.weighing)

    with pytest.raises(ExecutionFailed, match=type(error).__name__):
        handle.result(0)
    assert [name for name, *_ in told] == ["before_start", "on_failure", "after_return"]


def test_options_overrule_what_the_task_says() -> None:
    changed = warehouse.adopted_weigh.options(retry=Retry(2), queue="mine", timeout="5s")
    assert (changed.settings.retry, changed.settings.queue) == (Retry(2), "mine")
    assert warehouse.adopted_lift.settings.queue == "heavy"
    assert warehouse.adopted_lift.settings.timeout == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("raised", "status", "result"),
    [
        (Ignore(), "succeeded", None),
        (Reject("no"), "failed", "Reject"),
        (RejectStep("no"), "failed", "Reject"),
    ],
    ids=["ignore", "reject", "reject of ours"],
)
def test_ignore_and_reject_end_the_step(
    lab: Lab, raised: Exception, status: str, result: Any
) -> None:
    raises.append(raised)
    handle = run(lab, warehouse.weighing)
    assert handle.status() == status
    if result is not None:
        assert lab.row(handle, "weigh")["error"]["kind"] == result


@pytest.mark.parametrize(
    "raised", [Reject("busy", requeue=True), RetryAfter(5)], ids=["requeue", "retry after"]
)
def test_asking_for_another_turn_gets_one(lab: Lab, raised: Exception) -> None:
    raises.append(raised)
    assert run(lab, warehouse.weighing, attempts=2).result(0) == 3


def test_retrying_with_other_arguments_is_refused(lab: Lab) -> None:
    handle = run(lab, warehouse.wandering)
    with pytest.raises(ExecutionFailed, match="retries itself with other arguments"):
        handle.result(0)


def test_a_call_of_its_own_is_entered_once(lab: Lab) -> None:
    assert run(lab, warehouse.entering).result(0) == "tea"
    assert told == [("entered", True)]


def test_a_failing_hook_changes_nothing(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the hook is broken")

    task: Any = warehouse.weigh
    task.on_success = fail
    try:
        assert run(lab, warehouse.weighing).result(0) == 3
    finally:
        del task.on_success
    assert "on_success of task tests.workers.warehouse.weigh failed" in caplog.text


def test_a_rate_limit_is_refused_with_the_cure() -> None:
    app = Celery("limited", set_as_current=False)

    @app.task(rate_limit="10/m")
    def limited(sku: str) -> str:
        return sku

    with pytest.raises(DefinitionError, match=r"'.*limited' has rate_limit='10/m'.*remove it"):
        step(limited)
    with pytest.raises(DefinitionError, match="takes no transaction"):
        step(transactional=True)(warehouse.reserve)


@pytest.fixture
def current_app() -> Iterator[Celery]:
    """The application in which shared tasks are found, whatever tests came before."""
    before = celery.current_app._get_current_object()
    app = Celery("adopting")
    app.finalize()
    yield app
    before.set_current()


def test_a_shared_task_is_adopted_too(current_app: Celery) -> None:
    @shared_task
    def shared(sku: str) -> str:
        return sku

    made: Step[..., Any] = step(shared)

    assert made.name == "shared"
    assert made("tea") == "tea"
    assert list(made.signature.parameters) == ["sku"]


def test_a_process_without_celery_says_so(lab: Lab) -> None:
    bodies.run_tasks_with(bodies._no_celery)
    try:
        handle = run(lab, warehouse.weighing)
    finally:
        bodies.run_tasks_with(adopted.run)
    with pytest.raises(ExecutionFailed, match="this process is no Celery worker"):
        handle.result(0)


@pytest.mark.system
def test_steps_and_messages_of_the_same_task_run_beside_each_other(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(modules="tests.workers.warehouse")
    shop.crew.worker(
        app="tests.workers.cinema",
        queues=["cinema", "heavy", shop.settings.queue],
        env={"CINEMA_SHOWS": "tests.workers.warehouse"},
    )
    handles = [
        shop.orchestrator.start(warehouse.reserving, "tea"),
        shop.orchestrator.start(warehouse.lifting, "piano"),
    ]
    with Celery("visitor", broker=shop.settings.broker_url, set_as_current=False) as visitor:
        visitor.send_task("tests.workers.warehouse.reserve", ["cups"], queue="warehouse")

    assert [handle.result(timeout=20) for handle in handles] == ["2 tea", "piano"]
    own = shop.crew.worker(app="tests.workers.warehouse", queues=["warehouse"])
    own.wait_for_log(r"warehouse\.reserve.*succeeded.*1 cups")
