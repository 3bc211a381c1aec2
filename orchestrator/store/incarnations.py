"""Rows of `workers` and the advisory locks that prove a process alive (protocol.md 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from orchestrator.records import StepAddress
from orchestrator.store.database import Connection

# Namespaced so that a user's own advisory locks do not collide with ours.
_LOCK_KEY = "hashtextextended('orchestrator.workers/' || {}::text, 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncarnationFacts:
    """An incarnation that has not ended.

    Attributes:
        silent: how long ago it has beaten, by the database's clock.
    """

    id: UUID
    parent: UUID | None
    host: str
    pid: int
    born_at: float
    queues: tuple[str, ...]
    silent: timedelta


def insert(
    connection: Connection,
    *,
    parent: UUID | None,
    host: str,
    pid: int,
    born_at: float,
    queues: Sequence[str],
    functions: Sequence[str],
    lock: bool,
) -> UUID:
    """Store a new incarnation and, with ``lock``, take its advisory lock on this session."""
    row = connection.execute(
        f"""
        WITH made AS (SELECT orchestrator.uuid7() AS id, orchestrator.now() AS now),
        lock AS MATERIALIZED (
            SELECT CASE WHEN %s THEN pg_try_advisory_lock({_LOCK_KEY.format("m.id")}) END
              FROM made m)
        INSERT INTO orchestrator.workers
               (id, parent, host, pid, born_at, started_at, beat_at, queues, functions)
        SELECT m.id, %s, %s, %s, %s, m.now, m.now, %s, %s FROM made m, lock
        RETURNING id
        """,  # noqa: S608  # the only thing formatted in is the constant above
        (lock, parent, host, pid, born_at, list(queues), list(functions)),
    ).fetchone()
    assert row is not None  # noqa: S101  # INSERT .. RETURNING of one row
    identity: UUID = row[0]
    return identity


def relock(connection: Connection, incarnation: UUID) -> bool:
    """Take this incarnation's lock on a new session; False while the old one still holds it."""
    row = connection.execute(
        f"SELECT pg_try_advisory_lock({_LOCK_KEY.format('%s::uuid')})",  # constant
        (incarnation,),
    ).fetchone()
    return row is not None and row[0]


def is_alive(connection: Connection, incarnation: UUID) -> bool:
    """Return whether this incarnation has not been declared ended."""
    row = connection.execute(
        "SELECT ended_at IS NULL FROM orchestrator.workers WHERE id = %s", (incarnation,)
    ).fetchone()
    return row is not None and row[0]


def beat(connection: Connection, claims: Mapping[UUID, Mapping[str, Sequence[str]]]) -> set[UUID]:
    """Renew the beat of these incarnations, store what each claimed last; return the living.

    Args:
        claims: per incarnation, per queue: [dispatch time of the newest message claimed, time of
            that claim].
    """
    rows = connection.execute(
        """
        UPDATE orchestrator.workers w
           SET beat_at = orchestrator.now(), claims = w.claims || b.claims
          FROM unnest(%s::uuid[], %s::jsonb[]) AS b(id, claims)
         WHERE w.id = b.id AND w.ended_at IS NULL RETURNING w.id
        """,
        (list(claims), [json.dumps(dict(queues)) for queues in claims.values()]),
    ).fetchall()
    return {row[0] for row in rows}


_FACTS = "w.id, w.parent, w.host, w.pid, w.born_at, w.queues, orchestrator.now() - w.beat_at"


def alive(connection: Connection) -> list[IncarnationFacts]:
    """Return the incarnations that have not ended, oldest first."""
    rows = connection.execute(
        f"SELECT {_FACTS} FROM orchestrator.workers w WHERE w.ended_at IS NULL ORDER BY w.id"  # noqa: S608  # constant
    ).fetchall()
    return [_facts(row) for row in rows]


def holder_of(connection: Connection, address: StepAddress) -> IncarnationFacts | None:
    """Return the incarnation that holds or held a step run, if it has not ended."""
    row = connection.execute(
        f"SELECT {_FACTS} FROM orchestrator.steps s JOIN orchestrator.workers w ON w.id = s.holder"  # noqa: S608  # constant
        " WHERE s.execution_id = %s AND s.name = %s AND s.scope = %s AND s.run = %s"
        " AND w.ended_at IS NULL",
        address,
    ).fetchone()
    return None if row is None else _facts(row)


