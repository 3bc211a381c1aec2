"""Deadlines: an execution that has not ended by then fails, whatever it waits for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import each, flow, signal
from orchestrator.errors import ExecutionFailed
from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime import inspection
from orchestrator.store import mirrors, search
from tests.runtime import flows
from tests.runtime.callers import KINDS, Undo
from tests.runtime.lab import Lab

RUNNING, FAILING, FAILED = (
    ExecutionStatus.RUNNING,
    ExecutionStatus.FAILING,
    ExecutionStatus.FAILED,
)


@flow(deadline="2d")
def pressed(n: int) -> int:
    return flows.first(n)


@flow(deadline="2d")
def waiting(n: int) -> int:
    word = signal("go", int)
    flows.first(n)
    return word


@flow(deadline="2d")
def in_order(n: int) -> int:
    return flows.second(flows.first(n))


@flow
def impatient_child(n: int) -> int:
    return waiting(n)


@flow(deadline="1h")
def impatient_parent(n: int) -> int:
    return waiting(n)


@flow
def impatient_pressed(n: int) -> int:
    return pressed(n)


@flow
def in_an_each(ns: list[int]) -> list[int]:
    return each(ns, pressed)


def raising() -> None:
    raise ValueError("no")


def status(handle: Handle[Any]) -> ExecutionStatus:
    return handle.view().facts.status


def kinds(handle: Handle[Any]) -> list[str]:
    return [line["kind"] for line in handle.view().history]


def pending(lab: Lab) -> int:
    found = (
        lab.database.hot()
        .execute(
            "SELECT count(*) FROM orchestrator.events WHERE kind = 'deadline' AND taken_at IS NULL"
        )
        .fetchone()
    )
    assert found is not None
    return int(found[0])


def test_an_execution_that_waits_beyond_its_deadline_fails_and_says_so(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.drain()
    lab.advance(days=1, hours=23)
    assert lab.relay() == 0
    assert status(handle) is RUNNING

    lab.advance(hours=1, seconds=1)
    assert lab.relay() == 1

    assert status(handle) is FAILED
    assert kinds(handle)[-2:] == ["deadline", "failed"]
    with pytest.raises(ExecutionFailed, match=r"failed: its deadline of 2d passed$"):
        handle.result(0)
    assert lab.row(handle, "go")["closed_by"] == "deadline"
    lab.sound(handle)
    assert lab.relay() == 0


def test_a_body_that_runs_at_the_deadline_is_asked_to_stop_and_its_outcome_is_kept(
    lab: Lab,
) -> None:
    handle = lab.start(in_order, 1)
    worker = lab.worker()
    seen: list[object] = []

    def late() -> None:
        lab.advance(days=3)
        lab.relay()
        seen.append((status(handle), lab.row(handle, "first")["cancel_asked"]))

    flows.behave["first"] = late
    worker.deliver()

    assert seen == [(FAILING, True)]
    assert status(handle) is FAILED
    assert lab.row(handle, "first")["status"] == StepStatus.SUCCEEDED
    with pytest.raises(ExecutionFailed, match="its deadline of 2d passed"):
        handle.result(0)
    lab.sound(handle)


def test_an_execution_that_ended_in_time_hears_nothing_of_its_deadline(lab: Lab) -> None:
    handles = [lab.start(pressed, n) for n in range(5)]
    lab.drain()
    assert pending(lab) == 5

    lab.advance(days=3)
    assert lab.relay() == 1  # one takes those of all the others with it
    assert pending(lab) == 0
    assert [handle.result(0) for handle in handles] == [n + 1 for n in range(5)]
    for handle in handles:
        assert "deadline" not in kinds(handle)
        lab.sound(handle)


def test_a_flow_without_a_deadline_writes_no_event(lab: Lab) -> None:
    lab.start(flows.single, 1)
    lab.client.start_many(flows.single, [2, 3])
    found = lab.database.hot().execute("SELECT count(*) FROM orchestrator.events").fetchone()
    assert found == (0,)


def test_every_event_that_is_due_goes_before_a_deadline_that_is_not(lab: Lab) -> None:
    """The deadline was written first; what is told meanwhile is not held up by it."""
    handle = lab.start(impatient_child, 1)
    lab.worker().deliver()
    child = lab.row(handle, "waiting")["child"]
    lab.drain()
    lab.client.send(child, "go", 7)
    lab.drain()
    assert handle.result(0) == 7


def test_a_paused_execution_fails_by_its_deadline_as_well(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.client.pause(handle.id)
    lab.advance(days=3)
    lab.relay()
    assert status(handle) is FAILED
    lab.sound(handle)


def test_one_that_is_cancelled_already_stays_so(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.drain()
    lab.client.cancel(handle.id)
    lab.advance(days=3)
    lab.relay()
    assert status(handle) is ExecutionStatus.CANCELLED
    lab.sound(handle)


def test_the_same_start_again_moves_no_deadline(lab: Lab) -> None:
    handle = lab.start(waiting, 1, key="a")
    lab.advance(days=1)
    assert not lab.start(waiting, 1, key="a").created
    assert pending(lab) == 1
    lab.advance(days=1, seconds=1)
    lab.relay()
    assert status(handle) is FAILED


def test_executions_started_together_fail_one_by_one(lab: Lab) -> None:
    handles = lab.client.start_many(waiting, [1, 2, 3], keys=["a", "b", "c"])
    again = lab.client.start_many(waiting, [1, 2, 3, 4], keys=["a", "b", "c", "d"])
    assert pending(lab) == 4
    lab.drain()
    lab.client.send(handles[1].execution_id, "go", 9)
    lab.drain()
    lab.advance(days=2, seconds=1)
    assert lab.relay() == 4
    assert [status(handle) for handle in handles] == [FAILED, ExecutionStatus.SUCCEEDED, FAILED]
    assert status(again[3]) is FAILED


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_in_a_transaction_has_its_deadline_only_if_it_is_committed(
    lab: Lab, database_url: str, kind: str
) -> None:
    caller = KINDS[kind](database_url)
    try:
        with suppress(Undo), caller.transaction():
            lab.client.start(waiting, 1, session=caller.session)
            raise Undo
        assert pending(lab) == 0
        with caller.transaction():
            handle = lab.client.start(waiting, 1, session=caller.session)
        assert pending(lab) == 1
    finally:
        caller.close()
    lab.advance(days=2, seconds=1)
    lab.relay()
    assert status(handle) is FAILED


def test_a_child_execution_has_the_deadline_of_its_own_flow(lab: Lab) -> None:
    handle = lab.start(impatient_child, 1)
    lab.drain()
    lab.advance(days=2, seconds=1)
    lab.relay()
    lab.drain()
    with pytest.raises(
        ExecutionFailed, match=r"child execution .* failed: its deadline of 2d passed"
    ):
        handle.result(0)
    lab.sound(handle)


def test_the_children_of_an_execution_that_fails_by_its_deadline_are_cancelled(lab: Lab) -> None:
    handle = lab.start(impatient_parent, 1)
    lab.drain()
    child = lab.row(handle, "waiting")["child"]
    lab.advance(hours=1, seconds=1)
    assert lab.relay() == 3  # the deadline, the cancel of the child, its end
    assert status(handle) is FAILED
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
    lab.sound(handle)


def test_a_flow_in_an_each_is_no_execution_and_has_no_deadline(lab: Lab) -> None:
    lab.start(in_an_each, [1, 2])
    assert pending(lab) == 0


def test_after_a_retry_it_goes_on_without_a_deadline(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.drain()
    lab.advance(days=3)
    lab.relay()
    lab.client.retry(handle.id)
    lab.drain()
    assert status(handle) is RUNNING
    lab.advance(days=30)
    lab.relay()
    lab.client.send(handle.id, "go", 5)
    lab.drain()
    assert handle.result(0) == 5
    lab.sound(handle)


def test_a_retry_before_the_deadline_does_not_put_it_off(lab: Lab) -> None:
    flows.behave["first"] = raising
    handle = lab.start(waiting, 1)
    lab.drain()
    assert status(handle) is FAILED
    flows.behave.clear()
    lab.client.retry(handle.id)
    lab.drain()
    lab.advance(days=2, seconds=1)
    lab.relay()
    with pytest.raises(ExecutionFailed, match="its deadline of 2d passed"):
        handle.result(0)


def test_a_step_that_fails_after_such_a_retry_is_the_reason(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.advance(days=3)
    lab.relay()

    flows.behave["first"] = raising
    lab.client.retry(handle.id)
    lab.drain()
    with pytest.raises(ExecutionFailed, match="ValueError: no"):
        handle.result(0)


def three_days_pass(lab: Lab) -> Callable[[], None]:
    """Return what a body does that its execution's deadline finds running."""

    def pass_over() -> None:
        lab.advance(days=3)
        lab.relay()

    return pass_over


