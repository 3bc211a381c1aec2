"""How step runs read in ``show``: what parked ones wait for, and how often a body ran."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from orchestrator import flow, signal, step
from orchestrator.lifecycle import StepStatus
from orchestrator.records import StepAddress
from orchestrator.runtime import reopened
from tests.cli.conftest import Terminal
from tests.runtime import chosen_flows, flows, hard_flows
from tests.runtime.lab import Lab


def steps(terminal: Terminal, execution: str) -> dict[str, dict[str, Any]]:
    return {step["step"]: step for step in terminal.json("show", execution)["steps"]}


def test_a_step_that_waits_for_a_signal_reads_so(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.impatient, 1, key="o-1")
    lab.drain()

    waiting = steps(terminal, "o-1")["manager_ok"]
    text = terminal("show", "o-1")

    assert (waiting["status"], waiting["state"]) == ("ready", "waiting")
    waits = waiting["waits_for"]
    assert (waits["kind"], waits["signal"]) == ("signal", "manager_ok")
    until = waits["until"][:19].replace("T", " ")
    assert f"for signal manager_ok until {until} UTC" in text
    assert " ready " not in text
    one = terminal("show", "o-1", "--step", "manager_ok")
    assert "status  waiting" in one
    assert "waits   for signal manager_ok until" in one


def test_a_signal_without_an_end_is_waited_for_without_a_time(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.patient, 1, key="o-1")
    lab.drain()

    waits = steps(terminal, "o-1")["manager_ok"]["waits_for"]

    assert waits == {
        "kind": "signal",
        "words": "for signal manager_ok",
        "signal": "manager_ok",
        "execution": None,
        "until": None,
        "done": None,
        "of": None,
    }


def test_explain_says_of_a_signal_that_is_waited_for_what_show_says(
    terminal: Terminal, lab: Lab
) -> None:
    @flow
    def both(n: int) -> int:
        return flows.add(flows.first(n), signal("manager_ok", int))

    lab.catalogue.add(both)
    lab.start(both, 1, key="o-1")
    lab.drain()

    answer = terminal.json("explain", "o-1")["answer"]
    text = terminal("explain", "o-1")
    terminal("pause", "o-1")
    paused = terminal("explain", "o-1")

    assert answer["command"].endswith(" manager_ok --data '...'")
    assert "manager_ok: waiting for signal manager_ok" in text
    assert "manager_ok waits for signal manager_ok, but the execution is paused" in paused
    assert "is ready" not in text + paused


def test_values_are_shown_to_people_without_the_tags_in_which_they_are_stored(
    terminal: Terminal, lab: Lab
) -> None:
    @step
    def priced(price: Decimal) -> Decimal:
        return price * 2

    @flow
    def pricing(price: Decimal) -> Decimal:
        return priced(price)

    lab.catalogue.add(pricing)
    lab.start(pricing, Decimal("3.50"), key="o-1")
    lab.drain()

    assert '"price": "3.50"' in terminal("show", "o-1")
    assert "$decimal" not in terminal("show", "o-1") + terminal("show", "o-1", "--step", "priced")
    assert terminal.json("show", "o-1")["input"] == {"price": {"$decimal": "3.50"}}
    assert terminal.json("show", "o-1")["result"] == {"$decimal": "7.00"}


def test_a_sleep_reads_as_waiting_until_its_end(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.rested, 1, key="o-1")
    lab.drain()

    sleeping = steps(terminal, "o-1")["sleep"]

    assert (sleeping["state"], sleeping["waits_for"]["kind"]) == ("waiting", "time")
    assert sleeping["waits_for"]["words"].startswith("until ")
    lab.advance(seconds=3 * 86400 + 1)
    assert steps(terminal, "o-1")["sleep"]["state"] == "ready", "it is due, and nobody sleeps"


def test_a_call_reads_as_waiting_for_its_child(terminal: Terminal, lab: Lab) -> None:
    handle = lab.start(chosen_flows.parent, 2, key="o-1")
    lab.worker().deliver()
    child = lab.row(handle, "child")["child"]

    calling = steps(terminal, "o-1")["child"]

    assert (calling["state"], calling["waits_for"]["execution"]) == ("waiting", str(child))
    assert f"for execution {child}" in terminal("show", "o-1")


def test_a_fan_out_reads_as_waiting_for_its_items(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.tolerant, 4, key="o-1")
    worker = lab.worker()
    worker.deliver()
    worker.deliver()

    [waiting] = [s for s in steps(terminal, "o-1").values() if s["status"] == "waiting"]

    done = waiting["waits_for"]["done"]
    assert 0 < done < 4
    assert waiting["waits_for"]["words"] == f"for its items {done}/4"
    assert f"for its items {done}/4" in terminal("show", "o-1")


def test_a_merge_and_a_join_tell_how_much_they_have(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.two_of_three, 1, key="o-1")
    lab.worker().deliver()
    lab.start(flows.diamond, 1, key="o-2")
    lab.worker().deliver(lab.mail.pop())

    merge, join = steps(terminal, "o-1")["first_n"], steps(terminal, "o-2")["add"]

    assert merge["waits_for"]["words"] == "for its first values 1/2"
    assert join["waits_for"]["words"] == "for steps before it 1/2"


def test_a_retry_that_is_not_due_reads_as_waiting(terminal: Terminal, lab: Lab) -> None:
    def fail() -> None:
        raise ValueError("no")

    flows.behave["shaky"] = fail
    lab.start(flows.retried, 1, key="o-1")
    lab.drain()

    shaky = steps(terminal, "o-1")["shaky"]

    assert (shaky["state"], shaky["attempt"]) == ("waiting", 1)
    assert shaky["waits_for"]["kind"] == "attempt"
    assert "for attempt 2 at" in terminal("show", "o-1")
    assert "ValueError: no" in terminal("show", "o-1")


def test_the_nodes_of_a_fan_out_are_counted_as_they_stand(terminal: Terminal, lab: Lab) -> None:
    lab.start(hard_flows.waiting_items, 3, key="o-1")
    lab.drain()

    nodes = {node["node"]: node for node in terminal.json("show", "o-1")["nodes"]}

    [path] = [path for path in nodes if path.endswith("/number")]
    assert nodes[path]["counts"] == {"ready": 2, "skipped": 1}
    assert nodes[path]["states"] == {"waiting": 2, "skipped": 1}
    assert "2 waiting" in terminal("show", "o-1")
    assert "2 ready" not in terminal("show", "o-1")


def test_a_drawing_shows_what_is_parked_as_waiting(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.patient, 1, key="o-1")
    lab.drain()

    assert terminal.json("diagram", "o-1")["states"]["manager_ok"] == "waiting"


@pytest.mark.parametrize("finished", [False, True])
def test_attempts_are_runs_of_a_body(terminal: Terminal, lab: Lab, finished: bool) -> None:
    lab.start(chosen_flows.tolerant, 3, key="o-1")
    if finished:
        lab.drain()
    else:
        lab.worker().deliver()

    found = terminal.json("show", "o-1")

    attempts = {step["step"]: step["attempt"] for step in found["steps"]}
    assert attempts["items_of"] == 1
    assert attempts["fail_if_odd"] == 0, "an each has no body"
    nodes = {node["node"]: node["attempts"] for node in found["nodes"]}
    assert nodes["fail_if_odd"] == 0
    if finished:
        lines = terminal.json("history", "o-1")["history"]
        told = {line["step"]: line["data"]["attempt"] for line in lines if line["step"]}
        assert (told["items_of"], told["fail_if_odd"]) == (1, 0)
        assert "attempt 2" not in terminal("history", "o-1")


def test_a_step_that_was_skipped_has_run_no_body(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.branch, chosen_flows.Order(500, []), key="o-1")
    lab.drain()

    found = steps(terminal, "o-1")

    assert (found["large"]["attempt"], found["small"]["attempt"]) == (1, 0)
    assert found["small"]["state"] == "skipped"


def test_a_loser_that_still_runs_is_told_as_one(terminal: Terminal, lab: Lab) -> None:
    lab.start(chosen_flows.race, 1, key="o-1")
    fast = next(message for message in lab.mail if message.queue != "slow")
    slow = next(message for message in lab.mail if message.queue == "slow")
    lab.worker().claim(slow)
    lab.worker().deliver(fast)

    loser = steps(terminal, "o-1")["small"]
    answer = terminal.json("explain", "o-1")["answer"]

    assert (loser["state"], loser["absorbed_by"], loser["cancel_asked"]) == (
        *("running", "first_of"),
        True,
    )
    assert "first_of has what it wanted" in terminal("show", "o-1")
    assert answer["code"] == "loser-awaited"
    assert "waits for the end of small, which lost to others at first_of" in answer["why"]


def test_a_failure_that_was_taken_says_by_whom(terminal: Terminal, lab: Lab) -> None:
    def fail() -> None:
        raise ValueError("no")

    flows.behave["risky"] = fail
    lab.start(chosen_flows.excused, 1, key="o-1")
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()

    assert steps(terminal, "o-1")["risky"]["absorbed_by"] == "risky_on_error"
    text = terminal("show", "o-1")
    assert "ValueError: no (its handler risky_on_error took it)" in text


def test_what_a_retry_with_another_input_replaces_reads_as_it_had_ended(
    terminal: Terminal, lab: Lab
) -> None:
    def fail() -> None:
        raise ValueError("no")

    flows.behave["shaky"] = fail
    handle = lab.start(flows.retried, 1, key="o-1")
    for _ in range(3):
        lab.drain()
        lab.advance(seconds=30)
        lab.sweep()
    before = {**lab.row(handle, "shaky"), "status": "superseded"}
    flows.behave.clear()

    terminal("retry", "o-1", "--input", '{"n": 5}')
    lab.sound(handle)
    lab.drain()

    told = ("attempt", "ended_at", "ended_no", "error", "status")
    after = lab.row(handle, "shaky")
    assert {name: after[name] for name in told} == {name: before[name] for name in told}
    assert (after["attempt"], after["error"]["kind"]) == (3, "ValueError")
    [line] = [
        one
        for one in terminal.json("history", "o-1")["history"]
        if one["kind"] == "step superseded"
    ]
    assert (line["position"], line["data"]["attempt"]) == (before["ended_no"], 3)
    assert "ValueError: no (attempt 3)" in terminal("history", "o-1")
    lab.sound(handle)


def test_history_keeps_under_a_retry_how_its_steps_had_ended(terminal: Terminal, lab: Lab) -> None:
    def fail() -> None:
        raise ValueError("the gateway said no")

    flows.behave["second"] = fail
    handle = lab.start(flows.chain, 1, key="o-1")
    lab.drain()
    before = {line["step"]: line for line in terminal.json("history", "o-1")["history"]}["second"]
    flows.behave.clear()

    terminal("retry", "o-1", "--actor", "ann")
    lab.drain()

    lines = terminal.json("history", "o-1")["history"]
    [act] = [line for line in lines if line["kind"] == "retry"]
    [kept] = act["data"]["reopened"]
    assert (kept["step"], kept["was"], kept["attempt"]) == ("second", "failed", 1)
    assert kept["error"] == {"kind": "ValueError", "message": "the gateway said no"}
    assert kept["at"][:19] == before["at"][:19]
    text = terminal("history", "o-1").splitlines()
    [number] = [n for n, line in enumerate(text) if "  retry  " in line]
    assert "was failed" in text[number + 1]
    assert "ValueError: the gateway said no" in text[number + 1]
    assert "reopened" not in text[number]
    lab.sound(handle)


def test_history_keeps_under_a_skip_what_it_opened_again(terminal: Terminal, lab: Lab) -> None:
    def fail() -> None:
        raise ValueError("no")

    flows.behave["second"] = fail
    lab.start(flows.chain, 1, key="o-1")
    lab.drain()

    terminal("complete", "o-1", "second", "--output", "5")

    [act] = [
        line for line in terminal.json("history", "o-1")["history"] if line["kind"] == "complete"
    ]
    assert [(one["step"], one["was"]) for one in act["data"]["reopened"]] == [("second", "failed")]


def test_an_act_that_opens_many_steps_tells_a_hundred_and_counts_the_rest() -> None:
    rows: Any = [
        SimpleNamespace(
            address=StepAddress(UUID(int=1), f"s{n:03}", "", 0),
            status=StepStatus.FAILED,
            ended_no=n,
            ended_at=None,
            attempt=1,
            deaths=2,
            error={"kind": "E", "message": "x" * 1000, "traceback": "..."},
        )
        for n in range(130)
    ]

    told = reopened.told(rows)

    assert (len(told["reopened"]), told["reopened_more"]) == (100, 30)
    assert len(told["reopened"][0]["error"]["message"]) == 500
    assert told["reopened"][0]["deaths"] == 2
    assert reopened.told([]) == {}


def test_history_tells_that_a_step_was_taken_over_from_a_dead_worker(
    terminal: Terminal, lab: Lab
) -> None:
    lab.start(flows.chain, 1, key="o-1")
    dying = lab.worker()
    dying.claim(lab.mail.popleft())
    dying.die()
    lab.advance(seconds=120)
    lab.sweep()
    lab.drain()

    lines = terminal.json("history", "o-1")["history"]

    [first] = [line for line in lines if line["step"] == "first"]
    assert first["data"]["deaths"] == 1
    assert "taken over once" in terminal("history", "o-1")
