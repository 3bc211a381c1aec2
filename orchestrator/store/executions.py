"""Reading executions and writing what operators ask for. None of it is hot, none of it decides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from sqlalchemy import Connection as CoreConnection
from sqlalchemy import Select, select

from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import ExecutionFacts, StepAddress, StepFacts
from orchestrator.store import tables
from orchestrator.store.database import Connection

_STEP_FACTS = (
    "execution_id, name, scope, run, status, attempt, token, deaths, dispatch, sent,"
    " counter_updated, message_sent,"
    " wanted, live, items, next, due_at, began_at, ended_at, ended_no, holder, closed_by, error,"
    " absorbed_by, until_at, child, arrived, total"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedExecution:
    """What the full form of a record and operators' acts read of an execution under its lock."""

    id: UUID
    status: ExecutionStatus
    paused: bool
    reruns: int
    definition_id: int
    key: str | None

    @property
    def state(self) -> tuple[str, bool, int]:
        """What `record_steps` expects to find."""
        return str(self.status), self.paused, self.reruns


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """A step run that an operator's act made due: its message is to be sent."""

    address: StepAddress
    number: int
    queue: str


def has_ended(connection: Connection, execution_id: UUID) -> bool:
    """Return whether an execution has ended, or is not there; for whoever asks again and again."""
    row = connection.execute(
        "SELECT 1 FROM orchestrator.executions WHERE id = %s AND finished_at IS NULL",
        (execution_id,),
    ).fetchone()
    return row is None


def lock(connection: Connection, execution_id: UUID) -> LockedExecution | None:
    """Lock an execution until the transaction ends and read it; None when it does not exist."""
    row = connection.execute(
        """
        SELECT e.status, e.paused, e.reruns, e.definition_id, x.key
          FROM orchestrator.executions e
          JOIN orchestrator.execution_state x ON x.execution_id = e.id
         WHERE e.id = %s FOR NO KEY UPDATE OF e
        """,
        (execution_id,),
    ).fetchone()
    if row is None:
        return None
    return LockedExecution(
        id=execution_id,
        status=ExecutionStatus(row[0]),
        paused=row[1],
        reruns=row[2],
        definition_id=row[3],
        key=row[4],
    )


def holds(connection: Connection, address: StepAddress, token: int) -> bool:
    """Return whether a step run is still held under this token, and lock its row."""
    row = connection.execute(
        "SELECT 1 FROM orchestrator.steps WHERE execution_id = %s AND name = %s AND scope = %s"
        " AND run = %s AND status = 'running' AND token = %s FOR NO KEY UPDATE",
        (*address, token),
    ).fetchone()
    return row is not None


