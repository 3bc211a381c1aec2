"""Deleting what has ended long ago, in bounded batches. Open executions are never touched."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.store.database import Connection


def expire_executions(
    connection: Connection, *, keep: timedelta, key_keep: timedelta, limit: int
) -> int:
    """Delete up to ``limit`` executions that ended more than ``keep`` ago, with all their rows.

    Their keys stay as tombstones until ``key_keep`` after the end, longer than any redelivery can
    take.
    """
    with connection.transaction():
        rows = connection.execute(
            """
            SELECT id, finished_at FROM orchestrator.executions
             WHERE id < orchestrator.uuid7_at(orchestrator.now() - %s)
               AND finished_at < orchestrator.now() - %s
             ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
            """,
            (keep, keep, limit),
        ).fetchall()
        if not rows:
            return 0
        ids = [row[0] for row in rows]
        connection.execute(
            """
            UPDATE orchestrator.keys k SET expires_at = d.finished_at + %s
              FROM unnest(%s::uuid[], %s::timestamptz[]) AS d(id, finished_at),
                   orchestrator.execution_state x,
                   orchestrator.executions e, orchestrator.definitions f
             WHERE x.execution_id = d.id AND e.id = d.id AND f.id = e.definition_id
               AND k.definition = f.name AND k.key = x.key AND k.execution_id = d.id
            """,
            (key_keep, ids, [row[1] for row in rows]),
        )
        connection.execute(
            "DELETE FROM orchestrator.payloads WHERE execution_id = ANY (%s)", (ids,)
        )
        connection.execute("DELETE FROM orchestrator.replies WHERE execution_id = ANY (%s)", (ids,))
        connection.execute("DELETE FROM orchestrator.steps WHERE execution_id = ANY (%s)", (ids,))
        connection.execute("DELETE FROM orchestrator.journal WHERE execution_id = ANY (%s)", (ids,))
        connection.execute(
            "DELETE FROM orchestrator.quarantine WHERE execution_id = ANY (%s)", (ids,)
        )
        connection.execute(
            "DELETE FROM orchestrator.execution_state WHERE execution_id = ANY (%s)", (ids,)
        )
        connection.execute("DELETE FROM orchestrator.executions WHERE id = ANY (%s)", (ids,))
    return len(ids)


def expire_keys(connection: Connection, *, limit: int) -> int:
    """Delete up to ``limit`` tombstones whose time is over."""
    return connection.execute(
        """
        DELETE FROM orchestrator.keys WHERE (definition, key) IN (
            SELECT definition, key FROM orchestrator.keys WHERE expires_at < orchestrator.now()
             ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (limit,),
    ).rowcount
