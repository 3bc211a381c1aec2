"""The hot moves: start, claim, load, record, mark. One round trip and one commit each.

They are the calls of the functions of migrations 0002, 0003, 0007 and 0008 (protocol.md 4); each
takes a psycopg connection in autocommit, or inside a transaction that the full form of a record has
opened. Arrays of ids travel as array literals written by hand, which costs the client less than the
driver's adaption (hotpath.md 3). None of them decides anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.records import Claimed, Ordered, Recorded, Started, StepAddress, StepMessage
from orchestrator.store.database import Connection

_START = """
SELECT execution_id, created, input_hash, expired
  FROM orchestrator.start_execution_2(%s, %s, %s, %s, %s::jsonb, %s, %s::jsonb, %s, %s)
"""
_CLAIM = """
SELECT execution_id, name, scope, run, attempt, token, deaths, taken_from, wanted, live, items,
       queue, dispatched_at, definition_id, key, until_at, child
  FROM orchestrator.claim_steps_3(%s::uuid[], %s::text[], %s::text[], %s::smallint[],
                                    %s::integer[], %s, %s, %s)
"""
_RECORD_STEP = """
SELECT orchestrator.record_step_2(%s, %s, %s, %s::smallint, %s, %s, %s, %s::jsonb, %s, %s, %s, %s,
                                  %s, %s, %s, %s::smallint, %s, %s)
"""
_RECORD_STEPS = """
SELECT kind, name, scope, run, number, token, attempt, queue, wanted, live, items
  FROM orchestrator.record_steps_2(%s, %s, %s, %s::smallint, %s, %s, %s::jsonb, %s::jsonb,
       %s::jsonb, %s::jsonb, %s::jsonb, %s::jsonb, %s::jsonb, %s, %s, %s, %s, %s::smallint, %s, %s)
"""
_ORDERED_BY = """
SELECT kind, name, scope, run, number, token, attempt, queue, wanted, live, items
  FROM orchestrator.ordered_by_1(%s, %s)