def step_rows(connection: Connection, execution_id: UUID) -> list[StepFacts]:
    """Return the step runs of an execution in the order of their keys."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"SELECT {_STEP_FACTS} FROM orchestrator.steps WHERE execution_id = %s"  # noqa: S608  # constant columns
            " ORDER BY name, scope, run",
            (execution_id,),
        ).fetchall()
    return [StepFacts.from_row(row) for row in rows]


def lock_steps(connection: Connection, execution_id: UUID) -> None:
    """Lock the step runs of a locked execution, against claims, which do not lock executions."""
    connection.execute(
        "SELECT 1 FROM orchestrator.steps WHERE execution_id = %s AND status <> 'superseded'"
        " ORDER BY name, scope, run FOR NO KEY UPDATE",
        (execution_id,),
    )


def position(connection: Connection, execution_id: UUID) -> int | None:
    """Return the journal position of an execution, which grows with whatever happens in it."""
    row = connection.execute(
        "SELECT position FROM orchestrator.executions WHERE id = %s", (execution_id,)
    ).fetchone()
    return None if row is None else row[0]


def current_runs(
    connection: Connection, execution_id: UUID, places: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """Return by (name, scope) the run that is not superseded, where there is one."""
    rows = connection.execute(
        """
        SELECT s.name, s.scope, s.run FROM unnest(%s::text[], %s::text[]) AS p(name, scope)
          JOIN orchestrator.steps s ON s.execution_id = %s AND s.name = p.name
           AND s.scope = p.scope AND s.status <> 'superseded'
        """,
        ([name for name, _ in places], [scope for _, scope in places], execution_id),
    ).fetchall()
    return {(row[0], row[1]): row[2] for row in rows}


def set_paused(connection: Connection, execution_id: UUID, *, paused: bool) -> None:
    """Set the pause flag of a locked execution."""
    connection.execute(
        "UPDATE orchestrator.executions SET paused = %s WHERE id = %s", (paused, execution_id)
    )


def dispatch_ready(
    connection: Connection, execution_id: UUID, *, unsent_after: timedelta
) -> list[Woken]:
    """Want a message for every ready step run of a locked execution that is due."""
    rows = connection.execute(
        """
        UPDATE orchestrator.steps s
           SET dispatch = s.dispatch + (NOT early)::int,
               dispatched_at = CASE WHEN early THEN s.dispatched_at ELSE now END,
               due_at = CASE WHEN early THEN s.due_at END,
               attend_at = CASE WHEN early THEN s.due_at ELSE now + %s END
          FROM (SELECT r.execution_id, r.name, r.scope, r.run, c.now,
                       coalesce(r.due_at > c.now, false) AS early
                  FROM orchestrator.steps r, (SELECT orchestrator.now() AS now) c
                 WHERE r.execution_id = %s AND r.status = 'ready') d
         WHERE (s.execution_id, s.name, s.scope, s.run) = (d.execution_id, d.name, d.scope, d.run)
        RETURNING s.execution_id, s.name, s.scope, s.run, s.dispatch, s.queue, d.early
        """,
        (unsent_after, execution_id),
    ).fetchall()
    return [
        Woken(address=StepAddress(*row[:4]), number=row[4], queue=row[5])
        for row in rows
        if not row[6]
    ]


def reopen_steps(connection: Connection, execution_id: UUID) -> list[StepAddress]:
    """Return failed and cut-off step runs of a locked execution to where they were.

    A failed one becomes ready with its attempts counted anew; a cancelled one becomes ready, or
    waiting when arrivals are missing. A failure that somebody took stays as it is. What ended while
    the execution was closing keeps its outcome.
    With nothing to return (cancelled, and all that had begun succeeded) the execution stays ended:
    it is for the re-run to open it.

    Returns:
        The step runs whose outcome was stored without ordering what follows, if the execution is
        open now: the caller orders it.
    """
    owing = connection.execute(
        """
        UPDATE orchestrator.steps SET closed_by = NULL
         WHERE execution_id = %s AND status = 'succeeded' AND closed_by IS NOT NULL
        RETURNING execution_id, name, scope, run
        """,
        (execution_id,),
    ).fetchall()
    opened = connection.execute(
        """
        WITH reopened AS (
            UPDATE orchestrator.steps s
               SET status = CASE WHEN s.live < s.wanted AND (s.total IS NULL OR s.arrived < s.total)
                                 THEN 'waiting' ELSE 'ready' END,
                   attempt = 0, deaths = 0, closed_by = NULL, cancel_asked = false, error = NULL,
                   due_at = NULL, ended_no = NULL, ended_at = NULL, holder = NULL,
                   lease_until = NULL, attend_at = NULL, until_at = NULL, child = NULL
              FROM orchestrator.steps old
             WHERE s.execution_id = %(id)s AND s.status IN ('failed', 'cancelled')
               AND s.absorbed_by IS NULL
               AND (old.execution_id, old.name, old.scope, old.run)
                 = (s.execution_id, s.name, s.scope, s.run)
            RETURNING (old.status = 'failed')::int AS failed),
        tally AS (
            SELECT count(*)::int AS ended, coalesce(sum(failed), 0)::int AS failed FROM reopened)
        UPDATE orchestrator.executions e
           SET finished = e.finished - t.ended, failed = e.failed - t.failed, status = 'running',
               finished_at = NULL
          FROM tally t WHERE e.id = %(id)s AND t.ended > 0
        """,
        {"id": execution_id},
    ).rowcount
    return [StepAddress(*row) for row in owing] if opened else []


def succeed_late(connection: Connection, execution_id: UUID) -> None:
    """Let a locked execution succeed that failed by its deadline and of which nothing is left."""
    connection.execute(
        """
        WITH moved AS (
            UPDATE orchestrator.executions
               SET status = 'succeeded', finished_at = orchestrator.now(), position = position + 1
             WHERE id = %(id)s RETURNING position, finished_at)
        INSERT INTO orchestrator.journal (execution_id, position, at, kind)
        SELECT %(id)s, position, finished_at, 'succeeded' FROM moved
        """,
        {"id": execution_id},
    )
    connection.execute("SELECT orchestrator.tell_parent_1(%s)", (execution_id,))


def reopen_absorbed(
    connection: Connection, execution_id: UUID, addresses: Sequence[StepAddress]
) -> None:
    """Make failed step runs of a locked execution ready that it had done without."""
    if not addresses:
        return
    connection.execute(
        """
        WITH reopened AS (
            UPDATE orchestrator.steps s
               SET status = 'ready', attempt = 0, deaths = 0, closed_by = NULL, absorbed_by = NULL,
                   cancel_asked = false, error = NULL, due_at = NULL, ended_no = NULL,
                   ended_at = NULL, holder = NULL, lease_until = NULL, until_at = NULL, child = NULL
              FROM unnest(%(names)s::text[], %(scopes)s::text[], %(runs)s::smallint[])
                     AS a(name, scope, run)
             WHERE s.execution_id = %(id)s AND (s.name, s.scope, s.run) = (a.name, a.scope, a.run)
               AND s.status = 'failed'
            RETURNING 1)
        UPDATE orchestrator.executions e
           SET finished = e.finished - t.count, failed = e.failed - t.count
          FROM (SELECT count(*)::int FROM reopened) t WHERE e.id = %(id)s
        """,
        {
            "id": execution_id,
            "names": [address.name for address in addresses],
            "scopes": [address.scope for address in addresses],
            "runs": [address.run for address in addresses],
        },
    )


def supersede(connection: Connection, execution_id: UUID, addresses: Sequence[StepAddress]) -> None:
    """Take step runs of a locked execution out of both counters; their payloads stay."""
    connection.execute(
        """
        WITH gone AS (
            UPDATE orchestrator.steps s
               SET status = 'superseded', attend_at = NULL, due_at = NULL, sent = s.dispatch,
                   ended_no = coalesce(s.ended_no, e.position),
                   ended_at = coalesce(s.ended_at, orchestrator.now())
              FROM unnest(%(names)s::text[], %(scopes)s::text[], %(runs)s::smallint[])
                     AS a(name, scope, run),
                   orchestrator.steps old, orchestrator.executions e
             WHERE s.execution_id = %(id)s AND (s.name, s.scope, s.run) = (a.name, a.scope, a.run)
               AND e.id = %(id)s
               AND (old.execution_id, old.name, old.scope, old.run)
                 = (s.execution_id, s.name, s.scope, s.run)
            RETURNING (old.ended_no IS NOT NULL)::int AS ended,
                      (old.status = 'failed')::int AS failed, old.ended_no, old.child),
        told AS (
            INSERT INTO orchestrator.events (execution_id, kind, source)
            SELECT child, 'cancel', %(id)s FROM gone WHERE child IS NOT NULL AND ended_no IS NULL),
        tally AS (SELECT count(*)::int AS rows, coalesce(sum(ended), 0)::int AS ended,
                         coalesce(sum(failed), 0)::int AS failed FROM gone)
        UPDATE orchestrator.executions e
           SET started = e.started - t.rows, finished = e.finished - t.ended,
               failed = e.failed - t.failed,
               status = 'running', finished_at = NULL
          FROM tally t WHERE e.id = %(id)s
        """,
        {
            "id": execution_id,
            "names": [address.name for address in addresses],
            "scopes": [address.scope for address in addresses],
            "runs": [address.run for address in addresses],
        },
    )
    # the head that kept an eye on a running row may be among the superseded
    connection.execute(
        "UPDATE orchestrator.steps SET attend_at = lease_until"
        " WHERE execution_id = %s AND status = 'running' AND attend_at IS NULL",
        (execution_id,),
    )


def keep_ends(
    connection: Connection, execution_id: UUID, ended: Sequence[StepFacts]
) -> set[StepAddress]:
    """Give superseded step runs back how they had ended before it was opened; return which."""
    if not ended:
        return set()
    rows = connection.execute(
        """
        UPDATE orchestrator.steps s
           SET attempt = a.attempt, deaths = a.deaths, error = a.error, closed_by = a.closed_by,
               ended_no = a.ended_no, ended_at = a.ended_at
          FROM jsonb_to_recordset(%(rows)s::jsonb)
            AS a(name text, scope text, run smallint, attempt smallint, deaths smallint,
                 error jsonb, closed_by text, ended_no integer, ended_at timestamptz)
         WHERE s.execution_id = %(id)s AND (s.name, s.scope, s.run) = (a.name, a.scope, a.run)
           AND s.status = 'superseded'
        RETURNING s.execution_id, s.name, s.scope, s.run
        """,
        {"id": execution_id, "rows": json.dumps([_end(row) for row in ended])},
    ).fetchall()
    return {StepAddress(*row) for row in rows}


def _end(row: StepFacts) -> dict[str, Any]:
    _, name, scope, run = row.address
    kept = ("attempt", "deaths", "error", "closed_by", "ended_no")
    facts = {column: getattr(row, column) for column in kept}
    ended_at = None if row.ended_at is None else row.ended_at.isoformat()
    return {"name": name, "scope": scope, "run": run, "ended_at": ended_at, **facts}


def insert_rerun(
    connection: Connection, execution_id: UUID, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert the step runs of a re-run, count them, and raise the execution's number of re-runs.

    Args:
        rows: name, scope, run, status (ready or waiting), queue, wanted, live, items, next, total
            and arrived of each.
    """
    connection.execute(
        """
        WITH made AS (
            INSERT INTO orchestrator.steps
                   (execution_id, name, scope, run, status, queue, wanted, live, items, next,
                    total, arrived)
            SELECT %(id)s, r.name, r.scope, r.run, r.status, r.queue, r.wanted, r.live, r.items,
                   r.next, r.total, r.arrived
              FROM jsonb_to_recordset(%(rows)s::jsonb)
                  AS r(name text, scope text, run smallint, status text,
                   queue text, wanted integer, live integer, items integer, next integer,
                   total integer, arrived integer)
            RETURNING 1)
        UPDATE orchestrator.executions
           SET started = started + (SELECT count(*) FROM made), reruns = reruns + 1
         WHERE id = %(id)s
        """,
        {"id": execution_id, "rows": json.dumps(list(rows))},
    )


