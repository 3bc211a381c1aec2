"""Conditions, merges, handlers and items that can be done without."""

from __future__ import annotations

import pytest

from orchestrator.errors import ExecutionFailed
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from tests.runtime import chosen_flows, flows
from tests.runtime.chosen_flows import Order
from tests.runtime.lab import Lab


def names() -> list[str]:
    return [name for name, _ in flows.ran]


def fail(message: str = "no") -> None:
    raise ValueError(message)


@pytest.mark.parametrize(
    ("total", "result", "ran"),
    [(500, "large 500", ["price", "large"]), (5, "small 5", ["price", "small"])],
)
def test_one_branch_runs_and_the_other_is_skipped(
    lab: Lab, total: int, result: str, ran: list[str]
) -> None:
    handle = lab.start(chosen_flows.branch, Order(total, []))
    lab.drain()
    assert handle.result(0) == result
    assert names() == ran
    statuses = {lab.row(handle, name)["status"] for name in ("large", "small")}
    assert statuses == {StepStatus.SUCCEEDED, StepStatus.SKIPPED}
    lab.sound(handle)


def test_a_skip_is_no_reason_to_skip_what_uses_the_value(lab: Lab) -> None:
    handle = lab.start(chosen_flows.optional, Order(5, []))
    lab.drain()
    assert handle.result(0) == [None, "noted None"]
    assert names() == ["note", "pair"]
    lab.sound(handle)


@pytest.mark.parametrize(
    ("order", "result"),
    [
        (Order(50, [7]), ["large 50", "small 50"]),
        (Order(50, [8]), ["large 50", None]),
        (Order(50, []), ["large 50", None]),
        (Order(5, [7]), [None, None]),
    ],
)
def test_nested_conditions_must_all_hold_and_a_missing_item_counts_as_false(
    lab: Lab, order: Order, result: list[str | None]
) -> None:
    handle = lab.start(chosen_flows.nested, order)
    lab.drain()
    assert handle.result(0) == result
    lab.sound(handle)


def test_a_condition_on_what_is_written_in_the_flow_is_asked_as_well(lab: Lab) -> None:
    handle = lab.start(chosen_flows.told_items, 2)
    lab.drain()
    assert handle.result(0) == [["small 0", "small 1"], ["large 0", "large 1"]]
    lab.sound(handle)


def test_a_handler_takes_the_place_of_a_step_that_failed_for_good(lab: Lab) -> None:
    flows.behave["risky"] = lambda: fail("the bank is closed")
    handle = lab.start(chosen_flows.excused, 3)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "noted excused ValueError: the bank is closed"
    error = dict(flows.ran)["excuse"]
    assert (error.step, error.attempts, error.input) == ("risky", 2, {"n": 3})
    facts = handle.view().facts
    assert (facts.status, facts.failed) == (ExecutionStatus.SUCCEEDED, 1)
    assert lab.row(handle, "risky")["absorbed_by"] == "risky_on_error"
    lab.sound(handle)


def test_a_handler_is_not_ordered_when_all_goes_well(lab: Lab) -> None:
    handle = lab.start(chosen_flows.excused, 3)
    lab.drain()
    assert handle.result(0) == "noted risky 3"
    assert names() == ["risky", "note"]
    lab.sound(handle)


def test_a_handler_that_fails_fails_the_execution_and_a_retry_runs_it_alone(lab: Lab) -> None:
    flows.behave["risky"] = fail
    flows.behave["excuse"] = lambda: fail("no excuse")
    handle = lab.start(chosen_flows.excused, 3)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    with pytest.raises(ExecutionFailed, match="no excuse"):
        handle.result(0)
    flows.ran.clear()
    flows.behave.clear()
    lab.client.retry(handle.id)
    lab.drain()
    assert names() == ["excuse", "note"]
    assert handle.result(0) == "noted excused ValueError: no"
    lab.sound(handle)


def test_the_first_of_two_wins_and_what_has_not_begun_is_cancelled(lab: Lab) -> None:
    handle = lab.start(chosen_flows.race, 1)
    fast = next(message for message in lab.mail if message.queue != "slow")
    slow = next(message for message in lab.mail if message.queue == "slow")
    lab.mail.clear()
    worker = lab.worker()
    worker.deliver(fast)
    assert handle.result(0) == "large 1"
    assert lab.row(handle, "small")["status"] == StepStatus.CANCELLED
    assert lab.row(handle, "small")["absorbed_by"] == "first_of"
    lab.sound(handle)
    worker.deliver(slow)
    assert names() == ["large"]
    lab.sound(handle)


@pytest.mark.parametrize("end", ["succeeds", "fails"])
def test_a_loser_that_runs_is_asked_to_stop_and_counted_at_its_end(lab: Lab, end: str) -> None:
    handle = lab.start(chosen_flows.race, 1)
    fast = next(message for message in lab.mail if message.queue != "slow")
    slow = next(message for message in lab.mail if message.queue == "slow")
    lab.mail.clear()

    def meanwhile() -> None:
        lab.worker().deliver(fast)
        assert lab.row(handle, "small")["cancel_asked"]
        assert handle.view().facts.status is ExecutionStatus.RUNNING
        if end == "fails":
            fail("too late")

    flows.behave["small"] = meanwhile
    lab.worker().deliver(slow)
    assert handle.result(0) == "large 1"
    expected = StepStatus.SUCCEEDED if end == "succeeds" else StepStatus.FAILED
    assert lab.row(handle, "small")["status"] == expected
    lab.sound(handle)


