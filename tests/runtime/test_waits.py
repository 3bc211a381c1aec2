"""Signals, sleeps and child executions: rows that wait without a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.errors import Conflict, ExecutionFailed, InvalidInput, TimedOut
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import StepMessage
from tests.runtime import chosen_flows, flows
from tests.runtime.chosen_flows import Approval
from tests.runtime.lab import Lab


def names() -> list[str]:
    return [name for name, _ in flows.ran]


def fail() -> None:
    raise ValueError("no")


def test_a_signal_wakes_the_step_that_waits_for_it(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.RUNNING
    lab.sound(handle)
    lab.send(handle, "manager_ok", Approval(ok=True))
    lab.drain()
    assert handle.result(0) == "noted large 1"
    lab.sound(handle)


def test_a_signal_sent_early_is_kept(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.send(handle, "manager_ok", Approval(ok=False))
    lab.drain()
    assert handle.result(0) == "noted None"
    lab.sound(handle)


def test_the_same_signal_sent_twice_under_one_key_is_one(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    lab.send(handle, "manager_ok", Approval(ok=True), key="a")
    lab.send(handle, "manager_ok", Approval(ok=False), key="a")
    lab.drain()
    assert handle.result(0) == "noted large 1"
    [count] = lab.database.hot().execute("SELECT count(*) FROM orchestrator.events").fetchone()
    assert count == 1


@pytest.mark.parametrize("dropped", [True, False])
def test_a_signal_that_comes_while_the_step_looks_for_it_is_not_missed(
    lab: Lab, dropped: bool
) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.send(handle, "manager_ok", Approval(ok=True))
    assert not lab.mail  # it runs: nobody is woken
    if dropped:
        worker.die()
        lab.sweep()
        lab.drain()
    else:
        worker.delivery._segment(
            lab.database.run(lab.catalogue.definition, claimed.definition_id), claimed
        )
        lab.drain()
    assert handle.result(0) == "noted large 1"
    lab.sound(handle)


def test_a_signal_that_does_not_come_gives_its_default_when_the_time_is_over(lab: Lab) -> None:
    handle = lab.start(chosen_flows.approved, 1)
    lab.drain()
    lab.advance(days=2)
    lab.sweep()
    assert not lab.mail
    lab.advance(days=1, seconds=1)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "small 1"
    lab.sound(handle)


def test_a_signal_without_a_default_that_does_not_come_times_out(lab: Lab) -> None:
    handle = lab.start(chosen_flows.impatient, 1)
    lab.drain()
    lab.advance(hours=1, seconds=1)
    lab.sweep()
    lab.drain()
    with pytest.raises(ExecutionFailed, match="no signal 'manager_ok' came within 1:00:00"):
        handle.result(0)
    lab.sound(handle)


def test_an_unknown_signal_and_one_to_an_ended_execution_are_refused(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    with pytest.raises(InvalidInput, match="did you mean 'manager_ok'"):
        lab.send(handle, "manager_okay", 1)
    lab.drain()
    lab.client.cancel(handle.id)
    with pytest.raises(Conflict, match="is cancelled: it takes no signals"):
        lab.send(handle, "manager_ok", Approval(ok=True))
    lab.sound(handle)


def test_what_a_signal_carries_is_checked_before_it_is_kept(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    with pytest.raises(InvalidInput, match="flow 'patient', signal 'manager_ok': field 'ok'"):
        lab.client.send(handle, "manager_ok", {"by": "ann"}, from_json=True)
    lab.client.send(handle, "manager_ok", {"ok": True, "by": "ann"}, from_json=True)
    lab.drain()
    assert handle.result(0) == "noted large 1"


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b"])
def test_a_signal_under_a_key_that_cannot_be_one_is_refused(lab: Lab, key: str) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    with pytest.raises(InvalidInput, match="key"):
        lab.client.send(handle, "manager_ok", Approval(ok=True), key=key)


def test_a_signal_to_a_paused_execution_is_taken_at_its_resume(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    lab.client.pause(handle.id)
    lab.send(handle, "manager_ok", Approval(ok=True))
    assert not lab.mail
    lab.client.resume(handle.id)
    lab.drain()
    assert handle.result(0) == "noted large 1"
    lab.sound(handle)


def test_a_lost_wake_message_is_found_by_the_sweep(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    lab.send(handle, "manager_ok", Approval(ok=True))
    lab.mail.clear()
    lab.advance(seconds=6)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "noted large 1"


def test_a_sleep_holds_no_worker_and_ends_at_its_moment(lab: Lab) -> None:
    handle = lab.start(chosen_flows.rested, 1)
    lab.drain()
    lab.advance(days=2, hours=23)
    lab.sweep()
    assert not lab.mail
    assert names() == []
    lab.advance(hours=1, seconds=1)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "small 1"
    assert lab.row(handle, "sleep")["attempt"] == 1
    lab.sound(handle)


def test_a_child_execution_ends_the_step_that_called_it(lab: Lab) -> None:
    handle = lab.start(chosen_flows.parent, 2)
    lab.drain()
    assert handle.result(0) == 22
    child = lab.client.get(lab.row(handle, "child")["child"])
    assert child.facts.status is ExecutionStatus.SUCCEEDED
    lab.sound(handle)


def test_children_of_children_end_the_top(lab: Lab) -> None:
    handle = lab.start(chosen_flows.grandparent, 2)
    lab.drain()
    assert handle.result(0) == 23
    lab.sound(handle)


def test_a_parent_whose_worker_died_after_the_end_of_its_child_is_told_by_a_pump(lab: Lab) -> None:
    handle = lab.start(chosen_flows.parent, 2)
    lab.worker().deliver()  # the call parks, its child is begun

    records: list[object] = []

    def die_after_the_last_record(messages: Sequence[StepMessage]) -> None:
        records.append(messages)
        if len(records) == 2:
            raise KeyboardInterrupt

    victim = lab.worker()
    dying = replace(victim.delivery, publish=die_after_the_last_record)
    with pytest.raises(KeyboardInterrupt):
        dying.run(lab.mail.popleft())
    assert handle.view().facts.status is ExecutionStatus.RUNNING
    assert lab.relay() == 1
    assert lab.relay() == 0
    lab.drain()
    assert handle.result(0) == 22
    lab.sound(handle)


def test_a_failing_child_fails_its_parent_and_the_parents_retry_retries_it(lab: Lab) -> None:
    flows.behave["fail_if_odd"] = fail
    handle = lab.start(chosen_flows.parent, 2)
    lab.drain()
    with pytest.raises(ExecutionFailed, match=r"child execution .* failed: step fail_if_odd"):
        handle.result(0)
    before = lab.row(handle, "child")["child"]
    flows.behave.clear()
    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == 22
    assert lab.row(handle, "child")["child"] == before
    lab.sound(handle)


def test_a_cancelled_parent_cancels_its_children(lab: Lab) -> None:
    handle = lab.start(chosen_flows.grandparent, 2)
    worker = lab.worker()
    worker.deliver()
    worker.deliver()
    child = lab.row(handle, "parent")["child"]
    lab.client.cancel(handle.id)
    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
    lab.mail.clear()
    with pytest.raises((ExecutionFailed, TimedOut)):
        handle.result(0)
    lab.sound(handle)


def test_a_recursion_without_end_stops_at_a_hundred(lab: Lab) -> None:
    handle = lab.start(chosen_flows.endless, 1)
    lab.drain()
    with pytest.raises(ExecutionFailed, match="more than 100 deep"):
        handle.result(0)
