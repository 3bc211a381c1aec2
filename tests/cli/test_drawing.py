"""Diagrams of flows and of executions, and events sent to them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Terminal
from tests.runtime import chosen_flows, flows
from tests.runtime.lab import Lab


def fail() -> None:
    raise ValueError("no")


@pytest.mark.req("E13")
def test_an_execution_is_drawn_with_the_path_it_took_and_its_error(
    terminal: Terminal, lab: Lab
) -> None:
    flows.behave["second"] = fail
    lab.start(flows.chain, 1, key="o-1")
    lab.drain()

    found = terminal.json("diagram", "o-1")

    assert found["states"] == {"first": "succeeded", "second": "failed"}
    assert found["title"] == "chain o-1: failed"
    text = terminal("diagram", "o-1")
    assert text.startswith("flowchart TD\n")
    assert "class second_ failed" in text


def test_a_fan_out_is_drawn_with_the_state_that_wants_attention(
    terminal: Terminal, lab: Lab
) -> None:
    handle = lab.start(flows.fan, 3)
    lab.worker().deliver()

    states = terminal.json("diagram", handle.id)["states"]

    assert (states["numbers"], states["double/double"]) == ("succeeded", "ready")


def test_a_flow_is_drawn_as_mermaid_or_dot(terminal: Terminal, lab: Lab) -> None:
    lab.start(flows.diamond, 1)

    assert terminal("diagram", "diamond").startswith("flowchart TD\n")
    assert terminal("diagram", "diamond", "--dot").startswith("digraph flow {")
    assert terminal("diagram", "tree").startswith("flowchart TD\n"), "from the modules"


def test_an_unknown_diagram_is_told_with_a_near_miss(terminal: Terminal, lab: Lab) -> None:
    lab.start(flows.diamond, 1)

    assert "did you mean 'diamond'?" in terminal.refused("diagram", "diamnd")
    assert "no version '9'" in terminal.refused("diagram", "diamond", "--version", "9")


@pytest.fixture
def patient(lab: Lab) -> Any:
    handle = lab.start(chosen_flows.patient, 1, key="o-1")
    lab.drain()
    return handle


def test_an_event_that_is_waited_for_is_explained_and_sent(
    terminal: Terminal, lab: Lab, patient: Any
) -> None:
    answer = terminal.json("explain", "o-1")["answer"]
    assert answer["code"] == "signal-awaited"
    assert answer["command"] == f"orchestrator send {patient.id} manager_ok --data '...'"

    assert "was sent" in terminal("send", "o-1", "manager_ok", "--data", '{"ok": true}')
    lab.drain()

    assert patient.result(0) == "noted large 1"
    lab.sound(patient)


def test_an_event_that_cannot_be_sent_is_told_why(
    terminal: Terminal, lab: Lab, patient: Any
) -> None:
    sentence = terminal.refused("send", "o-1", "manger_ok")
    assert "manager_ok" in sentence
    assert "manager_ok" in terminal.refused("send", "o-1", "manager_ok", "--data", "[1]")
    terminal("cancel", "o-1")
    assert "o-1" not in terminal.refused("send", "o-1", "manager_ok")
