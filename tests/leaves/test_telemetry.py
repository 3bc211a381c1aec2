"""Telemetry: one table of names and fields, one way to say them."""

import json
import logging
from collections.abc import Iterator
from uuid import UUID

import pytest

from orchestrator import telemetry

SWEEP = {"sweep": "due", "count": 3, "duration_ms": 1.5}


@pytest.fixture
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # `configure` closes what it replaces
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_carries_its_name_and_fields_in_any_format(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        telemetry.emit("sweep_done", **SWEEP)
        telemetry.emit("execution_started", execution_id="e1", flow="index", key=None)

    assert caplog.messages == [
        "sweep_done sweep=due count=3 duration_ms=1.5",
        "execution_started execution_id=e1 flow=index",
    ]
    assert {record.name for record in caplog.records} == {"orchestrator"}


def test_quiet_events_are_not_logged_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        telemetry.emit("message_sent", queue="orchestrator", count=1)

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("sweep_began", {}, "sweep_began is no event"),
        ("sweep_done", SWEEP | {"input": "secret"}, "exactly its fields: input$"),
        ("sweep_done", {"sweep": "due"}, "exactly its fields: count, duration_ms$"),
        ("message_sent", {}, "exactly its fields: count, queue$"),
    ],
)
def test_another_name_or_other_fields_are_a_programming_error(
    name: str, fields: dict[str, object], says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        telemetry.emit(name, **fields)


def test_no_event_carries_values_of_users() -> None:
    fields = frozenset().union(*(event.fields for event in telemetry.EVENTS.values()))

    assert fields & {"input", "output", "result", "value", "arguments", "message", "url"} == set()


def test_passwords_in_addresses_are_hidden(caplog: pytest.LogCaptureFixture) -> None:
    telemetry.emit("broker_unavailable", error="no amqp://me:hid@den@h:5672// here")

    assert caplog.messages == ['broker_unavailable error="no amqp://me:***@h:5672// here"']


@pytest.mark.usefixtures("_own_logging")
def test_a_process_without_logging_gets_one_json_document_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    telemetry.configure(json=True)
    identity = UUID(int=1)
    telemetry.emit("execution_started", execution_id=identity, flow="index", key="k")
    logging.getLogger("other").warning("lost amqp://me:hidden@h, %d times", 2)

    ours, other = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {
        "event": "execution_started",
        "level": "info",
        "execution_id": str(identity),
        "flow": "index",
        "key": "k",
    }
    assert other["event"] == "lost amqp://me:***@h, 2 times"


@pytest.mark.usefixtures("_own_logging")
def test_text_lines_are_one_line_even_with_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure(level="DEBUG")
    telemetry.emit("message_sent", queue="orchestrator", count=1)
    try:
        int("no")
    except ValueError:
        logging.getLogger("other").exception("failed")

    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("level=debug event=message_sent queue=orchestrator count=1")
    assert "ValueError: " in second