"""
_FENCED = "OR001"


def start_execution(
    connection: Connection,
    *,
    execution_id: UUID,
    flow: str,
    definition_id: int,
    key: str | None,
    document: str,
    input_hash: str,
    orders: Sequence[tuple[str, str, str]],
    unsent_after: timedelta,
    actor: str | None,
    deadline: timedelta | None = None,
) -> Started:
    """Create an execution with its first step runs, or read who holds the key.

    The same id again gets the same answer.

    Args:
        execution_id: drawn once per start and kept over its repetitions.
        document: the input as JSON text, an object by parameter name.
        orders: (name, scope, queue) of the first step runs.
        deadline: how long after this start the execution fails if it has not ended.
    """
    row = connection.execute(
        _START,
        (
            execution_id,
            flow,
            definition_id,
            key,
            document,
            input_hash,
            first_orders(orders, deadline),
            unsent_after,
            actor,
        ),
    ).fetchone()
    assert row is not None  # noqa: S101  # the function returns exactly one row
    return Started(execution_id=row[0], created=row[1], input_hash=row[2], expired=row[3])


def first_orders(orders: Sequence[tuple[str, str, str]], deadline: timedelta | None) -> str:
    """Return as JSON text what a start orders; its deadline stands in the first order."""
    rows: list[dict[str, str | float]] = [
        {"name": name, "scope": scope, "queue": queue} for name, scope, queue in orders
    ]
    if deadline is not None:
        rows[0]["deadline"] = deadline.total_seconds()
    return json.dumps(rows)


def claim(
    connection: Connection,
    wanted: Sequence[tuple[StepAddress, int]],
    *,
    holder: UUID,
    lease: timedelta,
    nonce: int,
) -> list[Claimed]:
    """Take step runs that are ready, or whose holder is gone, under a lease.

    Args:
        wanted: step runs and the number of the message that named each.
        nonce: drawn once per call and kept over its repetitions: the same nonce again gets the same
            answer.
    """
    rows = connection.execute(
        _CLAIM,
        (
            _array(str(address.execution_id) for address, _ in wanted),
            [address.name for address, _ in wanted],
            [address.scope for address, _ in wanted],
            _array(str(address.run) for address, _ in wanted),
            _array(str(number) for _, number in wanted),
            holder,
            lease,
            nonce,
        ),
    ).fetchall()
    return [
        Claimed(
            address=StepAddress(*row[:4]),
            attempt=row[4],
            token=row[5],
            deaths=row[6],
            taken_from=row[7],
            wanted=row[8],
            live=row[9],
            items=row[10],
            queue=row[11],
            dispatched_at=row[12],
            definition_id=row[13],
            key=row[14],
            until_at=row[15],
            child=row[16],
        )
        for row in rows
    ]


def record_step(
    connection: Connection,
    claimed: Claimed,
    *,
    nonce: int,
    holder: UUID,
    output: str,
    large: bool,
    follows: tuple[str, str, str] | None,
    inline: bool,
    head: StepAddress,
    lease: timedelta,
    unsent_after: timedelta,
) -> Recorded:
    """Store one success and order at most one plain next step (protocol.md 4, the fast form).

    Args:
        output: the result as JSON text; ``large`` says that it belongs into `payloads`.
        follows: (name, scope, queue) of the next step run; ``inline``: it is taken by the recorder.
        head: the first row of the inline segment, whose lease the sweeps watch.
    """
    address = claimed.address
    name, scope, queue = follows or (None, None, None)
    try:
        row = connection.execute(
            _RECORD_STEP,
            (
                address.execution_id,
                address.name,
                address.scope,
                address.run,
                claimed.token,
                nonce,
                holder,
                output,
                large,
                name,
                scope,
                queue,
                inline,
                head.name,
                head.scope,
                head.run,
                lease,
                unsent_after,
            ),
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate == _FENCED:
            return Recorded(kind="fenced")
        raise
    assert row is not None  # noqa: S101  # a scalar function returns one row
    kind = row[0].removesuffix(" child")
    if follows is None or kind == "full":
        return Recorded(
            kind=kind,
            status="succeeded" if kind == "settled" else None,
            posted=kind != row[0],
        )
    ordered = Ordered(
        address=StepAddress(address.execution_id, follows[0], follows[1], 0),
        inline=inline,
        number=0 if inline else 1,
        token=1 if inline else 0,
        attempt=1 if inline else 0,
        queue=follows[2],
        wanted=None,
        live=None,
        items=None,
    )
    return Recorded(kind=kind, ordered=(ordered,))


def record_steps(
    connection: Connection,
    execution_id: UUID,
    *,
    expected: tuple[str, bool, int],
    nonce: int,
    holder: UUID | None,
    outcomes: Sequence[dict[str, Any]] = (),
    orders: Sequence[dict[str, Any]] = (),
    arrivals: Sequence[dict[str, Any]] = (),
    payloads: Sequence[dict[str, Any]] = (),
    inline: dict[str, str] | None = None,
    losers: Sequence[dict[str, Any]] = (),
    lines: Sequence[dict[str, Any]] = (),
    close: str | None = None,
    cause: str | None = None,
    head: StepAddress | None = None,
    lease: timedelta = timedelta(0),
    unsent_after: timedelta = timedelta(0),
) -> Recorded:
    """Store outcomes of one execution and all that follows from them.

    Migration 0003 says what each part means.

    Args:
        expected: (status, paused, reruns) for which the plan was made; any other state answers
            ``full``.
    """
    rows = connection.execute(
        _RECORD_STEPS,
        (
            execution_id,
            *expected,
            nonce,
            holder,
            _json(outcomes),
            _json(orders),
            _json(arrivals),
            _json(payloads),
            None if inline is None else json.dumps(inline),
            _json(losers),
            _json(lines),
            close,
            cause,
            head and head.name,
            head and head.scope,
            head and head.run,
            lease,
            unsent_after,
        ),
    ).fetchall()
    kind, status = rows[0][:2]
    ordered = [row for row in rows[1:] if row[0] != "events"]
    return Recorded(
        kind=kind,
        ordered=_ordered(execution_id, ordered),
        status=status,
        posted=len(ordered) < len(rows) - 1,
    )


def recall(connection: Connection, claimed: Claimed, nonce: int) -> Recorded | None:
    """Return the answer of a record whose commit succeeded though its answer was lost."""
    address = claimed.address
    row = connection.execute(
        "SELECT status FROM orchestrator.steps"
        " WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s"
        " AND nonce = %s AND (status <> 'running' OR token > %s)",
        (*address, nonce, claimed.token),
    ).fetchone()
    if row is None:
        return None
    rows = connection.execute(_ORDERED_BY, (address.execution_id, nonce)).fetchall()
    return Recorded(kind="recorded", ordered=_ordered(address.execution_id, rows))


def mark_sent(connection: Connection, messages: Sequence[StepMessage]) -> None:
    """Mark confirmed messages. A late confirm of an older message proves nothing newer.

    Committed without waiting for the disk: a mark lost in a crash costs one message sent again.
    """
    if not messages:
        return
    newest: dict[StepAddress, int] = {}
    for message in messages:
        newest[message.address] = max(newest.get(message.address, 0), message.number)
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = off")
        connection.execute(
            """
            WITH marked AS MATERIALIZED (
                SELECT s.execution_id, s.name, s.scope, s.run, m.number
                  FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::integer[])
                       AS m(execution_id, name, scope, run, number)
                  JOIN orchestrator.steps s USING (execution_id, name, scope, run)
                 WHERE s.sent < m.number
                 ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE OF s SKIP LOCKED)
            UPDATE orchestrator.steps s SET sent = greatest(s.sent, m.number)
              FROM marked m
             WHERE (s.execution_id, s.name, s.scope, s.run)
                 = (m.execution_id, m.name, m.scope, m.run)
            """,
            (
                _array(str(address.execution_id) for address in newest),
                [address.name for address in newest],
                [address.scope for address in newest],
                _array(str(address.run) for address in newest),
                _array(str(number) for number in newest.values()),
            ),
        )


def renew(
    connection: Connection,
    running: Sequence[tuple[StepAddress, int]],
    *,
    lease: timedelta,
    progress: Sequence[str | None] | None = None,
) -> list[tuple[StepAddress, bool]]:
    """Lengthen the leases of exactly these (step run, token) pairs.

    Also after their end, while nobody took them. A message that a sweep wanted in between finds the
    row held, and is used up.

    Args:
        progress: heartbeat data as JSON text, one per pair; None leaves what is stored.

    Returns:
        The pairs that are still held, each with whether its execution asks it to stop.
    """
    if not running:
        return []
    rows = connection.execute(
        """
        WITH clock AS MATERIALIZED (SELECT orchestrator.now() AS now),
        held AS MATERIALIZED (
            SELECT s.execution_id, s.name, s.scope, s.run, r.progress
              FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::integer[],
                          %s::text[]) AS r(execution_id, name, scope, run, token, progress)
              JOIN orchestrator.steps s USING (execution_id, name, scope, run)
             WHERE s.token = r.token AND s.status = 'running'
             ORDER BY 1, 2, 3, 4 FOR NO KEY UPDATE OF s)
        UPDATE orchestrator.steps s
           SET lease_until = c.now + %s, claimed = greatest(s.claimed, s.dispatch),
               attend_at = CASE WHEN s.attend_at IS NOT NULL THEN c.now + %s END,
               progress = coalesce(h.progress::jsonb, s.progress)
          FROM clock c, held h
         WHERE (s.execution_id, s.name, s.scope, s.run)
             = (h.execution_id, h.name, h.scope, h.run)
        RETURNING s.execution_id, s.name, s.scope, s.run, s.cancel_asked
        """,
        (
            _array(str(address.execution_id) for address, _ in running),
            [address.name for address, _ in running],
            [address.scope for address, _ in running],
            _array(str(address.run) for address, _ in running),
            _array(str(token) for _, token in running),
            list(progress) if progress is not None else [None] * len(running),
            lease,
            lease,
        ),
    ).fetchall()
    return [(StepAddress(*row[:4]), row[4]) for row in rows]


def failed_attempts(connection: Connection, address: StepAddress) -> int:
    """Return how many attempts of a step run that is held now have failed, as the last one noted.

    Deaths, hand-backs and takeovers are tries too, and no failures: a retry policy is about those.
    """
    row = connection.execute(
        "SELECT coalesce((error->>'failures')::integer, 0) FROM orchestrator.steps"
        " WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s",
        address,
    ).fetchone()
    return 0 if row is None else int(row[0])


def begin_deadline(connection: Connection, claimed: Claimed, deadline: timedelta) -> None:
    """Note until when attempts of a held step run may begin; noted once, it stays over them all."""
    connection.execute(
        "UPDATE orchestrator.steps SET until_at = orchestrator.now() + %s"
        " WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s"
        " AND status = 'running' AND token = %s AND until_at IS NULL",
        (deadline, *claimed.address, claimed.token),
    )


def is_too_late(
    connection: Connection, claimed: Claimed, *, delay: timedelta, deadline: timedelta
) -> bool:
    """Return whether an attempt of a held step run after this delay begins after its deadline."""
    row = connection.execute(
        """
        UPDATE orchestrator.steps SET until_at = coalesce(until_at, began_at + %s)
         WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s
           AND status = 'running' AND token = %s
        RETURNING orchestrator.now() + %s > until_at
        """,
        (deadline, *claimed.address, claimed.token, delay),
    ).fetchone()
    return row is not None and row[0]


def _ordered(execution_id: UUID, rows: Iterable[Sequence[Any]]) -> tuple[Ordered, ...]:
    return tuple(
        Ordered(
            address=StepAddress(execution_id, row[1], row[2], row[3]),
            inline=row[0] == "inline",
            number=row[4],
            token=row[5],
            attempt=row[6],
            queue=row[7],
            wanted=row[8],
            live=row[9],
            items=row[10],
        )
        for row in rows
    )


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return json.dumps(rows) if rows else "[]"


def _array(texts: Iterable[str]) -> str:
    return "{" + ",".join(texts) + "}"
