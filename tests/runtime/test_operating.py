"""Failing, retrying, cancelling, pausing, re-running: what happens to counters and rows."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from orchestrator.errors import (
    Conflict,
    ExecutionFailed,
    InvalidInput,
    NotFound,
    Reject,
    RetryAfter,
    TimedOut,
)
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime import operate
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.outcomes import Failed
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.runtime.test_crash_table import attempt_of


def fail() -> None:
    raise ValueError("the gateway said no")


def names() -> list[str]:
    return [name for name, _ in flows.ran]


@pytest.mark.req("E11")
def test_a_failed_step_fails_the_execution_with_its_error(lab: Lab) -> None:
    flows.behave["second"] = fail
    handle = lab.start(flows.chain, 1)
    lab.drain()

    with pytest.raises(ExecutionFailed, match=r"second .* failed: ValueError: the gateway said no"):
        handle.result(0)
    error = lab.row(handle, "second")["error"]
    assert (error["kind"], error["attempt"]) == ("ValueError", 1)
    assert "raise ValueError" in error["traceback"]
    kinds = [line["kind"] for line in handle.view().history]
    assert kinds == ["started", "step succeeded", "step failed", "failing", "failed"]
    lab.sound(handle)


@pytest.mark.req("E3")
def test_a_retry_runs_the_failed_step_and_no_finished_one(lab: Lab) -> None:
    flows.behave["second"] = fail
    handle = lab.start(flows.chain, 1)
    lab.drain()
    flows.behave.clear()
    flows.ran.clear()

    lab.client.retry(handle.id, actor="ann")
    lab.sound(handle)
    lab.drain()

    assert names() == ["second", "third"]
    assert handle.result(0) == 1
    lab.sound(handle)


@pytest.mark.req("E3")
def test_a_retried_step_keeps_its_idempotency_key(lab: Lab) -> None:
    flows.behave["key_of"] = fail
    handle = lab.start(flows.keyed, 1)
    lab.drain()
    flows.behave.clear()

    lab.client.retry(handle.id)
    lab.drain()

    assert handle.result(0) == str(lab.address(handle, "key_of").id)


def test_an_execution_that_has_not_failed_is_not_retried(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)

    with pytest.raises(Conflict, match="is running: only a failed one is retried"):
        lab.client.retry(handle.id)
    with pytest.raises(NotFound, match="no execution"):
        lab.client.retry(uuid4())
    with pytest.raises(InvalidInput, match="is no execution: give its handle"):
        lab.client.retry("nonsense")


def test_a_failure_lets_the_running_step_end_and_a_retry_orders_what_it_owed(lab: Lab) -> None:
    flows.behave["double"] = fail
    handle = lab.start(flows.fan, 4)
    worker, other = lab.worker(), lab.worker()
    worker.deliver()  # numbers, the each, and item 0, which fails the execution
    assert handle.view().facts.status is ExecutionStatus.FAILED
    lab.sound(handle)
    flows.behave.clear()

    lab.client.retry(handle.id)
    [claimed] = other.claim(lab.mail.pop())
    assert claimed.address.name == "double"
    flows.behave["double"] = fail
    worker.deliver()
    assert handle.view().facts.status is ExecutionStatus.FAILING
    lab.sound(handle)
    flows.behave.clear()
    other.die()
    lab.sweep()
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.FAILED
    lab.sound(handle)

    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == 12
    lab.sound(handle)


def test_a_success_recorded_while_failing_orders_its_successors_on_retry(lab: Lab) -> None:
    handle = lab.start(flows.fork, 1)
    slow, worker = lab.worker(), lab.worker()
    flows.behave["shaky"] = lambda: (_ for _ in ()).throw(Reject("broken"))
    flows.behave["second"] = lambda: None
    worker.deliver()  # first, then one of the two inline; the other is in the mail
    lab.drain(slow)
    assert handle.view().facts.status is ExecutionStatus.FAILED
    flows.behave.clear()

    lab.client.retry(handle.id)
    lab.drain()

    assert handle.result(0) == [4, 2]
    lab.sound(handle)


def test_a_retry_policy_tries_again_later_and_then_gives_up(lab: Lab) -> None:
    flows.behave["shaky"] = fail
    handle = lab.start(flows.retried, 1)
    worker = lab.worker()
    worker.deliver()
    row = lab.row(handle, "shaky")
    assert (row["status"], row["attempt"], row["message_sent"]) == ("ready", 1, True)

    lab.advance(seconds=9)
    assert lab.sweep().messages == []
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain(worker)
    assert lab.row(handle, "shaky")["attempt"] == 2
    lab.advance(seconds=21)
    lab.sweep()
    lab.drain(worker)

    assert names() == ["shaky"] * 3
    assert handle.view().facts.status is ExecutionStatus.FAILED
    kinds = [line["kind"] for line in handle.view().history if "attempt" in line["kind"]]
    assert kinds == ["attempt failed", "attempt failed"]
    lab.sound(handle)


def test_retry_after_is_obeyed_whatever_the_policy_says(lab: Lab) -> None:
    def wait() -> None:
        raise RetryAfter(60, "rate limited")

    flows.behave["first"] = wait
    handle = lab.start(flows.single, 1)
    lab.drain()
    flows.behave.clear()

    lab.advance(seconds=59)
    assert lab.sweep().messages == []
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()

    assert handle.result(0) == 2


@pytest.mark.req("E12")
def test_cancel_ends_what_waits_and_lets_what_runs_be_counted(lab: Lab) -> None:
    handle = lab.start(flows.hop, 1)
    worker = lab.worker()
    worker.deliver()
    [claimed] = worker.claim(lab.mail.popleft())

    assert lab.client.cancel(handle.id) is True
    assert handle.view().facts.status is ExecutionStatus.CANCELLING
    assert lab.row(handle, "apart")["cancel_asked"] is True
    assert lab.client.cancel(handle.id) is False
    lab.sound(handle)
    commit(worker.database, attempt_of(worker, claimed, 5), lab.settings)

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    assert lab.row(handle, "apart")["status"] == "succeeded"
    lab.sound(handle)


def test_cancel_of_a_waiting_execution_ends_it_at_once(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)

    lab.client.cancel(handle.id)

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    lab.drain()
    assert flows.ran == []
    with pytest.raises(ExecutionFailed, match="cancelled"):
        handle.result(0)
    lab.sound(handle)


def test_a_step_whose_worker_died_while_cancelling_is_in_doubt(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())
    lab.client.cancel(handle.id)
    worker.die()

    lab.sweep()

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    assert lab.row(handle, "first")["error"]["kind"] == "InDoubt"
    lab.sound(handle)


@pytest.mark.req("E12")
def test_pause_counts_and_orders_but_dispatches_nothing_until_resume(lab: Lab) -> None:
    handle = lab.start(flows.diamond, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    assert lab.client.pause(handle.id) is True
    assert lab.client.pause(handle.id) is False
    answer = commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)

    assert answer.ordered == ()
    facts = handle.view().facts
    assert (facts.status, facts.started, facts.finished) == (ExecutionStatus.RUNNING, 3, 1)
    lab.advance(seconds=3600)
    assert lab.sweep().messages == []
    lab.sound(handle)

    assert lab.client.resume(handle.id) is True
    lab.drain()
    assert handle.result(0) == 4 + -1
    lab.sound(handle)


def test_a_message_of_a_paused_execution_is_taken_and_changes_nothing(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.client.pause(handle.id)

    lab.drain()
    assert flows.ran == []
    lab.client.resume(handle.id)
    lab.drain()

    assert handle.result(0) == 2


def test_a_rerun_from_a_step_runs_it_and_all_after_it_under_new_keys(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    lab.drain()
    flows.ran.clear()

    lab.client.retry(handle.id, from_steps=["second"])
    lab.sound(handle)
    lab.drain()

    assert names() == ["second", "third"]
    assert handle.result(0) == 1
    assert lab.row(handle, "second")["status"] == StepStatus.SUPERSEDED
    assert lab.row(handle, "second", run=1)["status"] == StepStatus.SUCCEEDED
    assert lab.row(handle, "third", run=1)["status"] == StepStatus.SUCCEEDED
    assert lab.address(handle, "second").id != lab.address(handle, "second", run=1).id
    lab.sound(handle)


def test_a_rerun_join_starts_with_the_arrivals_of_what_is_not_run_again(lab: Lab) -> None:
    handle = lab.start(flows.diamond, 1)
    lab.drain()
    flows.ran.clear()

    lab.client.retry(handle.id, from_steps=["third"])
    row = lab.row(handle, "add", run=1)
    assert (row["status"], row["wanted"], row["live"]) == ("waiting", 2, 1)
    lab.drain()

    assert names() == ["third", "add"]
    assert handle.result(0) == 3
    lab.sound(handle)


def test_one_item_of_a_fan_out_is_run_again_alone(lab: Lab) -> None:
    handle = lab.start(flows.fan, 5)
    lab.drain()
    flows.ran.clear()

    lab.client.retry(handle.id, from_steps=[("double", "double[3]")])
    lab.drain()

    assert flows.ran == [("double", 3), ("total", [0, 2, 4, 6, 8])]
    assert handle.result(0) == 20
    lab.sound(handle)


def test_a_whole_fan_out_is_run_again_with_its_new_items(lab: Lab) -> None:
    handle = lab.start(flows.fan, 4)
    lab.drain()
    flows.ran.clear()

    for _ in range(2):
        lab.client.retry(handle.id, from_steps=["numbers"])
        lab.drain()
        lab.sound(handle)

    assert names() == ["numbers", *["double"] * 4, "total"] * 2
    assert handle.result(0) == 12


def test_a_rerun_in_a_nested_fan_out_reaches_what_is_after_it(lab: Lab) -> None:
    handle = lab.start(flows.tree, 3)
    lab.drain()
    want = handle.result(0)
    flows.ran.clear()

    lab.client.retry(handle.id, from_steps=[("double", "folder[2]/double[1]")])
    lab.drain()

    assert names() == ["double", "total", "total"]
    assert handle.result(0) == want
    lab.sound(handle)


def test_a_cancelled_execution_goes_on_by_a_rerun(lab: Lab) -> None:
    handle = lab.start(flows.diamond, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())
    lab.client.cancel(handle.id)
    worker.die()
    lab.sweep()

    lab.client.retry(handle.id, from_steps=["first"])
    lab.sound(handle)
    lab.drain()

    assert handle.result(0) == 3
    lab.sound(handle)


def test_a_rerun_of_a_running_step_is_refused(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    lab.worker().claim(lab.mail.popleft())

    with pytest.raises(Conflict, match="first"):
        lab.client.retry(handle.id, from_steps=["first"])
    with pytest.raises(NotFound, match="nowhere"):
        lab.client.retry(handle.id, from_steps=["nowhere"])


@pytest.mark.req("E4")
@pytest.mark.parametrize(
    ("counted", "sent", "messages"),
    [(False, True, 0), (True, False, 1), (True, True, 0), (False, False, 1)],
)
def test_repair_completes_only_the_missing_half(
    lab: Lab, counted: bool, sent: bool, messages: int
) -> None:
    handle = lab.start(flows.hop, 1)
    worker = lab.worker()
    worker.deliver()
    lab.mail.clear()
    connection = lab.database.hot()
    with connection.transaction():
        connection.execute(
            "UPDATE orchestrator.steps SET counter_updated = %s, sent = %s WHERE name = 'apart'",
            (counted, int(sent)),
        )
        if not counted:
            connection.execute(
                "UPDATE orchestrator.executions SET started = 3, finished = 1, position = 9"
            )
            connection.execute("UPDATE orchestrator.executions SET started = started - 1")
    before = handle.view().facts.started

    made = lab.database.run(
        operate.repair, lab.catalogue, lab.address(handle, "apart"), lab.settings
    )

    assert handle.view().facts.started == before + (not counted)
    assert len(made) == messages
    assert lab.row(handle, "apart")["counter_updated"] is True


@pytest.mark.req("E10")
def test_three_deaths_put_a_step_into_quarantine(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    for _ in range(3):
        victim = lab.worker()
        assert victim.claim(lab.mail.popleft())
        victim.die()
        lab.sweep()
    lab.drain()

    assert flows.ran == []
    with pytest.raises(ExecutionFailed, match="Quarantined: 3 workers died while running it"):
        handle.result(0)
    [row] = lab.database.hot().execute("SELECT name, released_at FROM orchestrator.quarantine")
    assert row == ("first", None)

    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == 2
    lab.sound(handle)


def test_wait_says_how_far_an_unfinished_execution_is(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)

    with pytest.raises(TimedOut, match=r"is running after 0 s \(0 of 1 steps ended\); it goes on"):
        handle.result(0)


def test_a_large_output_is_kept_apart_and_read_back(lab: Lab) -> None:
    handle = lab.start(flows.large, 5000)
    lab.drain()

    assert handle.result(0) == 5000
    assert lab.row(handle, "big")["output"] is None
    lab.client.retry(handle.id, from_steps=["length"])
    lab.drain()
    assert handle.result(0) == 5000
    lab.sound(handle)


def test_a_retry_of_a_paused_execution_waits_for_its_resume(lab: Lab) -> None:
    flows.behave["second"] = fail
    handle = lab.start(flows.hop, 1)
    worker = lab.worker()
    worker.deliver()
    worker.deliver()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.client.pause(handle.id)
    commit(
        worker.database,
        replace(attempt_of(worker, claimed), outcome=Failed({"kind": "E", "message": ""})),
        lab.settings,
    )
    assert handle.view().facts.status is ExecutionStatus.FAILED
    flows.behave.clear()

    lab.client.retry(handle.id)
    assert not lab.mail
    lab.client.resume(handle.id)
    lab.drain()

    assert handle.result(0) == 4
    lab.sound(handle)


def test_resume_says_whether_it_was_paused_and_one_step_may_be_named_alone(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    lab.drain()
    assert lab.client.resume(handle.id) is False

    lab.client.retry(handle.id, from_steps="second")
    lab.client.pause(handle.id)
    worker = lab.worker()
    worker.deliver()
    assert lab.client.resume(handle.id) is True
    lab.drain(worker)

    assert handle.result(0) == 1
    lab.sound(handle)