def set_aside(
    connection: Connection, address: StepAddress, *, reason: str, detail: Mapping[str, Any]
) -> None:
    """Put a step run into quarantine with its reason."""
    connection.execute(
        "INSERT INTO orchestrator.quarantine (at, execution_id, name, scope, run, reason, detail)"
        " VALUES (orchestrator.now(), %s, %s, %s, %s, %s, %s::jsonb)",
        (*address, reason, json.dumps(dict(detail))),
    )


def release(connection: Connection, execution_id: UUID) -> None:
    """Release the step runs of an execution from quarantine."""
    connection.execute(
        "UPDATE orchestrator.quarantine SET released_at = orchestrator.now()"
        " WHERE execution_id = %s AND released_at IS NULL",
        (execution_id,),
    )


def count_row(connection: Connection, address: StepAddress) -> bool:
    """Count a step run that its locked execution does not include yet; False if it does."""
    return (
        connection.execute(
            """
            WITH counted AS (
                UPDATE orchestrator.steps SET counter_updated = true
                 WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s
                   AND NOT counter_updated
                RETURNING execution_id, (ended_no IS NOT NULL)::int AS ended,
                          (status = 'failed')::int AS failed)
            UPDATE orchestrator.executions e
               SET started = e.started + 1, finished = e.finished + c.ended,
                   failed = e.failed + c.failed
              FROM counted c WHERE e.id = c.execution_id
            """,
            address,
        ).rowcount
        == 1
    )


