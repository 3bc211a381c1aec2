"""What was set aside: looked at, repaired, released and dropped from the command line."""

from __future__ import annotations

import json

import pytest

from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import start
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.store import quarantine as store
from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab

TYPO = b'{"flow": "chian", "input": {"n": 1}, "key": "o-1"}'
RIGHT = '{"flow": "chain", "input": {"n": 1}, "key": "o-1"}'


def set_aside(lab: Lab, body: bytes = TYPO) -> int:
    message = ForeignMessage(queue="orders", body=body, delivery=start.new_id(), message_id="m-1")
    return lab.database.run(
        store.set_message_aside,
        queue="orders",
        reason="unknown flow",
        detail={"problem": "no flow 'chian', did you mean 'chain'?"},
        properties=message.properties(),
        body=body,
    )


def test_messages_are_listed_and_shown_with_their_reason(terminal: Terminal, lab: Lab) -> None:
    number = set_aside(lab)

    [found] = terminal.json("quarantine", "list")["quarantine"]
    shown = terminal.json("quarantine", "show", number)

    assert (found["number"], found["queue"], found["reason"]) == (number, "orders", "unknown flow")
    assert "did you mean 'chain'?" in found["problem"]
    assert json.loads(shown["body"])["flow"] == "chian"
    text = terminal("quarantine", "show", number)
    assert "message of orders" in text
    assert '"flow": "chian"' in text
    assert terminal("quarantine", "list", "--queue", "other") == "Nothing waits in quarantine.\n"
    assert "message of orders" in terminal("quarantine", "list", "--reason", "unknown flow")


def test_a_message_is_repaired_and_released_once(terminal: Terminal, lab: Lab) -> None:
    number = set_aside(lab)
    sentence = terminal.refused("quarantine", "release", number)
    assert "chian" in sentence

    done = terminal.json("quarantine", "release", number, "--body", RIGHT, "--actor", "ann")
    again = terminal.json("quarantine", "release", number)
    lab.drain()

    [message] = done["messages"]
    assert (message["started"], again["messages"][0]["started"]) == (True, False)
    assert terminal.json("show", "o-1")["result"] == 1
    assert terminal.json("quarantine", "list")["quarantine"] == []
    assert "released" in terminal("quarantine", "list", "--all")


def test_messages_are_dropped_and_what_is_refused_is_told(terminal: Terminal, lab: Lab) -> None:
    first, second = set_aside(lab), set_aside(lab)

    ran = terminal.run("quarantine", "drop", first, second, 999)

    assert ran.exit_code == 1
    assert f"{first}: dropped" in ran.stdout
    assert "999: nothing in quarantine has the number 999" in ran.stdout
    assert "dropped already" in terminal("quarantine", "drop", first)
    assert "was dropped" in terminal.refused("quarantine", "release", second)
    assert "nothing in quarantine" in terminal.refused("quarantine", "show", 999)


@pytest.mark.req("E12")
def test_a_step_in_quarantine_is_explained_and_released_by_a_retry(
    terminal: Terminal, lab: Lab
) -> None:
    handle = lab.start(flows.single, 1, key="o-1")
    message = lab.mail.popleft()
    for nonce in range(4):  # its worker dies each time
        worker = lab.worker()
        if not worker.claim(message, nonce=nonce):
            break
        worker.die()
        lab.sweep()
        message = lab.mail.pop() if lab.mail else message
    lab.worker().deliver(message)
    assert handle.view().facts.status is ExecutionStatus.FAILED

    answer = terminal.json("explain", "o-1")
    [found] = terminal.json("quarantine", "list")["quarantine"]
    assert [step["code"] for step in answer["steps"]] == ["quarantined"]
    assert (found["step"], found["execution"]) == ("first", handle.id)
    terminal("quarantine", "release", found["number"])
    lab.drain()

    assert handle.result(0) == 2
