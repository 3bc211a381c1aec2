"""Ids of foreign messages already taken: the row decides whether a message is new.

Of a message without an id the row is kept only until the broker has its acknowledgement. Meanwhile
it is *held* by the session of the consumer that has the message: as long as that session's advisory
lock is taken, a second message with the same content is another message. Behind a pooler that
shares sessions there are no such locks, and time has to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from orchestrator.store.database import Connection

#: A row's primary key: queue, kind, app_id, message_id.
Key = tuple[str, str, str, str]

# Namespaced so that a user's own advisory locks do not collide with ours.
_LOCK_KEY = "hashtextextended('orchestrator.intake/' || {}::text, 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message without an id that was taken, and not acknowledged as far as the database knows.

    Attributes:
        free: the session that had it is over.
    """

    key: Key
    free: bool


def bound_statements(connection: Connection, *, within: timedelta) -> None:
    """Let no statement of this transaction take longer."""
    connection.execute(
        "SELECT set_config('statement_timeout', %s, true)",
        (f"{int(within.total_seconds() * 1000)}",),
    )


def insert(
    connection: Connection,
    rows: Sequence[tuple[Key, str]],
    *,
    held: Mapping[Key, UUID],
    holder: UUID | None,
) -> set[Key]:
    """Insert messages, in the order of their keys; return the keys that were new.

    Args:
        rows: (key, hash of the content), no key twice.
        held: of messages without an id, the delivery that the holder has of them.
        holder: the session of the consumer.
    """
    ordered = sorted(rows)
    deliveries = [held.get(key) for key, _ in ordered]
    found = connection.execute(
        """
        INSERT INTO orchestrator.inbox
               (queue, kind, app_id, message_id, content, delivery, holder, taken_at)
        SELECT r.queue, r.kind, r.app_id, r.message_id, r.content, r.delivery,
               CASE WHEN r.delivery IS NOT NULL THEN %s::uuid END, orchestrator.now()
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[])
               WITH ORDINALITY AS r(queue, kind, app_id, message_id, content, delivery, i)
         ORDER BY r.i
            ON CONFLICT ON CONSTRAINT inbox_pkey DO NOTHING
        RETURNING queue, kind, app_id, message_id
        """,
        (
            holder,
            *([key[part] for key, _ in ordered] for part in range(4)),
            [content for _, content in ordered],
            deliveries,
        ),
    ).fetchall()
    return {(row[0], row[1], row[2], row[3]) for row in found}


def contents(connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
    """Return the content hashes of messages that are there."""
    rows = connection.execute(
        """
        SELECT i.queue, i.kind, i.app_id, i.message_id, i.content
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
                 AS k(queue, kind, app_id, message_id)
          JOIN orchestrator.inbox i USING (queue, kind, app_id, message_id)
        """,
        tuple([key[part] for key in keys] for part in range(4)),
    ).fetchall()
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def set_executions(connection: Connection, found: Mapping[Key, UUID]) -> None:
    """Note which execution each message has started or found."""
    keys = sorted(found)
    connection.execute(
        """
        UPDATE orchestrator.inbox i SET execution_id = k.execution_id
          FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::uuid[])
                 AS k(queue, kind, app_id, message_id, execution_id)
         WHERE (i.queue, i.kind, i.app_id, i.message_id)
             = (k.queue, k.kind, k.app_id, k.message_id)
        """,
        (*([key[part] for key in keys] for part in range(4)), [found[key] for key in keys]),
    )


def lock_session(connection: Connection, session: UUID) -> None:
    """Take a session's advisory lock on this connection, which keeps it; once is enough."""
    row = connection.execute(
        "SELECT current_setting('orchestrator.intake', true) = %s", (str(session),)
    ).fetchone()
    if row is not None and row[0]:
        return
    connection.execute(
        f"SELECT pg_advisory_lock({_LOCK_KEY.format('%s')}),"  # a constant
        " set_config('orchestrator.intake', %s, false)",
        (session, str(session)),
    ).fetchall()


def held(
    connection: Connection,
    queue: str,
    content: str,
    *,
    session: UUID,
    silent_after: timedelta | None,
) -> list[Held]:
    """Return, oldest first, what other sessions hold of this content; the rows stay locked.

    Args:
        silent_after: where sessions have no locks, behind a pooler: how long after it was taken a
            message is acknowledged, or its session is over.
    """
    rows = connection.execute(
        f"""
        SELECT h.queue, h.kind, h.app_id, h.message_id,
               CASE WHEN %s::interval IS NULL
                    THEN pg_try_advisory_xact_lock_shared({_LOCK_KEY.format("h.holder")})
                    ELSE h.taken_at < orchestrator.now() - %s::interval END
          FROM (SELECT * FROM orchestrator.inbox
                 WHERE queue = %s AND content = %s AND holder IS NOT NULL AND holder <> %s
                 ORDER BY taken_at, message_id FOR UPDATE) h
        """,  # noqa: S608  # a constant
        (silent_after, silent_after, queue, content, session),
    ).fetchall()
    return [Held(key=(row[0], row[1], row[2], row[3]), free=row[4]) for row in rows]


def of_delivery(connection: Connection, queue: str, content: str, delivery: UUID) -> Key | None:
    """Return the message that this delivery was found to be, if it was."""
    row = connection.execute(
        "SELECT queue, kind, app_id, message_id FROM orchestrator.inbox"
        " WHERE queue = %s AND content = %s AND holder IS NOT NULL AND delivery = %s",
        (queue, content, delivery),
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2], row[3])


def hold(connection: Connection, key: Key, *, session: UUID, delivery: UUID) -> None:
    """Hold a message without an id in another session, as this delivery."""
    connection.execute(
        "UPDATE orchestrator.inbox SET holder = %s, delivery = %s, taken_at = orchestrator.now()"
        " WHERE queue = %s AND kind = %s AND app_id = %s AND message_id = %s",
        (session, delivery, *key),
    )


def forget(
    connection: Connection, session: UUID, acknowledged: Sequence[tuple[str, str, UUID]]
) -> int:
    """Delete messages without an id whose acknowledgement the broker has; return how many.

    Args:
        acknowledged: (queue, hash of the content, delivery) of each.
    """
    return connection.execute(
        """
        DELETE FROM orchestrator.inbox i
         USING unnest(%s::text[], %s::text[], %s::uuid[]) AS d(queue, content, delivery)
         WHERE i.holder = %s AND i.queue = d.queue AND i.content = d.content
           AND i.delivery = d.delivery
        """,
        (*([row[part] for row in acknowledged] for part in range(3)), session),
    ).rowcount


def expired_key(connection: Connection, flow: str, key: str) -> str | None:
    """Return the input hash of an execution that has expired, by its key."""
    row = connection.execute(
        # By the key alone: the index of expired keys would be read whole where few have expired.
        "SELECT CASE WHEN expires_at IS NOT NULL THEN input_hash END FROM orchestrator.keys"
        " WHERE definition = %s AND key = %s",
        (flow, key),
    ).fetchone()
    return None if row is None else row[0]


def expire(connection: Connection, *, keep: timedelta, limit: int) -> int:
    """Delete up to ``limit`` messages that were taken longer ago than ``keep``; return how many."""
    return connection.execute(
        """
        DELETE FROM orchestrator.inbox WHERE ctid IN (
            SELECT ctid FROM orchestrator.inbox WHERE taken_at < orchestrator.now() - %s
             ORDER BY taken_at LIMIT %s FOR UPDATE SKIP LOCKED)
        """,
        (keep, limit),
    ).rowcount
