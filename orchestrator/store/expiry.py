"""Deleting what has ended long ago, in bounded batches. Open executions are never touched."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.store.database import Connection

#: Rows of steps and journal that one transaction deletes, unless a single execution has more.
ROWS = 20_000

# A child outlives its parent, whose retry would go on with it; a parent outlives what its children
# have yet to tell.
_EXPIRED = """
WITH candidates AS MATERIALIZED (
    SELECT e.id, e.finished_at, e.started + e.position AS size FROM orchestrator.executions e
     WHERE e.id < orchestrator.uuid7_at(orchestrator.now() - %(keep)s)
       AND e.finished_at < orchestrator.now() - %(keep)s
       AND NOT EXISTS (
           SELECT 1 FROM orchestrator.execution_state x
             JOIN orchestrator.executions p ON p.id = x.parent_id WHERE x.execution_id = e.id)
       AND NOT EXISTS (
           SELECT 1 FROM orchestrator.execution_state x
             JOIN orchestrator.executions c ON c.id = x.execution_id
            WHERE x.parent_id = e.id AND c.finished_at IS NULL)
     ORDER BY e.id LIMIT %(limit)s FOR UPDATE OF e SKIP LOCKED),
summed AS (SELECT id, finished_at, size, sum(size) OVER (ORDER BY id) AS total FROM candidates)
SELECT id, finished_at FROM summed WHERE total <= %(rows)s OR total = size ORDER BY id
"""


def expire_executions(
    connection: Connection, *, keep: timedelta, key_keep: timedelta, limit: int
) -> int:
    """Delete up to ``limit`` executions that ended more than ``keep`` ago, with all their rows.

    Fewer when they are large, and none whose parent is still there or whose children are open.
    Their keys stay as tombstones until ``key_keep`` after the end, longer than any redelivery can
    take.
    """
    with connection.transaction():
        rows = connection.execute(_EXPIRED, {"keep": keep, "limit": limit, "rows": ROWS}).fetchall()
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
        connection.execute("DELETE FROM orchestrator.events WHERE execution_id = ANY (%s)", (ids,))
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
