"""The one table of what this program tells about itself, and `emit`, which says it.

Every line has a name and exactly the fields listed here, so that logs can be searched and counted.
No field carries inputs, outputs or messages of errors: those stay in the database. Lines go through
structlog to the standard logger ``orchestrator``, which a program configures as it likes; a process
without logging of its own calls `configure`.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


@dataclass(frozen=True, slots=True)
class Event:
    """What a line says, how loud, and its fields; times are in the unit their name ends with."""

    says: str
    level: int
    fields: frozenset[str]


def _event(says: str, level: int, *fields: str) -> Event:
    return Event(says, level, frozenset(fields))


_STEP = ("execution_id", "flow", "step", "scope", "run")
_WORKER = ("incarnation", "host", "pid")
_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

EVENTS: Mapping[str, Event] = {
    "execution_started": _event("an execution was stored", _INFO, "execution_id", "flow", "key"),
    "execution_settled": _event("an execution ended", _INFO, "execution_id", "flow", "status"),
    "deadline_passed": _event(
        "an execution fails by its deadline", _WARNING, "execution_id", "deadline_s"
    ),
    "step_claimed": _event(
        "a worker took a step", _DEBUG, *_STEP, "attempt", "token", "incarnation"
    ),
    "step_recorded": _event(
        "an outcome was stored", _DEBUG, *_STEP, "attempt", "outcome", "duration_ms"
    ),
    "step_retry": _event(
        "a step failed, to be tried again", _INFO, *_STEP, "attempt", "error", "delay_s"
    ),
    "step_failed": _event("a step failed for good", _WARNING, *_STEP, "attempt", "error"),
    "step_timed_out": _event("an attempt took too long", _WARNING, *_STEP, "attempt", "timeout_s"),
    "step_fenced": _event(
        "an outcome was refused: another worker has the step", _WARNING, *_STEP, "token"
    ),
    "step_taken_over": _event(
        "a step was taken from another worker", _WARNING, *_STEP, "attempt", "previous", "proof"
    ),
    "step_quarantined": _event("a step killed too many workers", _ERROR, *_STEP, "deaths"),
    "step_unknown": _event("this worker does not have the step's function", _WARNING, *_STEP),
    "message_sent": _event("messages went to the broker", _DEBUG, "queue", "count"),
    "message_returned": _event("the broker has no such queue", _ERROR, *_STEP, "queue"),
    "message_refused": _event("the broker did not take a message", _WARNING, *_STEP, "queue"),
    "message_absorbed": _event("a message asked for nothing new", _DEBUG, *_STEP, "reason"),
    "dead_letter": _event(
        "the broker gave up on a step's message", _WARNING, *_STEP, "queue", "wanted"
    ),
    "incarnation_started": _event("a worker process began", _INFO, *_WORKER, "queues"),
    "incarnation_ended": _event("a worker process ended", _INFO, *_WORKER, "reason"),
    "incarnation_declared_dead": _event("a worker process is gone", _WARNING, *_WORKER, "proof"),
    "sweep_done": _event("a sweep found something to do", _INFO, "sweep", "count", "duration_ms"),
    "event_put_off": _event(
        "what was told an execution cannot be handled", _ERROR, "execution_id", "kind", "error"
    ),
    "database_unavailable": _event("the database does not answer", _WARNING, "error"),
    "broker_unavailable": _event("the broker does not answer", _WARNING, "error"),
    "definition_registered": _event(
        "a flow was registered", _INFO, "flow", "version", "fingerprint"
    ),
    "migration_applied": _event("the schema was changed", _INFO, "revision", "duration_ms"),
    "message_quarantined": _event(
        "a message of another program was set aside", _WARNING, "queue", "reason", "quarantine_id"
    ),
    "message_without_id": _event(
        "messages come without an id: of those redelivered only equal ones count as repeats",
        _WARNING,
        "queue",
    ),
    "reply_undeliverable": _event(
        "nobody takes a reply", _WARNING, "execution_id", "queue", "tries"
    ),
    "operator_acted": _event(
        "somebody changed an execution", _INFO, "execution_id", "act", "actor"
    ),
}


def emit(name: str, /, **fields: object) -> None:
    """Log the event ``name`` with exactly its fields; None stands for one that does not apply.

    Another name or other fields are a programming error and raise TypeError.
    """
    event = EVENTS.get(name)
    if event is None:
        raise TypeError(f"{name} is no event of orchestrator.telemetry")
    if fields.keys() != event.fields:
        differing = ", ".join(sorted(fields.keys() ^ event.fields))
        raise TypeError(f"{name} has not exactly its fields: {differing}")
    if _logger.isEnabledFor(event.level):
        _log.log(event.level, name, **{k: v for k, v in fields.items() if v is not None})


def configure(*, json: bool = False, level: int | str = logging.INFO) -> None:
    """Send all logging of this process to standard error, one line each, as text or as JSON."""
    renderer = structlog.processors.JSONRenderer(default=str) if json else _text_renderer
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _take_fields,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _hide_passwords,  # in the lines of other libraries too
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level, force=True)


_PASSWORD = re.compile(r"(://[^/@:\s]*):\S*@")
_line = structlog.processors.LogfmtRenderer(bool_as_flag=False)
_text_renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])


def _hide_passwords(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {
        name: _PASSWORD.sub(r"\1:***@", value) if isinstance(value, str) else value
        for name, value in event.items()
    }


def _to_record(_: WrappedLogger, __: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """Readable in whatever format the program's handlers have, with the fields beside the text."""
    fields = {name: value for name, value in event.items() if name != "event"}
    text = f"{event['event']} {_line(None, '', dict(fields))}".rstrip()
    return (text,), {"extra": {"orchestrator_event": event}}


def _take_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**event, **getattr(event["_record"], "orchestrator_event", {})}


_logger = logging.getLogger("orchestrator")
_log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _logger,
    processors=[_hide_passwords, _to_record],
    wrapper_class=structlog.stdlib.BoundLogger,
    context_class=dict,
)
