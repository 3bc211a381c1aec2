"""Celery's task events for what Celery does not see: inline steps, and executions as a whole.

A step continued inline is invisible to Celery, which knows only the message the chain began with.
Its events make it a row in Flower like any other: received, started, and how it ended. Executions
get a row of their own (`orchestrator.workers.mirror`), of which their steps are the children.

Whoever runs steps only notes what happened. One thread of each process tells it a moment later, on
connections of its own, many events in a message: a broker that is away costs no step any time, and
the events that were not told. A process without a listener has no such thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from uuid import UUID

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
    Outcome,
    Parked,
    Retried,
    Skipped,
    Sleeps,
    Succeeded,
)
from orchestrator.workers.message import arguments_text, keywords_text
from orchestrator.workers.mirror import PAUSE, Event, ExecutionRows

log = logging.getLogger(__name__)

#: After a broken connection nothing is told for so long, in seconds.
_SILENCE = 5.0
#: Events wait for others so long before they are sent, in seconds; so many may wait.
_GATHER, _KEPT = 0.1, 20_000
#: A connection to the database that is not used is kept so long, in seconds.
_IDLE = 10.0
#: A process that ends gives its last events so long, in seconds.
_LAST_WORDS = 2.0


class TaskEvents:
    """Tells Celery's monitors of inline steps and of executions."""

    def __init__(
        self,
        app: Celery,
        connect: Callable[[], kombu.Connection],
        hostname: str,
        executions: ExecutionRows,
    ) -> None:
        self._app, self._connect, self._hostname = app, connect, hostname
        self._executions = executions
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._awake, self._ending = threading.Event(), threading.Event()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._connection: kombu.Connection | None = None
        self._dispatcher: EventDispatcher | None = None

    def began(self, claimed: Claimed, task: str, inline: bool) -> None:
        """Note an attempt that begins, so that what takes long is seen while it does."""
        if inline:
            uuid, now = inline_id(claimed), time.time()
            self._kept.append((now, "task-received", _introduction(claimed, task, uuid)))
            self._kept.append((now, "task-started", {"uuid": uuid}))
        if self._executions.touch(claimed.address.execution_id, quiet=False):
            self.flush()

    def ended(self, end: Ended) -> None:
        """Note an attempt that was recorded."""
        if end.inline:
            self._kept.append((time.time(), *_conclusion(end, inline_id(end.claimed))))
        quiet = isinstance(end.outcome, Parked)
        self._executions.touch(end.claimed.address.execution_id, quiet=quiet)

    def moved(self, execution: UUID) -> None:
        """Have told of an execution in which something happened outside of a delivery."""
        self._executions.touch(execution, quiet=False)
        self.flush()

    def flush(self) -> None:
        """Have told what was noted: the delivery is over."""
        if self._thread is None:
            with self._guard:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                    self._thread.start()
        self._awake.set()

    def close(self) -> None:
        """Tell the last, and end."""
        self._ending.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORDS)

    def _run(self) -> None:
        looked, last = 0.0, False
        while not last:
            last = self._ending.is_set()
            if not last:
                self._rest(looked)
                self._ending.wait(_GATHER)
            rows: list[Event] = []
            if last or time.monotonic() >= looked + PAUSE:
                looked = time.monotonic()
                rows = self._of_executions(early=last)
            if not self._tell([*self._noted(), *rows]):
                self._executions.untold(rows)
                self._ending.wait(_SILENCE)
                self._kept.clear()
        self._hang_up()
        self._executions.database.forget()

    def _rest(self, looked: float) -> None:
        """Wait until there may be something to tell."""
        due = self._executions.next_look()
        if due is not None:
            self._awake.wait(max(0.0, max(due, looked + PAUSE) - time.monotonic()))
        elif not self._awake.wait(_IDLE):
            self._executions.database.forget()
            self._awake.wait()
        self._awake.clear()

    def _noted(self) -> list[Event]:
        return [self._kept.popleft() for _ in range(len(self._kept))]

    def _of_executions(self, *, early: bool) -> list[Event]:
        try:
            return self._executions.look(early=early)
        except Exception as error:  # noqa: BLE001 - the steps find out by themselves
            log.info("executions are not shown: %s", error)
            return []

    def _tell(self, events: list[Event]) -> bool:
        """Send events; return False when they cannot be sent."""
        if not events:
            return True
        try:
            if self._dispatcher is None:
                self._connection = self._connect()
                self._dispatcher = EventDispatcher(
                    self._connection,
                    hostname=self._hostname,
                    app=self._app,
                    buffer_group=["task"],
                    buffer_limit=500,
                    buffer_while_offline=False,
                )
            for timestamp, name, fields in events:
                self._dispatcher.send(name, timestamp=timestamp, **fields)
            self._dispatcher.flush()
        except Exception as error:  # noqa: BLE001 - events are told and forgotten
            log.info("events are not sent for %g s: %s", _SILENCE, error)
            self._hang_up()
            return False
        return True

    def _hang_up(self) -> None:
        connection, self._connection, self._dispatcher = self._connection, None, None
        if connection is None:
            return
        try:
            connection.collect(socket_timeout=1.0)
        except Exception as error:  # noqa: BLE001 - whatever a dead socket raises does not matter
            log.debug("while closing a broker connection: %r", error)


def inline_id(claimed: Claimed) -> str:
    """Return the Celery task id of a step that was continued inline: of message number 0."""
    return f"{claimed.address.id}.0"


def conclusion(outcome: Outcome, claimed: Claimed) -> str:
    """Return how an attempt ended, as a monitor's result of a task that Celery calls a success."""
    match outcome:
        case Expanded(items):
            return _counted(len(items))
        case Succeeded() if claimed.items is not None:
            return f"{_counted(claimed.items)} gathered"
        case Skipped(reason):
            return f"skipped: {reason}"
        case Parked(until, child):
            return f"waits for {_wanted(until, child)}"
        case Sleeps() | Awaits() | Calls():  # recorded before, and the answer was lost
            return "waits, as recorded before"
        case _:
            return f"attempt {claimed.attempt}"


def _counted(items: int) -> str:
    return "1 item" if items == 1 else f"{items} items"


def _wanted(until: object, child: object) -> str:
    return f"execution {child}" if child else f"{until:%Y-%m-%d %H:%M:%S}" if until else "a signal"


def _introduction(claimed: Claimed, task: str, uuid: str) -> dict[str, Any]:
    execution = str(claimed.address.execution_id)
    return {
        "uuid": uuid,
        "name": task,
        "args": arguments_text(claimed.key or "", claimed.address.scope),
        "kwargs": keywords_text(claimed.address.run, 0),
        "root_id": execution,
        "parent_id": execution,
        "retries": 0 if claimed.items is not None else claimed.attempt - 1,
        "eta": None,
        "expires": None,
    }


def _conclusion(end: Ended, uuid: str) -> tuple[str, dict[str, Any]]:
    match end.outcome:
        case Retried(_, error):
            name = "task-retried"
        case Failed(error, _):
            name = "task-failed"
        case outcome:
            fields = {"uuid": uuid, "result": f"inline, {conclusion(outcome, end.claimed)}"}
            match outcome:
                case Skipped():  # a word of ours makes a state of its own in Flower: SKIPPED
                    return "task-skipped", fields
                case Parked() | Sleeps() | Awaits() | Calls():
                    return "task-waiting", fields
            return "task-succeeded", {**fields, "runtime": end.seconds}
    return name, {
        "uuid": uuid,
        "exception": f"{error['kind']}: {error['message']}",
        "traceback": error.get("traceback", ""),
    }
