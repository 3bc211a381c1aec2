"""Events: signals, ends of children, cancels by a parent, deadlines; and whom they wake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from orchestrator.records import StepAddress
from orchestrator.store.database import Connection
from orchestrator.store.executions import Woken


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one execution tells another, or its start tells itself for later.

    A child tells its parent ``ended``, a parent its child ``cancel`` or ``retry``; ``deadline`` is
    from an execution to itself.

    Attributes:
        after: how long after it was written it became due: of a deadline its time.
    """

    id: int
    execution_id: UUID
    kind: str
    source: UUID
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child execution as its parent sees it."""

    id: UUID
    definition_id: int
    status: str
    ended: bool


def now(connection: Connection) -> datetime:
    """Return the time of the database."""
    row = connection.execute("SELECT orchestrator.now()").fetchone()
    assert row is not None  # noqa: S101  # it returns one row
    moment: datetime = row[0]
    return moment


def add_signal(
    connection: Connection,
    execution_id: UUID,
    name: str,
    data: str,
    *,
    dedupe_key: str | None,
    actor: str | None,
) -> bool:
    """Keep a signal for an execution that the caller has locked; False if its key was there."""
    return (
        connection.execute(
            "INSERT INTO orchestrator.events (execution_id, kind, name, data, dedupe_key, actor)"
            " VALUES (%s, 'signal', %s, %s::jsonb, %s, %s)"
            " ON CONFLICT ON CONSTRAINT events_dedupe DO NOTHING",
            (execution_id, name, data, dedupe_key, actor),
        ).rowcount
        == 1
    )


def take_signal(
    connection: Connection, execution_id: UUID, name: str, by: str
) -> tuple[Any] | None:
    """Take the oldest signal of this name, under the execution's lock; None if there is none."""
    return connection.execute(
        """
        UPDATE orchestrator.events SET taken_at = orchestrator.now(), taken_by = %s
         WHERE id = (SELECT id FROM orchestrator.events
                      WHERE execution_id = %s AND name = %s AND kind = 'signal'
                        AND taken_at IS NULL ORDER BY id LIMIT 1)
        RETURNING data
        """,
        (by, execution_id, name),
    ).fetchone()


def tell(connection: Connection, execution_id: UUID, kind: str, source: UUID) -> None:
    """Post an event from one execution to another."""
    connection.execute(
        "INSERT INTO orchestrator.events (execution_id, kind, source) VALUES (%s, %s, %s)",
        (execution_id, kind, source),
    )


def take_between(connection: Connection) -> Event | None:
    """Take the first event between executions that is due and that nobody else is taking, if any.

    It counts as taken when the caller's transaction commits.
    """
    row = connection.execute(
        """
        UPDATE orchestrator.events SET taken_at = orchestrator.now()
         WHERE id = (SELECT id FROM orchestrator.events
                      WHERE taken_at IS NULL AND kind <> 'signal' AND due_at <= orchestrator.now()
                      ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, execution_id, kind, source, due_at - at
        """
    ).fetchone()
    if row is None:
        return None
    return Event(id=row[0], execution_id=row[1], kind=row[2], source=row[3], after=row[4])


def put_off(connection: Connection, event_id: int, pause: timedelta) -> None:
    """Let an event that was taken in this transaction be due again after a pause."""
    connection.execute(
        "UPDATE orchestrator.events SET taken_at = NULL, due_at = orchestrator.now() + %s"
        " WHERE id = %s",
        (pause, event_id),
    )


def drop_deadlines(connection: Connection, *, limit: int) -> int:
    """Take at once the due deadlines of executions that have ended in time; return how many."""
    return connection.execute(
        """
        UPDATE orchestrator.events SET taken_at = orchestrator.now()
         WHERE id IN (SELECT v.id FROM orchestrator.events v
                        JOIN orchestrator.executions e ON e.id = v.execution_id
                       WHERE v.taken_at IS NULL AND v.kind = 'deadline'
                         AND v.due_at <= orchestrator.now() AND e.finished_at IS NOT NULL
                       ORDER BY v.due_at, v.id LIMIT %s FOR UPDATE OF v SKIP LOCKED)
        """,
        (limit,),
    ).rowcount


def deadline(connection: Connection, execution_id: UUID) -> datetime | None:
    """Return the deadline that is still ahead of an execution, or that nobody has handled yet."""
    row = connection.execute(
        "SELECT due_at FROM orchestrator.events"
        " WHERE execution_id = %s AND kind = 'deadline' AND taken_at IS NULL",
        (execution_id,),
    ).fetchone()
    return None if row is None else row[0]