def test_two_of_three_come_in_the_order_in_which_they_ended(lab: Lab) -> None:
    handle = lab.start(chosen_flows.two_of_three, 1)
    by_name = {message.address.name: message for message in lab.mail}
    lab.mail.clear()
    worker = lab.worker()
    worker.deliver(by_name["risky"])
    lab.sound(handle)
    worker.deliver(by_name["small"])
    assert handle.result(0) == ["risky 1", "small 1"]
    worker.deliver(by_name["large"])
    assert names() == ["risky", "small"]
    lab.sound(handle)


@pytest.mark.parametrize("count", [0, 2, 4, 6])
def test_an_each_that_accepts_half_goes_on_without_the_rest(lab: Lab, count: int) -> None:
    handle = lab.start(chosen_flows.tolerant, count)
    lab.drain()
    assert handle.result(0) == sum(10 * n for n in range(count) if n % 2 == 0)
    assert dict(flows.ran)["summed"] == [10 * n if n % 2 == 0 else None for n in range(count)]
    lab.sound(handle)


def test_an_each_fails_when_fewer_succeed_than_it_accepts(lab: Lab) -> None:
    handle = lab.start(chosen_flows.tolerant, 3)
    flows.behave["fail_if_odd"] = fail
    lab.drain()
    with pytest.raises(ExecutionFailed, match="3 of 3 items failed, at least 50% must succeed"):
        handle.result(0)
    lab.sound(handle)


def test_what_comes_after_a_failed_step_of_an_item_is_skipped_in_that_item_alone(lab: Lab) -> None:
    handle = lab.start(chosen_flows.tolerant_items, 5)
    lab.drain()
    assert handle.result(0) == (0 + 1) + (20 + 1) + (40 + 1)
    steps = {(s.address.name, s.address.scope): s.status for s in handle.view().steps}
    skipped = sorted(place[1] for place, status in steps.items() if status is StepStatus.SKIPPED)
    assert len(skipped) == 2
    assert all("[1]" in scope or "[3]" in scope for scope in skipped)
    lab.sound(handle)


def test_the_rest_of_an_item_that_is_one_each_is_skipped_as_well(lab: Lab) -> None:
    handle = lab.start(chosen_flows.tolerant_lists, [[1, 2], [4]])
    lab.drain()
    assert handle.result(0) == [None, [40]]
    assert sorted(flows.ran) == [("fail_if_odd", 1), ("fail_if_odd", 4)]
    statuses = {lab.row(handle, "fail_if_odd", f"listed[{n}]")["status"] for n in (0, 1)}
    assert statuses == {StepStatus.SKIPPED, StepStatus.SUCCEEDED}
    lab.sound(handle)


@pytest.mark.req("E3")
def test_a_rerun_from_before_a_branch_decides_it_anew(lab: Lab) -> None:
    handle = lab.start(chosen_flows.branch, Order(500, []))
    lab.drain()
    assert handle.result(0) == "large 500"
    lab.client.retry(handle.id, from_steps=["price"])
    lab.drain()
    assert handle.result(0) == "large 500"
    assert names() == ["price", "large"] * 2
    assert lab.row(handle, "small", run=1)["status"] == StepStatus.SKIPPED
    lab.sound(handle)


@pytest.mark.parametrize("again", ["risky", "risky_on_error", "note"])
def test_a_rerun_of_a_handled_step_of_its_handler_or_of_what_follows(lab: Lab, again: str) -> None:
    flows.behave["risky"] = fail
    handle = lab.start(chosen_flows.excused, 3)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    flows.ran.clear()
    flows.behave.clear()
    lab.client.retry(handle.id, from_steps=[again])
    lab.drain()
    well, excused = "noted risky 3", "noted excused ValueError: no"
    assert handle.result(0) == (well if again == "risky" else excused)
    expected = {"risky": ["risky", "note"], "risky_on_error": ["excuse", "note"], "note": ["note"]}
    assert names() == expected[again]
    lab.sound(handle)


@pytest.mark.parametrize("again", ["large", "first_of", "small"])
def test_a_rerun_around_a_merge_ends(lab: Lab, again: str) -> None:
    handle = lab.start(chosen_flows.race, 1)
    fast = next(message for message in lab.mail if message.queue != "slow")
    lab.mail.clear()
    lab.worker().deliver(fast)
    lab.client.retry(handle.id, from_steps=[again])
    lab.drain()
    assert handle.result(0) == "large 1"  # it is still the first that came
    lab.sound(handle)


@pytest.mark.parametrize("again", ["fail_if_odd", "each"])
def test_a_rerun_of_items_that_were_done_without(lab: Lab, again: str) -> None:
    handle = lab.start(chosen_flows.tolerant_items, 4)
    lab.drain()
    assert handle.result(0) == 1 + 21
    chosen = [("fail_if_odd", "item[1]")] if again == "fail_if_odd" else ["item"]
    lab.client.retry(handle.id, from_steps=chosen)
    lab.drain()
    assert handle.result(0) == 1 + 21
    lab.sound(handle)