def unlocked(connection: Connection, incarnations: Sequence[UUID]) -> list[UUID]:
    """Return those whose advisory lock is free: their session is gone."""
    rows = connection.execute(
        f"""
        SELECT id FROM unnest(%s::uuid[]) AS a(id)
         WHERE pg_try_advisory_xact_lock_shared({_LOCK_KEY.format("a.id")})
        """,  # noqa: S608  # constant
        (list(incarnations),),
    ).fetchall()
    return [row[0] for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """How an incarnation was ended.

    Attributes:
        queues: what it consumed.
        reason: as it is stored.
    """

    at: datetime
    queues: tuple[str, ...]
    reason: str


def end(
    connection: Connection, incarnation: UUID, *, died: bool | None, reason: str
) -> Parting | None:
    """End an incarnation and have the sweeps look at what it held; None when it had ended already.

    Args:
        died: whether that is a death. None: it left by itself, which is one if it still held a step
            run. It neither recorded it nor handed it back, and what makes a process leave would do
            so for ever.
    """
    with connection.transaction():
        row = connection.execute(
            """
            UPDATE orchestrator.workers SET ended_at = orchestrator.now(), died = %s, reason = %s
             WHERE id = %s AND ended_at IS NULL RETURNING ended_at, queues
            """,
            (bool(died), reason, incarnation),
        ).fetchone()
        if row is None:
            return None
        # heads of its inline segments lead to the rows behind them, which have no `attend_at` of
        # their own
        attended = connection.execute(
            """
            WITH watched AS MATERIALIZED (
                SELECT execution_id, name, scope, run FROM orchestrator.steps
                 WHERE attend_at IS NOT NULL AND holder = %(id)s AND status <> 'ready'),
            held AS MATERIALIZED (
                SELECT s.execution_id, s.name, s.scope, s.run FROM orchestrator.steps s
                 WHERE s.execution_id IN (SELECT w.execution_id FROM watched w)
                   AND (s.holder = %(id)s AND s.status = 'running'
                        OR (s.execution_id, s.name, s.scope, s.run) IN (SELECT * FROM watched))
                 ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE)
            UPDATE orchestrator.steps s SET attend_at = orchestrator.now()
              FROM held h
             WHERE (s.execution_id, s.name, s.scope, s.run)
                 = (h.execution_id, h.name, h.scope, h.run)
            RETURNING s.status = 'running' AND s.holder = %(id)s
            """,
            {"id": incarnation},
        ).fetchall()
        held = sum(one[0] for one in attended)
        if died is None and held:
            reason = f"{reason}, with {held} step {'run' if held == 1 else 'runs'} in its hands"
            connection.execute(
                "UPDATE orchestrator.workers SET died = true, reason = %s WHERE id = %s",
                (reason, incarnation),
            )
        return Parting(at=row[0], queues=tuple(row[1]), reason=reason)


def take_back_death(
    connection: Connection, incarnation: UUID, running: Sequence[tuple[StepAddress, int]]
) -> bool:
    """Note that an incarnation declared dead lives; False if it was not declared dead.

    Args:
        running: in the order of their keys, what it holds by its own account: (step run, token).
            Whoever took one of these over since then has counted a death that was none.
    """
    with connection.transaction():
        row = connection.execute(
            """
            UPDATE orchestrator.workers SET died = false, reason = 'lives, though ' || reason
             WHERE id = %s AND died RETURNING ended_at
            """,
            (incarnation,),
        ).fetchone()
        if row is None:
            return False
        connection.execute(
            """
            WITH counted AS MATERIALIZED (
                SELECT s.execution_id, s.name, s.scope, s.run
                  FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::integer[])
                       AS r(execution_id, name, scope, run, token)
                  JOIN orchestrator.steps s USING (execution_id, name, scope, run)
                 WHERE s.token = r.token + 1 AND s.deaths > 0 AND s.began_at >= %s
                 ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE OF s)
            UPDATE orchestrator.steps s SET deaths = s.deaths - 1
              FROM counted c
             WHERE (s.execution_id, s.name, s.scope, s.run)
                 = (c.execution_id, c.name, c.scope, c.run)
            """,
            (
                [address.execution_id for address, _ in running],
                [address.name for address, _ in running],
                [address.scope for address, _ in running],
                [address.run for address, _ in running],
                [token for _, token in running],
                row[0],
            ),
        )
    return True


def hand_back(connection: Connection, incarnation: UUID, running: Sequence[StepAddress]) -> int:
    """Give these step runs back: nobody holds them; no death, no attempt is counted.

    Those of an execution that is closing stay as they are: nothing in it becomes ready again, and
    when the incarnation has ended they are in doubt.
    """
    running = sorted(running)
    with connection.transaction():
        open_ones = connection.execute(
            "SELECT id FROM orchestrator.executions WHERE id = ANY (%s) AND status = 'running'"
            " ORDER BY id FOR NO KEY UPDATE",
            ([address.execution_id for address in running],),
        ).fetchall()
        return connection.execute(
            """
            UPDATE orchestrator.steps s
               SET status = 'ready', attempt = s.attempt - 1, token = s.token + 1, holder = NULL,
                   lease_until = NULL, due_at = NULL, attend_at = orchestrator.now()
              FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[])
                     AS r(execution_id, name, scope, run)
             WHERE (s.execution_id, s.name, s.scope, s.run)
                 = (r.execution_id, r.name, r.scope, r.run)
               AND s.execution_id = ANY (%s) AND s.holder = %s AND s.status = 'running'
            """,
            (
                [address.execution_id for address in running],
                [address.name for address in running],
                [address.scope for address in running],
                [address.run for address in running],
                [row[0] for row in open_ones],
                incarnation,
            ),
        ).rowcount


def knows_function(connection: Connection, function: str) -> bool:
    """Return whether any living worker has this step function."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM orchestrator.workers"
        " WHERE ended_at IS NULL AND %s = ANY (functions))",
        (function,),
    ).fetchone()
    return row is not None and row[0]


def postpone(
    connection: Connection, address: StepAddress, *, delay: timedelta, error: Mapping[str, Any]
) -> bool:
    """Make a step run that nobody holds due later, without an attempt: its worker lacks it."""
    return (
        connection.execute(
            """
            UPDATE orchestrator.steps s
               SET due_at = orchestrator.now() + %s, attend_at = orchestrator.now() + %s,
                   error = %s::jsonb || jsonb_strip_nulls(
                       jsonb_build_object('failures', error->'failures'))
             WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s
               AND due_at IS NULL
               AND (status = 'ready' OR status = 'running' AND (
                        lease_until <= orchestrator.now()
                        OR EXISTS (SELECT 1 FROM orchestrator.workers w
                                    WHERE w.id = s.holder AND w.ended_at IS NOT NULL)))
            """,
            (delay, delay, json.dumps(error), *address),
        ).rowcount
        == 1
    )


def unpark(connection: Connection, functions: Sequence[str]) -> int:
    """Have the sweeps look at once at steps that waited for one of these functions."""
    return connection.execute(
        """
        UPDATE orchestrator.steps SET attend_at = orchestrator.now(), due_at = orchestrator.now()
         WHERE attend_at IS NOT NULL AND due_at IS NOT NULL AND error->>'kind' = 'parked'
           AND error->>'function' = ANY (%s)
        """,
        (list(functions),),
    ).rowcount


def forget(connection: Connection, older_than: timedelta, limit: int) -> int:
    """Delete incarnations that ended long ago and hold nothing."""
    return connection.execute(
        """
        DELETE FROM orchestrator.workers WHERE id IN (
            SELECT id FROM orchestrator.workers WHERE ended_at < orchestrator.now() - %s
             ORDER BY id LIMIT %s)
        """,
        (older_than, limit),
    ).rowcount


def _facts(row: Sequence[Any]) -> IncarnationFacts:
    return IncarnationFacts(
        id=row[0],
        parent=row[1],
        host=row[2],
        pid=row[3],
        born_at=row[4],
        queues=tuple(row[5]),
        silent=row[6],
    )