def passed_deadline(connection: Connection, execution_id: UUID) -> str | None:
    """Return the deadline by which an execution failed; None if a step failed it, or nothing."""
    row = connection.execute(
        """
        SELECT CASE WHEN kind = 'deadline' THEN data->>'after' END FROM orchestrator.journal
         WHERE execution_id = %s AND kind IN ('failing', 'deadline')
         ORDER BY position DESC LIMIT 1
        """,
        (execution_id,),
    ).fetchone()
    return None if row is None else row[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Awake:
    """How the execution of a row stands that is woken: nothing is to be sent while paused."""

    paused: bool
    unsent_after: timedelta


_WAKE = """
WITH parked AS MATERIALIZED (
    SELECT s.execution_id, s.name, s.scope, s.run FROM orchestrator.steps s
     WHERE s.execution_id = %(id)s AND s.status = 'ready' AND s.due_at > orchestrator.now()
       AND {which}
     ORDER BY s.name, s.scope, s.run LIMIT %(limit)s FOR NO KEY UPDATE)
UPDATE orchestrator.steps s
   SET due_at = NULL, dispatch = s.dispatch + (NOT %(paused)s)::int,
       dispatched_at = CASE WHEN NOT %(paused)s THEN orchestrator.now() END,
       attend_at = CASE WHEN NOT %(paused)s THEN orchestrator.now() + %(unsent_after)s END
  FROM parked p
 WHERE (s.execution_id, s.name, s.scope, s.run) = (p.execution_id, p.name, p.scope, p.run)
RETURNING s.execution_id, s.name, s.scope, s.run, s.dispatch, s.queue
"""
# a node of another level may have the same name, and be waiting for its next attempt
_WAKE_WAITING = _WAKE.format(
    which="s.name = %(name)s AND regexp_replace(s.scope, '\\[[0-9]+\\]', '', 'g') = %(path)s",
)
_WAKE_INSIDE = _WAKE.format(
    which="s.name = ANY (%(names)s) AND s.scope >= %(item)s AND s.scope < %(item)s || '~'",
)
_WAKE_CALLER = _WAKE.format(
    which="s.name = %(name)s AND s.scope = %(scope)s AND s.run = %(run)s AND s.child = %(child)s"
)


def wake_waiting(
    connection: Connection,
    execution_id: UUID,
    places: Sequence[tuple[str, str]],
    awake: Awake,
    *,
    limit: int = 1,
) -> list[Woken]:
    """Make the first parked step runs of these places due.

    Args:
        places: (node name, the names of the eaches around it with slashes between).
    """
    woken: list[Woken] = []
    for name, path in places:  # of one name at a time, the key gives the first without a sort
        asked = {"name": name, "path": path}
        rest = limit - len(woken)
        woken += _woken(connection, _WAKE_WAITING, execution_id, asked, awake, limit=rest)
        if len(woken) == limit:
            break
    return woken


def wake_inside(
    connection: Connection, execution_id: UUID, item: str, names: Sequence[str], awake: Awake
) -> list[Woken]:
    """Make all parked step runs of these names due that are in an item, at any depth."""
    asked = {"names": list(names), "item": item}
    return _woken(connection, _WAKE_INSIDE, execution_id, asked, awake, limit=None)


def wake_caller(
    connection: Connection, execution_id: UUID, child: UUID, awake: Awake
) -> list[Woken]:
    """Make the step run due that waits for this child."""
    caller = connection.execute(
        "SELECT parent_name, parent_scope, parent_run FROM orchestrator.execution_state"
        " WHERE execution_id = %s AND parent_id = %s",
        (child, execution_id),
    ).fetchone()
    if caller is None:
        return []
    asked = {"name": caller[0], "scope": caller[1], "run": caller[2], "child": child}
    return _woken(connection, _WAKE_CALLER, execution_id, asked, awake, limit=1)


def _woken(
    connection: Connection,
    statement: LiteralString,
    execution_id: UUID,
    asked: dict[str, Any],
    awake: Awake,
    *,
    limit: int | None,
) -> list[Woken]:
    facts = {"paused": awake.paused, "unsent_after": awake.unsent_after, "limit": limit}
    rows = connection.execute(statement, {"id": execution_id, **asked, **facts}).fetchall()
    return [
        Woken(address=StepAddress(*row[:4]), number=row[4], queue=row[5])
        for row in rows
        if not awake.paused
    ]


def untaken(connection: Connection, execution_id: UUID, name: str) -> int:
    """Return how many signals of this name nobody has taken."""
    row = connection.execute(
        "SELECT count(*) FROM orchestrator.events"
        " WHERE execution_id = %s AND name = %s AND kind = 'signal' AND taken_at IS NULL",
        (execution_id, name),
    ).fetchone()
    return 0 if row is None else row[0]


def withdraw_cancel(connection: Connection, child: UUID, source: UUID) -> None:
    """Take back a parent's cancel that its child has not been told yet.

    Whoever is telling it right now is waited for.
    """
    connection.execute(
        "UPDATE orchestrator.events SET taken_at = orchestrator.now()"
        " WHERE execution_id = %s AND name = '' AND kind = 'cancel' AND source = %s"
        " AND taken_at IS NULL",
        (child, source),
    )


def depth(connection: Connection, execution_id: UUID) -> int:
    """Return how many executions are above this one."""
    row = connection.execute(
        "SELECT depth FROM orchestrator.execution_state WHERE execution_id = %s", (execution_id,)
    ).fetchone()
    return 0 if row is None else row[0]


def adopt(connection: Connection, child: UUID, address: StepAddress, depth: int) -> None:
    """Say whose child a new execution is."""
    connection.execute(
        "UPDATE orchestrator.execution_state SET parent_id = %s, parent_name = %s,"
        " parent_scope = %s, parent_run = %s, depth = %s WHERE execution_id = %s",
        (*address, depth, child),
    )


def child(connection: Connection, execution_id: UUID) -> Child | None:
    """Return how a child execution stands; None when it has expired."""
    row = connection.execute(
        "SELECT id, definition_id, status, finished_at IS NOT NULL FROM orchestrator.executions"
        " WHERE id = %s",
        (execution_id,),
    ).fetchone()
    if row is None:
        return None
    return Child(id=row[0], definition_id=row[1], status=row[2], ended=row[3])
