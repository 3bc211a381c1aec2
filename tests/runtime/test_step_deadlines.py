"""Deadlines of steps: no attempt begins after one, whatever became of those before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from orchestrator import Retry, RetryAfter, StepError, flow, step
from orchestrator.errors import ExecutionFailed
from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import attempts
from tests.runtime import flows
from tests.runtime.lab import Crash, Lab


@step(
    retry=Retry(attempts=50, first="10m", factor=1, cap="10m", jitter=False),
    timeout="1m",
    deadline="1h",
)
def stubborn(n: int) -> int:
    flows._run("stubborn", n)
    return n


@step
def excuse(error: StepError) -> int:
    return -len(error.message)


@flow
def tried(n: int) -> int:
    return stubborn(n)


@flow
def tried_later(n: int) -> int:
    return stubborn(flows.first(n))


@flow
def excused_late(n: int) -> int:
    return stubborn.options(on_error=excuse)(n)


def fail() -> None:
    raise ValueError("no")


def begin_to_end(lab: Lab, handle: Handle[Any]) -> int:
    """Let it fail every ten minutes for as long as it is tried again; return how often it ran."""
    lab.drain()
    while handle.view().facts.status is ExecutionStatus.RUNNING:
        lab.advance(seconds=601)
        lab.sweep()
        lab.drain()
    return len([name for name, _ in flows.ran if name == "stubborn"])


@pytest.mark.parametrize("of", [tried, tried_later])
def test_a_retry_that_would_begin_after_the_deadline_is_not_made(
    lab: Lab, of: Callable[[int], int]
) -> None:
    flows.behave["stubborn"] = fail
    handle = lab.start(of, 1)  # type: ignore[arg-type]

    assert begin_to_end(lab, handle) == 6

    with pytest.raises(
        ExecutionFailed,
        match=r"ValueError: no \(no other attempt would begin before the step's deadline of 1h\)",
    ):
        handle.result(0)
    assert lab.row(handle, "stubborn")["error"]["attempt"] == 6
    lab.sound(handle)


def test_an_attempt_that_succeeds_before_the_deadline_is_a_success(lab: Lab) -> None:
    flows.behave["stubborn"] = fail
    handle = lab.start(tried, 1)
    lab.drain()
    flows.behave.clear()
    lab.advance(minutes=10, seconds=1)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == 1
    lab.sound(handle)


def test_a_worker_that_dies_does_not_put_the_deadline_off(lab: Lab) -> None:
    def interrupt() -> None:
        raise Crash

    flows.behave["stubborn"] = interrupt
    handle = lab.start(tried, 1)
    worker = lab.worker()
    with pytest.raises(Crash):
        worker.deliver()
    worker.die()
    flows.behave["stubborn"] = fail
    lab.advance(minutes=45)
    lab.sweep()

    assert begin_to_end(lab, handle) == 3  # the one that died, at 45 and at 55 minutes

    lab.sound(handle)


def test_a_worker_that_dies_before_it_noted_the_deadline_begins_nothing(lab: Lab) -> None:
    handle = lab.start(tried, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())
    worker.die()
    flows.behave["stubborn"] = fail
    lab.advance(minutes=45)
    lab.sweep()

    assert begin_to_end(lab, handle) == 6

    lab.sound(handle)


def test_a_step_that_asks_for_a_time_after_its_deadline_fails(lab: Lab) -> None:
    def ask() -> None:
        raise RetryAfter(timedelta(minutes=61))

    flows.behave["stubborn"] = ask
    handle = lab.start(tried, 1)
    lab.drain()
    with pytest.raises(ExecutionFailed, match="step's deadline of 1h"):
        handle.result(0)


def test_an_attempt_that_times_out_counts_as_well(lab: Lab) -> None:
    handle = lab.start(tried, 1)
    for minutes in (45, 1):
        worker = lab.worker()
        [claimed] = worker.claim(lab.mail.popleft(), nonce=minutes)
        lab.advance(minutes=minutes)
        attempts.time_out(worker.database, lab.catalogue, lab.settings, claimed, worker.id)
        lab.advance(seconds=601)
        lab.sweep()
    assert handle.view().facts.status is ExecutionStatus.FAILED
    assert lab.row(handle, "stubborn")["error"]["kind"] == "TimedOut"
    lab.sound(handle)


def test_the_handler_of_a_step_takes_its_deadline(lab: Lab) -> None:
    flows.behave["stubborn"] = fail
    handle = lab.start(excused_late, 1)
    begin_to_end(lab, handle)
    assert handle.result(0) < 0
    lab.sound(handle)


def test_a_retry_by_an_operator_begins_a_new_deadline(lab: Lab) -> None:
    flows.behave["stubborn"] = fail
    handle = lab.start(tried, 1)
    begin_to_end(lab, handle)
    lab.advance(days=1)
    lab.client.retry(handle.id)
    assert begin_to_end(lab, handle) == 12
    lab.sound(handle)


def test_one_that_fails_while_its_execution_is_cancelled_ends_with_it(lab: Lab) -> None:
    handle = lab.start(tried, 1)

    def cancel() -> None:
        lab.client.cancel(handle.id)
        fail()

    flows.behave["stubborn"] = cancel
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    lab.sound(handle)


def test_a_step_without_a_deadline_notes_none(lab: Lab) -> None:
    flows.behave["shaky"] = fail
    handle = lab.start(flows.retried, 1)
    lab.drain()
    assert lab.row(handle, "shaky")["until_at"] is None
