"""What is secret by its name: shown by no command that is not asked to, and taken back by none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator import flow, signal, step, this_step
from orchestrator.runtime import start
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.store import quarantine as store
from tests.cli.conftest import Terminal
from tests.runtime.lab import Lab

NUMBER = "4111-1111"
broken = [True]


@step
def authorize(order: str, card: dict[str, str]) -> dict[str, str]:
    this_step().heartbeat({"card": card["number"], "done": 1})
    return {"order": order, "token": card["number"]}


@step
def book(granted: dict[str, str]) -> dict[str, str]:
    if broken[0]:
        raise ValueError("the ledger is closed")
    return granted


@flow
def payment(order: str, card: dict[str, str]) -> dict[str, str]:
    return book(authorize(order, card))


@flow
def unlocked(door: str) -> str:
    return signal("code", dict[str, str])["pin"]


@pytest.fixture
def failed(lab: Lab) -> str:
    """A payment that failed after its card was authorized."""
    broken[0] = True
    handle = lab.start(payment, "o-1", {"number": NUMBER}, key="o-1")
    lab.drain()
    return handle.id


def set_aside(lab: Lab, body: str) -> int:
    message = ForeignMessage(
        queue="orders", body=body.encode(), delivery=start.new_id(), headers={"api-key": NUMBER}
    )
    return lab.database.run(
        store.set_message_aside,
        queue="orders",
        reason="unknown flow",
        detail={"problem": "no flow 'paymnt'"},
        properties=message.properties(),
        body=message.body,
    )


SHOWING: list[tuple[str, ...]] = [
    ("show", "o-1"),
    ("show", "o-1", "--json"),
    ("show", "o-1", "--step", "authorize"),
    ("show", "o-1", "--step", "authorize", "--json"),
    ("history", "o-1", "--json"),
]


@pytest.mark.req("E13")
@pytest.mark.parametrize("words", SHOWING)
def test_what_is_secret_by_its_name_is_shown_when_it_is_asked_for_and_not_before(
    terminal: Terminal, lab: Lab, failed: str, words: tuple[str, ...]
) -> None:
    broken[0] = False
    terminal("retry", "o-1", "--input", json.dumps({"card": {"number": NUMBER}}))
    lab.drain()

    hidden, shown = terminal(*words), terminal(*words, "--unmasked")

    assert NUMBER not in hidden
    assert "***" in hidden
    assert NUMBER in shown
    assert ("--unmasked shows it" in hidden) is ("--json" not in words)
    assert "--unmasked" not in shown


def test_other_values_and_documents_stay_as_they_are(terminal: Terminal, failed: str) -> None:
    found = terminal.json("show", "o-1")

    assert found["input"] == {"order": "o-1", "card": "***"}
    assert terminal.json("show", "o-1", "--step", "authorize")["output"] == {
        "order": "o-1",
        "token": "***",
    }


def test_no_other_command_prints_a_secret_value(terminal: Terminal, lab: Lab, failed: str) -> None:
    lab.start(payment, "o-2", {"number": NUMBER}, key="o-2")
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    worker.delivery._beat(claimed, {"card": NUMBER, "done": 1})
    texts = [
        *(
            terminal("list"),
            terminal("history", "o-1"),
            terminal("explain", "o-1"),
            terminal("explain", "o-2"),
        ),
        *(terminal("diagram", "o-1"), terminal("top"), terminal("retry", "o-1", "--dry-run")),
        *(terminal("list", "--json"), terminal("explain", "o-2", "--json")),
    ]

    assert "'done': 1" in terminal("explain", "o-2"), "its progress is told"
    assert not [text for text in texts if NUMBER in text]


def test_the_setting_says_what_is_secret(terminal: Terminal, lab: Lab, failed: str) -> None:
    lab.settings = lab.settings.model_copy(update={"masked": ("order",)})

    assert terminal.json("show", "o-1")["input"] == {"order": "***", "card": {"number": NUMBER}}


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"card": "***"}, True),
        ({"card": {"number": NUMBER}, "order": "***"}, False),
        ({"order": {"card": "***"}}, True),
    ],
)
def test_an_input_that_was_copied_from_a_masked_one_is_refused(
    terminal: Terminal, lab: Lab, failed: str, changes: Any, is_refused: bool
) -> None:
    broken[0] = False
    words = ("retry", "o-1", "--input", json.dumps(changes))

    if not is_refused:
        assert "retried" in terminal(*words)
        return
    sentence = terminal.refused(*words)

    assert "the input holds masked values" in sentence
    assert "take it from `orchestrator show --unmasked`" in sentence
    assert terminal.json("show", "o-1", "--unmasked")["input"]["card"] == {"number": NUMBER}


def test_masked_values_are_taken_back_by_no_other_command_either(
    terminal: Terminal, lab: Lab, failed: str
) -> None:
    number = set_aside(lab, json.dumps({"flow": "paymnt", "input": {"card": "4111"}}))
    lab.start(unlocked, "front", key="d-1")
    lab.drain()
    masked = json.dumps({"order": "o-1", "token": "***"})
    document = json.dumps({"order": "o-3", "card": "***"})
    repaired = json.dumps({"flow": "payment", "input": {"order": "o-3", "card": "***"}})

    for words in (
        ("complete", "o-1", "book", "--output", masked),
        ("skip", "o-1", "book", "--output", masked),
        ("start", "payment", "--input", document),
        ("send", "d-1", "code", "--data", '{"pin": "***"}'),
        ("quarantine", "release", number, "--body", repaired),
    ):
        assert "holds masked values" in terminal.refused(*words), words
    assert {one["key"] for one in terminal.json("list")["executions"]} == {"o-1", "d-1"}


def test_a_message_in_quarantine_is_shown_without_secrets(terminal: Terminal, lab: Lab) -> None:
    number = set_aside(lab, json.dumps({"flow": "paymnt", "input": {"card": NUMBER}}))

    for more in ((), ("--json",)):
        assert NUMBER not in terminal("quarantine", "show", number, *more)
        assert terminal("quarantine", "show", number, "--unmasked", *more).count(NUMBER) == 2
    shown = terminal.json("quarantine", "show", number)
    assert json.loads(shown["body"]) == {"flow": "paymnt", "input": {"card": "***"}}
    assert shown["properties"]["headers"] == {"api-key": "***"}
    assert "--unmasked shows it" in terminal("quarantine", "show", number)


@pytest.mark.parametrize(
    ("body", "is_withheld"),
    [
        ('{"flow": "payment", "input": {"card": {"number": "4111-1111"}', True),
        ("order=7&cardNumber=4111-1111", True),
        ("no JSON at all, and harmless", False),
    ],
)
def test_a_body_that_is_no_json_is_withheld_if_it_names_a_secret(
    terminal: Terminal, lab: Lab, body: str, is_withheld: bool
) -> None:
    number = set_aside(lab, body)

    text = terminal("quarantine", "show", number)
    assert (body in text) is not is_withheld
    assert ("the body is no JSON and names what is secret" in text) is is_withheld
    assert (terminal.json("quarantine", "show", number)["body"] == "***") is is_withheld
    assert body in terminal("quarantine", "show", number, "--unmasked")


def test_a_body_that_is_no_text_is_withheld(terminal: Terminal, lab: Lab) -> None:
    number = lab.database.run(
        store.set_message_aside,
        queue="orders",
        reason="unreadable",
        detail={"problem": "not UTF-8"},
        properties=ForeignMessage(queue="o", body=b"", delivery=start.new_id()).properties(),
        body=b'{"card": "4111\xff"}',
    )

    assert terminal.json("quarantine", "show", number)["body"] == "***"
    assert terminal.json("quarantine", "show", number, "--unmasked")["body"].startswith("base64:")


def test_a_repaired_body_is_kept_and_not_shown(terminal: Terminal, lab: Lab) -> None:
    number = set_aside(lab, '{"flow": "paymnt"}')
    broken[0] = False
    lab.start(payment, "o-0", {"number": "0"})  # so that the flow is known here
    repaired = {"flow": "payment", "input": {"order": "o-9", "card": {"number": NUMBER}}}
    terminal("quarantine", "release", number, "--body", json.dumps(repaired))

    shown = terminal.json("quarantine", "show", number)

    assert NUMBER not in json.dumps(shown["detail"])
    assert json.loads(shown["detail"]["repaired"])["input"] == {"order": "o-9", "card": "***"}
