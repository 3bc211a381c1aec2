"""Who wants to hear how an execution ends, until the broker has the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from orchestrator.store.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedReply:
    """A reply that is due: its execution has ended.

    Attributes:
        tries: how often it was taken up, this time included.
    """

    execution_id: UUID
    reply_to: str
    correlation_id: str
    tries: int


def want(connection: Connection, execution_id: UUID, reply_to: str, correlation_id: str) -> None:
    """Want a reply when the execution has ended."""
    connection.execute(
        "INSERT INTO orchestrator.replies (execution_id, reply_to, correlation_id, attend_at)"
        " VALUES (%s, %s, %s, orchestrator.now())"
        " ON CONFLICT ON CONSTRAINT replies_pkey DO NOTHING",
        (execution_id, reply_to, correlation_id),
    )


def take_due(connection: Connection, *, again_after: timedelta, limit: int) -> list[WantedReply]:
    """Take up replies of executions that have ended; unless they are answered, they come again.

    Args:
        again_after: the distance to the next try, doubled with each.
    """
    rows = connection.execute(
        """
        WITH due AS MATERIALIZED (
            SELECT r.execution_id, r.reply_to, r.correlation_id
              FROM orchestrator.replies r
              JOIN orchestrator.executions e ON e.id = r.execution_id
             WHERE r.attend_at <= orchestrator.now() AND e.finished_at IS NOT NULL
             ORDER BY r.attend_at LIMIT %s FOR UPDATE OF r SKIP LOCKED)
        UPDATE orchestrator.replies r
           SET tries = r.tries + 1,
               attend_at = orchestrator.now() + %s * least(2 ^ least(r.tries, 20), 128)
          FROM due d
         WHERE (r.execution_id, r.reply_to, r.correlation_id)
             = (d.execution_id, d.reply_to, d.correlation_id)
        RETURNING r.execution_id, r.reply_to, r.correlation_id, r.tries
        """,
        (limit, again_after),
    ).fetchall()
    return [
        WantedReply(execution_id=row[0], reply_to=row[1], correlation_id=row[2], tries=row[3])
        for row in rows
    ]


def are_open(connection: Connection) -> bool:
    """Return whether anybody waits for a reply."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM orchestrator.replies WHERE attend_at IS NOT NULL)"
    ).fetchone()
    return row is not None and bool(row[0])


def set_answered(connection: Connection, answered: Sequence[WantedReply]) -> None:
    """Note that the broker has these replies; not of those that were wanted again meanwhile."""
    connection.execute(
        """
        UPDATE orchestrator.replies r
           SET attend_at = NULL, answered_at = orchestrator.now(), problem = NULL
          FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::integer[])
                 AS k(execution_id, reply_to, correlation_id, tries)
         WHERE (r.execution_id, r.reply_to, r.correlation_id, r.tries)
             = (k.execution_id, k.reply_to, k.correlation_id, k.tries)
        """,
        (
            [one.execution_id for one in answered],
            [one.reply_to for one in answered],
            [one.correlation_id for one in answered],
            [one.tries for one in answered],
        ),
    )


def put_back(connection: Connection, untried: Sequence[WantedReply]) -> None:
    """Return replies that were taken up and not sent: the broker was not there."""
    connection.execute(
        """
        UPDATE orchestrator.replies r SET attend_at = orchestrator.now(), tries = r.tries - 1
          FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::integer[])
                 AS k(execution_id, reply_to, correlation_id, tries)
         WHERE (r.execution_id, r.reply_to, r.correlation_id, r.tries)
             = (k.execution_id, k.reply_to, k.correlation_id, k.tries)
        """,
        (
            [one.execution_id for one in untried],
            [one.reply_to for one in untried],
            [one.correlation_id for one in untried],
            [one.tries for one in untried],
        ),
    )


def set_problem(
    connection: Connection, wanted: WantedReply, problem: str, *, give_up: bool
) -> None:
    """Note why a reply could not be delivered; it is tried again unless it is given up."""
    connection.execute(
        "UPDATE orchestrator.replies SET problem = %s,"
        " attend_at = CASE WHEN %s THEN NULL ELSE attend_at END"
        " WHERE (execution_id, reply_to, correlation_id, tries) = (%s, %s, %s, %s)",
        (
            problem,
            give_up,
            wanted.execution_id,
            wanted.reply_to,
            wanted.correlation_id,
            wanted.tries,
        ),
    )


def want_again(connection: Connection, execution_id: UUID) -> None:
    """Want the replies of an execution that was opened again: it will end another time."""
    connection.execute(
        "UPDATE orchestrator.replies SET attend_at = orchestrator.now(), answered_at = NULL,"
        " problem = NULL, tries = tries + 1 WHERE execution_id = %s",
        (execution_id,),
    )