def dispatch_unsent(
    connection: Connection, address: StepAddress, *, unsent_after: timedelta
) -> Woken | None:
    """Want a new message for a ready step run whose newest is unconfirmed; None if none is."""
    row = connection.execute(
        """
        UPDATE orchestrator.steps
           SET dispatch = dispatch + 1, dispatched_at = orchestrator.now(),
               attend_at = orchestrator.now() + %s
         WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s AND status = 'ready'
           AND NOT message_sent
        RETURNING execution_id, name, scope, run, dispatch, queue
        """,
        (unsent_after, *address),
    ).fetchone()
    if row is None:
        return None
    return Woken(address=StepAddress(*row[:4]), number=row[4], queue=row[5])


def _execution_query() -> Select[Any]:
    executions, state, definitions = tables.executions, tables.execution_state, tables.definitions
    return select(
        executions.c.id,
        executions.c.definition_id,
        definitions.c.name.label("flow"),
        definitions.c.version,
        state.c.key,
        executions.c.status,
        executions.c.paused,
        executions.c.started,
        executions.c.finished,
        executions.c.failed,
        executions.c.position,
        executions.c.reruns,
        executions.c.created_at,
        executions.c.finished_at,
    ).select_from(
        executions.join(definitions, definitions.c.id == executions.c.definition_id).join(
            state, state.c.execution_id == executions.c.id
        )
    )