def test_a_retry_orders_what_the_last_success_could_not(lab: Lab) -> None:
    handle = lab.start(in_order, 1)
    worker = lab.worker()
    flows.behave["first"] = three_days_pass(lab)
    worker.deliver()
    flows.behave.clear()
    assert status(handle) is FAILED
    assert [step.address.name for step in handle.view().steps] == ["first"]

    lab.client.retry(handle.id)
    lab.drain()

    assert handle.view().facts.status is ExecutionStatus.SUCCEEDED
    assert [name for name, _ in flows.ran] == ["first", "second"]
    lab.sound(handle)


def test_a_retry_of_one_that_was_done_too_late_lets_it_succeed(lab: Lab) -> None:
    parent = lab.start(impatient_pressed, 1)
    lab.worker().deliver()
    child = lab.row(parent, "pressed")["child"]
    flows.behave["first"] = three_days_pass(lab)
    lab.drain()
    flows.behave.clear()
    with pytest.raises(ExecutionFailed, match="its deadline of 2d passed"):
        parent.result(0)

    lab.client.retry(parent.id)
    lab.drain()
    lab.relay()
    lab.drain()

    assert parent.result(0) == 2
    assert lab.client.get(child).facts.status is ExecutionStatus.SUCCEEDED
    assert [name for name, _ in flows.ran] == ["first"]
    lab.sound(parent)


