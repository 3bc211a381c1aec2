"""Executions as rows of Celery's monitors: what this process works on, told as events of a task.

An execution is shown as a task whose name is the flow's and whose id is the execution's, so that
its steps, which name it as their parent, hang below it. What is told is read from the database, for
all executions that this process has touched at once and at most twice a second; one that has not
ended is looked at again, ever more seldom, because others may end, pause or retry it.

A word that Celery does not know makes a state of its own: RUNNING, WAITING, PAUSED. From SUCCESS
and FAILURE a monitor leads only to RETRY, so an operator's retry is told as one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestrator.lifecycle import TERMINAL_EXECUTION, ExecutionStatus
from orchestrator.masking import shortened
from orchestrator.runtime import queries
from orchestrator.store import mirrors
from orchestrator.store.database import Connection, Database
from orchestrator.store.mirrors import Introduction, Standing

#: Time, name and fields of an event of Celery's.
Event = tuple[float, str, dict[str, Any]]

#: Seconds between two looks at the database, and between two at a touched execution.
PAUSE, NEXT = 0.5, 1.0
#: One that nobody here touches is looked at half as often each time, down to this, in seconds.
_SELDOM = 30.0
#: So many open executions are followed; of more the least recently touched are forgotten.
_FOLLOWED = 1000


@dataclass(slots=True)
class _Followed:
    """What this process knows of an execution.

    Attributes:
        due, pause: when it is looked at next on the monotonic clock, and how long after that.
        quiet: whether what it did last here was to wait.
        told: the state and counters that monitors were told last.
    """

    due: float = 0.0
    pause: float = NEXT
    quiet: bool = False
    introduced: bool = False
    told: tuple[Any, ...] | None = None
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRows:
    """The executions that this process has touched and that monitors show.

    Attributes:
        masked: names of what is secret in an input.
    """

    database: Database
    masked: Sequence[str]
    _followed: dict[UUID, _Followed] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def touch(self, execution: UUID, *, quiet: bool) -> bool:
        """Note that something happens here in an execution; return whether that was not expected.

        Args:
            quiet: what happens is that a step begins to wait for something.
        """
        with self._guard:
            known = self._followed.pop(execution, None)
            one = known or _Followed(quiet=quiet)
            changed = known is None or one.quiet is not quiet
            one.quiet, one.pause = quiet, NEXT
            one.due = min(one.due, time.monotonic() + NEXT)
            self._followed[execution] = one
            if len(self._followed) > _FOLLOWED:
                del self._followed[next(iter(self._followed))]
            return changed

    def next_look(self) -> float | None:
        """Return when the next execution is due on the monotonic clock; None: there is none."""
        with self._guard:
            return min((one.due for one in self._followed.values()), default=None)

    def look(self, *, early: bool = False) -> list[Event]:
        """Read what is due, and return the events that tell what has changed.

        Args:
            early: read what is not due as well, because there will be no later.

        Raises:
            Unavailable: the database stayed away.
        """
        now = time.monotonic()
        with self._guard:
            due = {key: one for key, one in self._followed.items() if early or one.due <= now}
            for one in due.values():
                one.due, one.pause = now + one.pause, min(2 * one.pause, _SELDOM)
        if not due:
            return []
        new = [key for key, one in due.items() if not one.introduced]
        quiet = [key for key, one in due.items() if one.quiet]
        found, known = self.database.run(_read, list(due), new, quiet)
        events: list[Event] = []
        for standing in found:
            one = due[standing.id]
            introduction = known.get(standing.id)
            if introduction is not None:
                events += _introduced(introduction, standing, self.masked)
                one.introduced = True
            events += _told(one, standing)
        open_ones = {one.id for one in found if one.state not in TERMINAL_EXECUTION}
        with self._guard:
            for key in due.keys() - open_ones:
                self._followed.pop(key, None)
        return events

    def untold(self, events: Sequence[Event]) -> None:
        """Start anew with the executions of these events: nobody heard them."""
        with self._guard:
            for _, _, fields in events:
                self._followed[UUID(fields["uuid"])] = _Followed()


def _read(
    connection: Connection, executions: list[UUID], new: list[UUID], quiet: list[UUID]
) -> tuple[list[Standing], dict[UUID, Introduction]]:
    known = {one.id: one for one in mirrors.introductions(connection, new)} if new else {}
    return mirrors.standings(connection, executions, quiet=quiet), known


def _introduced(who: Introduction, standing: Standing, masked: Sequence[str]) -> list[Event]:
    began, uuid = standing.created_at.timestamp(), str(who.id)
    document = "{… large}" if who.document is None else shortened(who.document, masked)
    received = {
        "uuid": uuid,
        "name": who.flow,
        "args": "()" if who.key is None else f"({who.key!r},)",
        "kwargs": document,
        "root_id": uuid if who.root is None else str(who.root),
        "parent_id": None if who.parent is None else str(who.parent),
        "retries": standing.retries,
        "eta": None,
        "expires": None,
    }
    return [(began, "task-received", received), (began, "task-started", {"uuid": uuid})]


def _told(one: _Followed, standing: Standing) -> list[Event]:
    """Return the events of what has changed since the last look."""
    word = _word(standing)
    progress = f"{standing.finished}/{standing.started} steps"
    now = (word, progress, standing.retries)
    if one.told == now:
        return []
    uuid, at = str(standing.id), time.time()
    events: list[Event] = []
    if standing.retries > one.retries and standing.retried_at is not None:
        again = {"uuid": uuid, "retries": standing.retries, "exception": None, "traceback": None}
        events.append((standing.retried_at.timestamp(), "task-retried", again))
    one.told, one.retries = now, standing.retries
    ended = standing.finished_at.timestamp() if standing.finished_at else at
    match word:
        case "succeeded":
            seconds = max(0.0, ended - standing.created_at.timestamp())
            fields = {"uuid": uuid, "result": progress, "runtime": seconds}
            events.append((ended, "task-succeeded", fields))
        case "failed":
            fields = {"uuid": uuid, "result": progress, "exception": _why(standing)}
            fields["traceback"] = (standing.error or {}).get("traceback", "")
            events.append((ended, "task-failed", fields))
        case _:
            events.append((ended, f"task-{word}", {"uuid": uuid, "result": progress}))
    return events


def _word(standing: Standing) -> str:
    if standing.state is not ExecutionStatus.RUNNING:
        return standing.status
    if standing.paused:
        return "paused"
    return "waiting" if standing.is_active is False else "running"


def _why(standing: Standing) -> str:
    error = standing.error
    if standing.deadline is not None:
        return queries.passed(standing.deadline)
    if error is None:
        return "no step of it failed"
    return f"{standing.failed_step}: {error.get('kind')}: {error.get('message')}"