def find(connection: CoreConnection, execution_id: UUID) -> ExecutionFacts | None:
    """Return one execution."""
    query = _execution_query().where(tables.executions.c.id == execution_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else ExecutionFacts.from_row(dict(row))


def find_by_key(connection: CoreConnection, flow: str, key: str) -> tuple[UUID, bool] | None:
    """Return (execution id, whether it has expired) of a key."""
    query = select(tables.keys.c.execution_id, tables.keys.c.expires_at).where(
        tables.keys.c.definition == flow, tables.keys.c.key == key
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else (row[0], row[1] is not None)


def steps_of(connection: CoreConnection, execution_id: UUID) -> list[StepFacts]:
    """Return the step runs of an execution in the order in which they ended, open ones last."""
    columns = [tables.steps.c[name.strip()] for name in _STEP_FACTS.split(",")]
    query = (
        select(*columns)
        .where(tables.steps.c.execution_id == execution_id)
        .order_by(
            tables.steps.c.ended_no.nulls_last(),
            tables.steps.c.name,
            tables.steps.c.scope,
            tables.steps.c.run,
        )
    )
    return [StepFacts.from_row(dict(row)) for row in connection.execute(query).mappings()]


def history_of(connection: CoreConnection, execution_id: UUID) -> list[dict[str, Any]]:
    """Return the history of an execution: journal lines and ended step runs by position."""
    query = (
        select(tables.history)
        .where(tables.history.c.execution_id == execution_id)
        .order_by(tables.history.c.position, tables.history.c.name, tables.history.c.scope)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
