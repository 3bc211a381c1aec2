"""Waits, merges, items and calls that meet each other, and operators who come between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from orchestrator.errors import ExecutionFailed, Reject
from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.records import StepMessage
from orchestrator.runtime import decisions, events
from orchestrator.runtime.delivery import Delivery
from orchestrator.store import moves
from tests.runtime import flows, hard_flows
from tests.runtime.lab import Lab, Worker, check_sound


def names() -> list[str]:
    return [name for name, _ in flows.ran]


def fail() -> None:
    raise ValueError("no")


def taken(lab: Lab, name: str, scope: str = "") -> StepMessage:
    """Take the message of a step run out of the mail."""
    [found] = [m for m in lab.mail if (m.address.name, m.address.scope) == (name, scope)]
    lab.mail.remove(found)
    return found


def drain_but(lab: Lab, *queues: str) -> list[StepMessage]:
    """Deliver until only messages of these queues are left; return them."""
    worker, kept = lab.worker(), []
    while lab.mail:
        message = lab.mail.popleft()
        if message.queue in queues:
            kept.append(message)
        else:
            worker.deliver(message)
    return kept


def finish(lab: Lab, worker: Worker, claimed: Any) -> None:
    """Let a worker go on with what it has claimed."""
    found = lab.database.run(lab.catalogue.definition, claimed.definition_id)
    worker.delivery._segment(found, claimed)


def meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something after the next node was decided and before it is recorded."""
    whole = decisions.decide

    def decide(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(decisions, "decide", whole)
        outcome = whole(*args, **kwargs)
        act()
        return outcome

    monkeypatch.setattr(decisions, "decide", decide)


@pytest.mark.parametrize("flow", [hard_flows.signal_or_large, hard_flows.call_or_large])
def test_a_wait_that_lost_while_it_was_looking_does_not_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, flow: Any
) -> None:
    handle = lab.start(flow, 2)
    wait = next(m for m in lab.mail if m.address.name in {"go", "child"})
    lab.mail.remove(wait)
    other = lab.worker()
    meanwhile(lab, monkeypatch, lambda: lab.drain(other))
    lab.worker().deliver(wait)
    lab.drain()
    assert handle.result(0) == "large 2"
    lab.sound(handle)


def test_a_call_that_lost_cancels_its_child(lab: Lab) -> None:
    handle = lab.start(hard_flows.call_or_large, 2)
    lab.worker().deliver(taken(lab, "child"))
    child = lab.row(handle, "child")["child"]
    lab.worker().deliver(taken(lab, "large"))
    assert handle.result(0) == "large 2"
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
    lab.sound(handle)


def test_what_waits_in_an_item_that_was_lost_stops_waiting(lab: Lab) -> None:
    handle = lab.start(hard_flows.waiting_items, 2)
    lab.drain()
    assert lab.row(handle, "number", "waiting_item[1]")["status"] == StepStatus.SKIPPED
    lab.sound(handle)
    lab.send(handle, "number", 5)
    lab.drain()
    assert handle.result(0) == 5
    lab.sound(handle)


