"""What operators' mirrors (Flower) are told of executions: read in one round trip for many."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from orchestrator.lifecycle import ExecutionStatus
from orchestrator.store.database import Connection

#: A larger input is not read to be shown, in bytes as it is stored.
_LARGE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an execution stands.

    Attributes:
        retries: how often an operator has retried it or run it again from a step, ``retried_at``
            when for the last time.
        failed_step, error: of one that is failing or has failed, the first step that failed.
        deadline: the one by which it failed; None if it did not fail so.
        is_active: whether a step of it runs or could run now; None when that was not asked.
    """

    id: UUID
    status: str
    paused: bool
    started: int
    finished: int
    created_at: datetime
    finished_at: datetime | None
    retries: int
    retried_at: datetime | None
    failed_step: str | None
    error: Mapping[str, Any] | None
    deadline: str | None
    is_active: bool | None

    @property
    def state(self) -> ExecutionStatus:
        """Its status."""
        return ExecutionStatus(self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Who an execution is: what about it does not change.

    Attributes:
        document: its input; None when that is large.
        parent, root: of a child execution, who called it and who called the first of them.
    """

    id: UUID
    flow: str
    key: str | None
    document: Mapping[str, Any] | None
    parent: UUID | None
    root: UUID | None


def standings(
    connection: Connection, executions: Collection[UUID], *, quiet: Collection[UUID]
) -> list[Standing]:
    """Return where executions stand; those that are gone are missing.

    Args:
        quiet: of which it is also asked whether anything of them is active.
    """
    with connection.cursor(row_factory=class_row(Standing)) as cursor:
        return cursor.execute(
            """
            SELECT e.id, e.status, e.paused, e.started, e.finished, e.created_at, e.finished_at,
                   r.retries, r.retried_at, f.place AS failed_step, f.error,
                   p.deadline,
                   CASE WHEN e.finished_at IS NULL AND e.id = ANY(%(quiet)s) THEN EXISTS (
                        SELECT FROM orchestrator.steps a
                         WHERE a.execution_id = e.id
                           AND (a.status = 'running' OR a.status = 'ready'
                                AND coalesce(a.due_at <= orchestrator.now(), true)))
                   END AS is_active
              FROM orchestrator.executions e
              CROSS JOIN LATERAL (
                   SELECT count(*)::int AS retries, max(j.at) AS retried_at
                     FROM orchestrator.journal j
                    WHERE j.execution_id = e.id AND j.kind IN ('retry', 'rerun')) r
              LEFT JOIN LATERAL (
                   SELECT concat_ws('/', nullif(s.scope, ''), s.name) AS place, s.error
                     FROM orchestrator.steps s
                    WHERE e.failed > 0 AND e.status IN ('failing', 'failed')
                      AND s.execution_id = e.id AND s.status = 'failed' AND s.absorbed_by IS NULL
                    ORDER BY s.ended_no LIMIT 1) f ON true
              LEFT JOIN LATERAL (
                   SELECT CASE WHEN j.kind = 'deadline' THEN j.data->>'after' END AS deadline
                     FROM orchestrator.journal j
                    WHERE e.status IN ('failing', 'failed')
                      AND j.execution_id = e.id AND j.kind IN ('failing', 'deadline')
                    ORDER BY j.position DESC LIMIT 1) p ON true
             WHERE e.id = ANY(%(ids)s)
            """,
            {"ids": list(executions), "quiet": list(quiet)},
        ).fetchall()


def introductions(connection: Connection, executions: Collection[UUID]) -> list[Introduction]:
    """Return who executions are; those that are gone are missing."""
    with connection.cursor(row_factory=class_row(Introduction)) as cursor:
        return cursor.execute(
            """
            SELECT e.id, d.name AS flow, x.key, x.parent_id AS parent, u.root,
                   CASE WHEN pg_column_size(x.input) <= %(large)s THEN x.input END AS document
              FROM orchestrator.executions e
              JOIN orchestrator.definitions d ON d.id = e.definition_id
              JOIN orchestrator.execution_state x ON x.execution_id = e.id
              LEFT JOIN LATERAL (
                   WITH RECURSIVE up AS (
                       SELECT x.parent_id AS id WHERE x.parent_id IS NOT NULL
                        UNION ALL
                       SELECT p.parent_id FROM up
                         JOIN orchestrator.execution_state p ON p.execution_id = up.id
                        WHERE p.parent_id IS NOT NULL)
                   SELECT up.id AS root FROM up JOIN orchestrator.execution_state t
                       ON t.execution_id = up.id AND t.parent_id IS NULL) u ON true
             WHERE e.id = ANY(%(ids)s)
            """,
            {"ids": list(executions), "large": _LARGE},
        ).fetchall()
