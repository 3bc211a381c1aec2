"""What was set aside with a reason: foreign messages with all they carried, and step runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row

from orchestrator.store.database import Connection

_FACTS = (
    "id, at, queue, execution_id, name AS step, scope, run, reason, detail, properties,"
    " length(body) AS size, released_at, dropped_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A row of `quarantine`: a foreign message if it has a queue, else a step run.

    Attributes:
        execution_id: the step run's, or the one that the message's release started.
        detail: ``problem`` is the sentence; what else is known of the reason.
        properties: what the message had beside its body, as `ForeignMessage.kept` reads it.
        size: of the body, in bytes.
        body: only where one row was asked for.
    """

    id: int
    at: datetime
    queue: str | None
    execution_id: UUID | None
    step: str | None
    scope: str | None
    run: int | None
    reason: str
    detail: Mapping[str, Any]
    properties: Mapping[str, Any] | None
    size: int | None
    released_at: datetime | None
    dropped_at: datetime | None
    body: bytes | None = None

    @property
    def is_open(self) -> bool:
        """Whether it waits for an operator."""
        return self.released_at is None and self.dropped_at is None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> SetAside:
        """Read a row of the query."""
        return cls(**row)


def set_message_aside(
    connection: Connection,
    *,
    queue: str,
    reason: str,
    detail: Mapping[str, Any],
    properties: Mapping[str, Any],
    body: bytes,
) -> int:
    """Put a foreign message into quarantine; return the row's id."""
    row = connection.execute(
        """
        INSERT INTO orchestrator.quarantine (at, queue, reason, detail, properties, body)
        VALUES (orchestrator.now(), %s, %s, %s::jsonb, %s::jsonb, %b) RETURNING id
        """,
        (queue, reason, json.dumps(dict(detail)), json.dumps(dict(properties)), body),
    ).fetchone()
    assert row is not None  # noqa: S101  # INSERT .. RETURNING of one row
    number: int = row[0]
    return number


def listed(
    connection: Connection, *, every: bool, queue: str | None, reason: str | None, limit: int
) -> list[SetAside]:
    """Return rows without bodies, newest first.

    Args:
        every: also what was released or dropped.
        queue, reason: only these.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"""
            SELECT {_FACTS} FROM orchestrator.quarantine
             WHERE (%s OR released_at IS NULL AND dropped_at IS NULL)
               AND (%s::text IS NULL OR queue = %s) AND (%s::text IS NULL OR reason = %s)
             ORDER BY id DESC LIMIT %s
            """,  # noqa: S608  # constant columns
            (every, queue, queue, reason, reason, limit),
        ).fetchall()
    return [SetAside.from_row(row) for row in rows]


def find(connection: Connection, number: int, *, lock: bool = False) -> SetAside | None:
    """Return a row with its body; locked until the transaction ends if asked for."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {_FACTS}, body FROM orchestrator.quarantine WHERE id = %s"  # noqa: S608
            + (" FOR UPDATE" if lock else ""),
            (number,),
        ).fetchone()
    return None if row is None else SetAside.from_row(row)


def set_released(
    connection: Connection, number: int, execution_id: UUID, *, detail: Mapping[str, Any]
) -> None:
    """Note that a locked message was released, and which execution that started or found."""
    connection.execute(
        "UPDATE orchestrator.quarantine SET released_at = orchestrator.now(), execution_id = %s,"
        " detail = detail || %s::jsonb WHERE id = %s",
        (execution_id, json.dumps(dict(detail)), number),
    )


def set_dropped(connection: Connection, number: int) -> None:
    """Note that a locked row was dropped."""
    connection.execute(
        "UPDATE orchestrator.quarantine SET dropped_at = orchestrator.now() WHERE id = %s",
        (number,),
    )


def write_audit(
    connection: Connection,
    act: str,
    actor: str,
    execution_id: UUID | None,
    detail: Mapping[str, Any],
) -> None:
    """Write an operator's act into the audit."""
    connection.execute(
        "INSERT INTO orchestrator.audit (at, actor, act, execution_id, detail)"
        " VALUES (orchestrator.now(), %s, %s, %s, %s::jsonb)",
        (actor, act, execution_id, json.dumps(dict(detail))),
    )


def expire(connection: Connection, *, keep: timedelta, limit: int) -> int:
    """Delete up to ``limit`` rows that were dropped longer ago than ``keep``; return how many.

    What was released goes with its execution, what is open stays.
    """
    return connection.execute(
        """
        DELETE FROM orchestrator.quarantine WHERE id IN (
            SELECT id FROM orchestrator.quarantine WHERE dropped_at < orchestrator.now() - %s
             ORDER BY dropped_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (keep, limit),
    ).rowcount
