"""Celery's task events for steps that had no message of their own.

A step continued inline is invisible to Celery, which knows only the message the chain began with.
These events make it a row in Flower like any other: received, started, and how it ended. They are
kept until the delivery ends and go out together, which costs a fifth of sending each; they are told
and forgotten, and a broker that is away costs nothing but the events.

A process of the pool has no event dispatcher of Celery's, so each thread that runs steps has one
here, in the name of its worker and on a connection of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import kombu
from celery import Celery
from celery.events import EventDispatcher

from orchestrator.records import Claimed
from orchestrator.runtime.delivery import Ended
from orchestrator.runtime.outcomes import (
    Awaits,
    Calls,
    Expanded,
    Failed,
    Parked,
    Retried,
    Skipped,
    Sleeps,
    Succeeded,
)
from workers.message import arguments_text, keywords_text

log = logging.getLogger(__name__)

#: After a broken connection no events are sent for so long, in seconds.
PAUSE = 5.0


class InlineEvents:
    """Tells Celery's monitors of inline steps."""

    def __init__(self, app: Celery, connect: Callable[[], kombu.Connection], hostname: str) -> None:
        self._app, self._connect, self._hostname = app, connect, hostname
        self._local = threading.local()

    def ended(self, end: Ended) -> None:
        """Keep the events of an attempt that was recorded."""
        if not end.inline:
            return
        uuid = inline_id(end.claimed)
        kept = self._kept()
        now = time.time()
        kept.append((now - end.seconds, "task-received", _introduction(end, uuid)))
        kept.append((now - end.seconds, "task-started", {"uuid": uuid}))
        kept.append((now, *_conclusion(end, uuid)))

    def flush(self) -> None:
        """Send what was kept: the delivery is over."""
        kept = self._kept()
        if not kept:
            return
        events, self._local.kept = kept, []
        if time.monotonic() < getattr(self._local, "silent_until", 0.0):
            return
        try:
            dispatcher = self._dispatcher()
            for timestamp, name, fields in events:
                dispatcher.send(name, timestamp=timestamp, **fields)
            dispatcher.flush()
        except Exception as error:  # noqa: BLE001 - events are told and forgotten
            log.info("events are not sent for %g s: %s", PAUSE, error)
            self._local.dispatcher = None
            self._local.silent_until = time.monotonic() + PAUSE

    def _kept(self) -> list[tuple[float, str, dict[str, Any]]]:
        if not hasattr(self._local, "kept"):
            self._local.kept = []
        kept: list[tuple[float, str, dict[str, Any]]] = self._local.kept
        return kept

    def _dispatcher(self) -> EventDispatcher:
        if getattr(self._local, "dispatcher", None) is None:
            self._local.dispatcher = EventDispatcher(
                self._connect(),
                hostname=self._hostname,
                app=self._app,
                buffer_group=["task"],
                buffer_limit=500,
                buffer_while_offline=False,
            )
        dispatcher: EventDispatcher = self._local.dispatcher
        return dispatcher


def inline_id(claimed: Claimed) -> str:
    """Return the Celery task id of a step that was continued inline: of message number 0."""
    return f"{claimed.address.id}.0"


def _introduction(end: Ended, uuid: str) -> dict[str, Any]:
    claimed = end.claimed
    return {
        "uuid": uuid,
        "name": end.task,
        "args": arguments_text(claimed.key or "", claimed.address.scope),
        "kwargs": keywords_text(claimed.address.run, 0),
        "root_id": str(claimed.address.execution_id),
        "parent_id": None,
        "retries": claimed.attempt - 1,
        "eta": None,
        "expires": None,
    }


def _conclusion(end: Ended, uuid: str) -> tuple[str, dict[str, Any]]:
    match end.outcome:
        case Succeeded() | Expanded():
            return "task-succeeded", {"uuid": uuid, "result": "inline", "runtime": end.seconds}
        case Retried(_, error):
            name = "task-retried"
        case Failed(error, _):
            name = "task-failed"
        case Skipped(reason):  # a word of ours makes a state of its own in Flower: SKIPPED
            return "task-skipped", {"uuid": uuid, "result": reason}
        case Parked(until, child):
            wanted = f"child {child}" if child else f"until {until}" if until else "a signal"
            return "task-waiting", {"uuid": uuid, "result": wanted}
        case Sleeps() | Awaits() | Calls():  # recorded before, and the answer was lost
            return "task-waiting", {"uuid": uuid, "result": "as recorded before"}
    return name, {
        "uuid": uuid,
        "exception": f"{error['kind']}: {error['message']}",
        "traceback": error.get("traceback", ""),
    }