def test_a_wait_of_an_item_that_is_lost_while_it_looks_does_not_wait(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = lab.start(hard_flows.waiting_items, 2)
    lab.worker().deliver()
    wait = taken(lab, "number", "waiting_item[1]")
    other = lab.worker()
    meanwhile(lab, monkeypatch, lambda: lab.drain(other))
    lab.worker().deliver(wait)
    lab.send(handle, "number", 5)
    lab.drain()
    assert handle.result(0) == 5
    lab.sound(handle)


def test_a_child_of_an_item_that_was_lost_is_cancelled(lab: Lab) -> None:
    handle = lab.start(hard_flows.calling_items, 2)
    lab.worker().deliver()
    lab.worker().deliver(taken(lab, "slow_item", "calling_item[1]"))
    slow = drain_but(lab, "slow")
    child = lab.row(handle, "slow_item", "calling_item[1]")["child"]
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
    for message in slow:
        lab.worker().deliver(message)
    lab.drain()
    assert handle.result(0) == 1
    lab.sound(handle)


@pytest.mark.parametrize("end", ["succeeds", "fails"])
def test_items_of_an_each_that_lost_end_without_harm(lab: Lab, end: str) -> None:
    handle = lab.start(hard_flows.items_or_large, 3)
    fast, *_ = [m for m in lab.mail if m.queue == "fast"]
    lab.mail.remove(fast)
    slow = drain_but(lab, "slow")
    assert len(slow) == 3

    def decide() -> None:
        flows.behave["fail_if_odd"] = lambda: None
        lab.worker().deliver(fast)
        lab.drain()
        if end == "fails":
            fail()

    flows.behave["fail_if_odd"] = decide
    lab.worker().deliver(slow[0])
    for message in slow[1:]:
        lab.worker().deliver(message)
    lab.drain()
    assert handle.result(0) == "large 3"
    assert "after_it" not in names()
    lab.sound(handle)


def test_an_each_that_lost_while_it_expanded_runs_no_items(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = lab.start(hard_flows.items_or_large, 3)
    fast, *_ = [m for m in lab.mail if m.queue == "fast"]
    lab.mail.remove(fast)

    other = lab.worker()

    def decide() -> None:
        meanwhile(lab, monkeypatch, lambda: (other.deliver(fast), None)[1])

    flows.behave["items_of"] = decide
    lab.drain()
    assert handle.result(0) == "large 3"
    assert "fail_if_odd" not in names()
    lab.sound(handle)


@pytest.mark.parametrize("end", ["succeeds", "fails"])
def test_a_merge_in_a_merge_loses_with_all_that_runs_for_it(lab: Lab, end: str) -> None:
    handle = lab.start(hard_flows.merge_of_merges, 1)

    def decide() -> None:
        lab.worker().deliver(taken(lab, "large"))
        if end == "fails":
            fail()

    flows.behave["small"] = decide
    lab.worker().deliver(taken(lab, "small"))
    lab.drain()
    assert handle.result(0) == "large 1"
    lab.sound(handle)


def test_what_fails_after_its_merge_had_what_it_wanted_fails_nothing(lab: Lab) -> None:
    handle = lab.start(hard_flows.fired_or_failed, 1)

    def reject() -> None:
        lab.worker().deliver(taken(lab, "large"))
        raise Reject("no")

    flows.behave["risky"] = reject
    lab.worker().deliver(taken(lab, "risky"))
    assert lab.row(handle, "first_of")["status"] == StepStatus.READY
    assert lab.row(handle, "risky")["absorbed_by"] == "first_of"
    lab.drain()
    assert handle.result(0) == "noted large 1"
    lab.sound(handle)


def test_a_merge_whose_answer_was_lost_does_not_go_on_with_what_another_runs(lab: Lab) -> None:
    handle = lab.start(hard_flows.merge_of_merges, 1)
    lab.worker().claim(taken(lab, "small"))
    worker = lab.worker()
    [claimed] = worker.claim(taken(lab, "large"), nonce=7)
    found = lab.database.run(lab.catalogue.definition, claimed.definition_id)
    attempts: list[Any] = []
    whole = Delivery._attempt

    def noted(self: Delivery, held: Any, outcome: Any) -> Any:
        attempts.append(whole(self, held, outcome))
        return attempts[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Delivery, "_attempt", noted)
        worker.delivery._segment(found, claimed)
    merge = attempts[-1]
    assert merge.claimed.address.name == "first_of_2"
    recalled = lab.database.run(moves.recall, merge.claimed, merge.nonce)
    assert recalled is not None
    assert recalled.ordered == ()
    assert lab.row(handle, "small")["cancel_asked"]


def test_a_rerun_leaves_the_handler_of_a_loser_alone(lab: Lab) -> None:
    handle = lab.start(hard_flows.handled_loser, 1)

    def decide() -> None:
        lab.worker().deliver(taken(lab, "large"))
        lab.drain()
        raise Reject("no")

    flows.behave["risky"] = decide
    lab.worker().deliver(taken(lab, "risky"))
    assert lab.row(handle, "risky")["absorbed_by"] == "first_of"
    lab.client.retry(handle.id, from_steps=["large"])
    lab.drain()
    assert handle.result(0) == "large 1"
    assert "excuse" not in names()
    lab.sound(handle)


def beside(lab: Lab) -> Handle[Any]:
    """A parent that failed beside its call, whose child had begun."""
    handle = lab.start(hard_flows.beside_child, 2)
    lab.worker().deliver(taken(lab, "child"))
    flows.behave["other"] = fail
    lab.worker().deliver(taken(lab, "other"))
    return handle


def test_the_retry_of_a_parent_reopens_the_child_that_its_failure_cancelled(lab: Lab) -> None:
    handle = beside(lab)
    child = lab.row(handle, "child")["child"]
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
    flows.behave.clear()
    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == 21 + 200
    assert lab.row(handle, "child")["child"] == child
    lab.sound(handle)
    check_sound(lab.database.hot(), child)


def test_the_retry_of_a_parent_waits_for_the_end_of_a_child_that_is_closing(lab: Lab) -> None:
    handle = lab.start(hard_flows.beside_child, 2)
    lab.worker().deliver(taken(lab, "child"))
    child = lab.row(handle, "child")["child"]
    flows.behave["other"] = fail

    def close() -> None:
        lab.worker().deliver(taken(lab, "other"))
        flows.behave.clear()
        lab.client.retry(handle.id)
        [again] = [m for m in lab.mail if m.address.name == "child"]
        lab.mail.remove(again)
        lab.worker().deliver(again)

    flows.behave["fail_if_odd"] = close
    lab.worker().deliver(taken(lab, "fail_if_odd"))
    for _ in range(4):
        lab.relay()
        lab.drain()
        lab.advance(seconds=6)
        lab.sweep()
    assert handle.result(0) == 21 + 200
    assert lab.row(handle, "child")["child"] == child
    lab.sound(handle)


def test_a_cancel_that_comes_after_the_retry_of_the_parent_cancels_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = lab.start(hard_flows.beside_child, 2)
    lab.worker().deliver(taken(lab, "child"))
    flows.behave["other"] = fail
    with monkeypatch.context() as patched:
        patched.setattr(events, "deliver_all", lambda *_: ([], 0))
        lab.worker().deliver(taken(lab, "other"))
    flows.behave.clear()
    lab.client.retry(handle.id)
    [again] = [m for m in lab.mail if m.address.name == "child"]
    lab.mail.remove(again)
    lab.worker().deliver(again)
    lab.relay()
    lab.drain()
    assert handle.result(0) == 21 + 200
    lab.sound(handle)


@pytest.mark.parametrize("flow", [hard_flows.picky, hard_flows.deep])
def test_a_retry_runs_the_items_again_of_which_too_many_failed(lab: Lab, flow: Any) -> None:
    handle = lab.start(flow, 3)
    lab.drain()
    with pytest.raises(ExecutionFailed, match="items failed, at least 90% must succeed"):
        handle.result(0)
    lab.sound(handle)
    scope = "branched_item[1]" if flow is hard_flows.picky else "deep_item[2]/branched_item[1]"
    before = lab.row(handle, "fail_if_odd", scope)
    flows.ran.clear()
    flows.behave["cured"] = lambda: None
    lab.client.retry(handle.id)
    lab.drain()
    expected = 0 + 110 + 220 if flow is hard_flows.picky else 0 + 110
    assert handle.result(0) == expected
    after = lab.row(handle, "fail_if_odd", scope)
    assert after["run"] == before["run"]
    assert names().count("fail_if_odd") == 1
    lab.sound(handle)


def test_a_rerun_of_what_lost_an_item_runs_what_was_skipped_in_it(lab: Lab) -> None:
    handle = lab.start(hard_flows.branched_items, 2)
    slow = drain_but(lab, "slow")
    for message in slow:
        lab.worker().deliver(message)
    lab.drain()
    assert handle.result(0) == 0
    assert lab.row(handle, "other", "branched_item[1]")["status"] == StepStatus.SKIPPED
    flows.behave["cured"] = lambda: None
    lab.client.retry(handle.id, from_steps=[("fail_if_odd", "branched_item[1]")])
    lab.drain()
    assert handle.result(0) == 0 + 110
    lab.sound(handle)


def test_a_signal_wakes_its_own_wait_and_no_step_of_the_same_name(lab: Lab) -> None:
    handle = lab.start(hard_flows.named_alike, 1)
    flows.behave["items_of"] = lambda: None
    lab.worker().deliver(taken(lab, "other"))
    # by hand the list is one item long, not a hundred
    lab.client.complete(handle.id, "items_of", output=[7])
    lab.mail = type(lab.mail)(m for m in lab.mail if m.address.name != "items_of")
    lab.drain()
    assert lab.row(handle, "other", "named_alike_item[0]")["status"] == StepStatus.READY
    lab.database.hot().execute(
        "UPDATE orchestrator.steps SET status = 'ready', ended_no = NULL,"
        " due_at = orchestrator.now() + interval '1 h' WHERE name = 'other' AND scope = ''"
    )
    lab.send(handle, "other", "hello")
    assert [m.address.scope for m in lab.mail] == ["named_alike_item[0]"]


def test_signals_whose_nodes_share_a_name_are_told_apart(lab: Lab) -> None:
    handle = lab.start(hard_flows.dashed, 1)
    lab.drain()
    lab.send(handle, "a b", "x")
    lab.drain()
    lab.send(handle, "a-b", "y")
    lab.drain()
    assert handle.result(0) == ["noted y"]
    lab.sound(handle)


def test_a_signal_that_nobody_took_wakes_the_next_who_waits_for_it(lab: Lab) -> None:
    handle = lab.start(hard_flows.two_waits, 1)
    fast = taken(lab, "large")
    lab.drain()
    lab.send(handle, "go", "x")
    lab.worker().deliver(fast)  # the wait that was woken has lost
    lab.drain()
    assert handle.result(0) == ["large 1", "x"]
    lab.sound(handle)


@pytest.mark.parametrize("flow", [hard_flows.for_ages, hard_flows.within_ages])
def test_a_wait_that_outlasts_the_calendar_waits(lab: Lab, flow: Any) -> None:
    handle = lab.start(flow, 1)
    lab.drain()
    lab.advance(days=40)
    lab.sweep()
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.RUNNING
    lab.sound(handle)


def test_a_moment_in_another_zone_at_the_end_of_the_calendar_can_be_read(lab: Lab) -> None:
    west = timezone(timedelta(hours=-5))
    handle = lab.start(hard_flows.until_then, datetime(9999, 12, 31, 23, tzinfo=west))
    lab.drain()
    lab.client.pause(handle.id)
    lab.client.resume(handle.id)
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.RUNNING
    lab.sound(handle)


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        ("text", 3),
        (Decimal("NaN"), Decimal(1)),
        ([1, "a"], [1, 2]),
        (datetime.fromisoformat("2020-01-01"), datetime(2020, 1, 1, tzinfo=UTC)),
        ({"a": 1}, {"a": 0}),
    ],
)
def test_a_condition_on_values_without_an_order_fails_its_step_with_a_sentence(
    lab: Lab, value: Any, bound: Any
) -> None:
    handle = lab.start(hard_flows.compared, value, bound)
    lab.drain()
    with pytest.raises(ExecutionFailed, match=r"cannot be decided.*compare values of one type"):
        handle.result(0)
    lab.sound(handle)