def test_it_is_shown_while_it_is_ahead_and_explained_when_it_has_passed(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.drain()
    seen = inspection.portrait(lab.database, lab.catalogue, handle.execution_id, limit=10)
    assert seen.deadline == seen.facts.created_at + timedelta(days=2)

    lab.advance(days=2, seconds=1)
    lab.relay()
    seen = inspection.portrait(lab.database, lab.catalogue, handle.execution_id, limit=10)
    assert seen.deadline is None
    whole = inspection.explain(lab.database, lab.catalogue, handle.execution_id).whole
    assert (whole.code, whole.why) == ("deadline", "its deadline of 2d passed")
    assert whole.command == f"retry {handle.execution_id}"
    assert seen.passed_deadline == "2d"


def test_lists_and_monitors_say_that_the_deadline_passed(lab: Lab) -> None:
    handle = lab.start(waiting, 1)
    lab.drain()
    lab.advance(days=2, seconds=1)
    lab.relay()

    [found] = lab.database.run_calm(search.find, search.Search(), limit=10)
    assert found.deadline == "2d"
    [standing] = lab.database.run(mirrors.standings, [handle.execution_id], quiet=[])
    assert standing.deadline == "2d"

    flows.behave["first"] = raising
    lab.client.retry(handle.id)
    other = lab.start(in_order, 2)
    lab.drain()

    assert status(other) is FAILED
    pages = lab.database.run_calm(search.find, search.Search(), limit=10)
    assert [found.deadline for found in pages] == [None, None]
