"""Nothing waits for what a merge had cancelled: an execution of losers ends."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime import attempts
from tests.runtime import flows, hard_flows
from tests.runtime.lab import Lab
from tests.runtime.test_hard_choices import drain_but, meanwhile, taken


def decide(lab: Lab) -> None:
    """Let the other branch end, and the merge be recorded before anything else is looked at."""
    flows.behave.clear()
    lab.worker().deliver(taken(lab, "large"))
    lab.worker().deliver(taken(lab, "first_of"))


@pytest.mark.parametrize(
    ("flow", "result"),
    [
        (hard_flows.joined_loser, "large 2"),
        (hard_flows.half_needed_loser, [200, "large 2"]),
    ],
)
def test_a_join_of_what_ended_late_and_what_was_cancelled_is_not_ordered(
    lab: Lab, flow: Any, result: Any
) -> None:
    handle = lab.start(flow, 2)

    flows.behave["other"] = lambda: decide(lab)
    lab.worker().deliver(taken(lab, "other"))
    lab.drain()
    assert handle.result(0) == result
    lab.sound(handle)


def test_a_merge_of_what_was_skipped_and_what_was_cancelled_is_not_ordered(lab: Lab) -> None:
    handle = lab.start(hard_flows.merged_loser, 2)
    message = taken(lab, "small")
    [claimed] = lab.worker().claim(message)
    # it has begun, so it does not find out for itself that it has lost
    lab.database.run(attempts.hand_back, lab.workers[-1].id, [claimed.address])
    skipped = taken(lab, "large")
    lab.worker().deliver(taken(lab, "fast"))
    lab.worker().deliver(taken(lab, "first_of"))
    lab.worker().deliver(skipped)
    lab.drain()
    assert handle.result(0) == "large 2"
    lab.sound(handle)


def test_a_join_in_an_item_of_an_each_that_lost_is_not_ordered(lab: Lab) -> None:
    handle = lab.start(hard_flows.joining_items_or_large, 2)
    lab.worker().deliver(taken(lab, "items_of"))
    flows.behave["other"] = lambda: decide(lab)
    lab.worker().deliver(taken(lab, "other", "joining_item[0]"))
    lab.drain()
    assert handle.result(0) == "large 2"
    lab.sound(handle)


def test_an_each_that_lost_while_it_expanded_joins_nothing_in_its_items(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = lab.start(hard_flows.joining_items_or_large, 2)
    flows.behave["items_of"] = lambda: meanwhile(lab, monkeypatch, lambda: decide(lab))
    lab.worker().deliver(taken(lab, "items_of"))
    lab.drain()
    assert handle.result(0) == "large 2"
    lab.sound(handle)


def test_a_retry_orders_no_join_of_what_ended_late_and_what_was_cancelled(lab: Lab) -> None:
    handle = lab.start(hard_flows.half_needed_loser, 2)

    def close() -> None:
        decide(lab)
        lab.client.fail(handle.id, "apart")

    flows.behave["other"] = close
    lab.worker().deliver(taken(lab, "other"))
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.FAILED
    lab.sound(handle)
    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == [200, "large 2"]
    lab.sound(handle)


@pytest.mark.parametrize(
    ("flow", "result"),
    [(hard_flows.late_items, 0 + 100), (hard_flows.left_items, ["large 0", "large 1"])],
)
def test_an_item_ends_with_all_of_its_steps_that_were_not_cancelled(
    lab: Lab, flow: Any, result: Any
) -> None:
    handle = lab.start(flow, 2)
    slow = drain_but(lab, "slow")
    assert lab.row(handle, flow.name.removesuffix("s"))["status"] == StepStatus.WAITING
    for message in slow:
        lab.worker().deliver(message)
        lab.drain()
        lab.sound(handle)
    assert handle.result(0) == result
    lab.sound(handle)
