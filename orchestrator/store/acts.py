"""What operators' acts need beside the moves: were they done, who holds a row, what was the input.

All of it under the lock of the execution, which the caller holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator.records import Claimed, StepAddress
from orchestrator.store.database import Connection
from orchestrator.store.executions import Woken


def write(
    connection: Connection,
    execution_id: UUID,
    kind: str,
    actor: str,
    detail: Mapping[str, Any],
    *,
    act: UUID | None = None,
) -> None:
    """Write an operator's act into the journal of a locked execution and into the audit.

    Args:
        act: the id by which `acted` finds it again.
    """
    connection.execute(
        """
        WITH moved AS (
            UPDATE orchestrator.executions SET position = position + 1 WHERE id = %(id)s
            RETURNING position),
        line AS (
            INSERT INTO orchestrator.journal (execution_id, position, at, kind, actor, data)
            SELECT %(id)s, position, orchestrator.now(), %(kind)s, %(actor)s, %(data)s::jsonb
              FROM moved)
        INSERT INTO orchestrator.audit (at, actor, act, execution_id, detail)
        VALUES (orchestrator.now(), %(actor)s, %(kind)s, %(id)s,
                %(data)s::jsonb || jsonb_strip_nulls(jsonb_build_object('act', %(act)s::text)))
        """,
        {
            "id": execution_id,
            "kind": kind,
            "actor": actor,
            "data": json.dumps(dict(detail)),
            "act": None if act is None else str(act),
        },
    )


def note(connection: Connection, kind: str, actor: str, detail: Mapping[str, Any]) -> None:
    """Write an act that concerns no single execution into the audit."""
    connection.execute(
        "INSERT INTO orchestrator.audit (at, actor, act, detail)"
        " VALUES (orchestrator.now(), %s, %s, %s::jsonb)",
        (actor, kind, json.dumps(dict(detail))),
    )


def acted(connection: Connection, execution_id: UUID, act: UUID) -> bool:
    """Return whether the act with this id was done: its commit succeeded, its answer was lost.

    The execution's lock makes this sure: whoever did it has committed, or never will.
    """
    row = connection.execute(
        "SELECT 1 FROM orchestrator.audit WHERE execution_id = %s AND detail->>'act' = %s",
        (execution_id, str(act)),
    ).fetchone()
    return row is not None


def unsent(connection: Connection, execution_id: UUID) -> list[Woken]:
    """Return the ready step runs whose newest message is not known to be sent."""
    rows = connection.execute(
        """
        SELECT execution_id, name, scope, run, dispatch, queue FROM orchestrator.steps
         WHERE execution_id = %s AND status = 'ready' AND due_at IS NULL AND NOT message_sent
         ORDER BY name, scope, run
        """,
        (execution_id,),
    ).fetchall()
    return [Woken(address=StepAddress(*row[:4]), number=row[4], queue=row[5]) for row in rows]


def seize(
    connection: Connection, address: StepAddress, *, holder: UUID, lease: timedelta
) -> Claimed | None:
    """Take a step run that is ready or running, whoever holds it; None when it is neither.

    The token grows, so a worker that still runs it cannot record any more. No attempt is counted.
    """
    row = connection.execute(
        """
        WITH seen AS MATERIALIZED (
            SELECT s.execution_id, s.name, s.scope, s.run, s.status, s.holder
              FROM orchestrator.steps s
             WHERE s.execution_id = %s AND s.name = %s AND s.scope = %s AND s.run = %s
               AND s.status IN ('ready', 'running')
               FOR NO KEY UPDATE)
        UPDATE orchestrator.steps s
           SET status = 'running', holder = %s, token = s.token + 1, nonce = NULL, due_at = NULL,
               lease_until = orchestrator.now() + %s,
               began_at = coalesce(s.began_at, orchestrator.now())
          FROM seen, orchestrator.executions e, orchestrator.execution_state x
         WHERE (s.execution_id, s.name, s.scope, s.run)
             = (seen.execution_id, seen.name, seen.scope, seen.run)
           AND e.id = s.execution_id AND x.execution_id = s.execution_id
        RETURNING s.token, s.attempt, s.deaths, s.queue, s.wanted, s.live, s.items, e.definition_id,
                  x.key, CASE WHEN seen.status = 'running' THEN seen.holder END, s.child
        """,
        (*address, holder, lease),
    ).fetchone()
    if row is None:
        return None
    return Claimed(
        address=address,
        token=row[0],
        attempt=row[1],
        deaths=row[2],
        queue=row[3],
        wanted=row[4],
        live=row[5],
        items=row[6],
        definition_id=row[7],
        key=row[8],
        taken_from=row[9],
        child=row[10],
    )


def change_input(
    connection: Connection, execution_id: UUID, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Replace parameters of an execution's input; return the old values of those it had."""
    row = connection.execute(
        """
        WITH old AS MATERIALIZED (
            SELECT x.input FROM orchestrator.execution_state x
             WHERE x.execution_id = %(id)s FOR NO KEY UPDATE)
        UPDATE orchestrator.execution_state x SET input = x.input || %(changes)s::jsonb
          FROM old WHERE x.execution_id = %(id)s
        RETURNING (SELECT coalesce(jsonb_object_agg(o.key, o.value), '{}')
                     FROM jsonb_each(old.input) o WHERE %(changes)s::jsonb ? o.key)
        """,
        {"id": execution_id, "changes": json.dumps(dict(changes))},
    ).fetchone()
    replaced: dict[str, Any] = {} if row is None else row[0]
    return replaced