def test_an_event_that_cannot_be_handled_does_not_stop_the_others(lab: Lab) -> None:
    handle = lab.start(hard_flows.call_or_large, 2)
    lab.worker().deliver(taken(lab, "child"))
    lab.mail.clear()
    connection = lab.database.hot()
    connection.execute(
        "INSERT INTO orchestrator.definitions (name, version, fingerprint, graph, options)"
        " VALUES ('nonsense', '1', '0', '{\"nodes\": 7}', '{}')"
    )
    connection.execute(
        "INSERT INTO orchestrator.executions SELECT (jsonb_populate_record(e,"
        " jsonb_build_object('id', '00000000-0000-7000-8000-000000000001', 'definition_id',"
        " (SELECT max(id) FROM orchestrator.definitions)))).* FROM orchestrator.executions e"
        " WHERE e.id = %s",
        (handle.execution_id,),
    )
    connection.execute(
        "INSERT INTO orchestrator.execution_state (execution_id, input)"
        " VALUES ('00000000-0000-7000-8000-000000000001', '{}')"
    )
    child = lab.row(handle, "child")["child"]
    connection.execute(
        "INSERT INTO orchestrator.events (execution_id, kind, source) VALUES"
        " ('00000000-0000-7000-8000-000000000001', 'ended', %s), (%s, 'cancel', %s)",
        (child, child, handle.execution_id),
    )
    assert lab.relay() >= 1
    assert lab.client.get(child).facts.status is ExecutionStatus.CANCELLED
