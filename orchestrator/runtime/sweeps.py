"""Duties of beat and every worker's pump: bounded, repeatable, harmless when done twice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from orchestrator import codec, telemetry
from orchestrator.lifecycle import CLOSING_EXECUTION
from orchestrator.records import StepMessage
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.runtime.messages import of_attended
from orchestrator.settings import Settings
from orchestrator.store import (
    executions,
    expiry,
    inbox,
    incarnations,
    moves,
    quarantine,
    sweeping,
)
from orchestrator.store.database import Connection
from orchestrator.store.sweeping import Attended


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a sweep found.

    Attributes:
        messages: to be sent now.
        in_doubt: step runs of closing executions that nobody holds; `close_in_doubt` ends each.
        looked_at: rows looked at; as many as the limit means that there may be more.
    """

    messages: list[StepMessage]
    in_doubt: list[Attended]
    looked_at: int


def redrive(
    connection: Connection, settings: Settings, *, steady: bool, limit: int | None = None
) -> Swept:
    """Look at rows whose time has come: due, unsent, lost, or under a lease that ran out.

    Args:
        steady: the sweeper has beaten for longer than the outage guard; without it expired leases
            are left alone, because an outage of the database lets every lease expire and kills
            nobody.
        limit: rows to look at, the setting's `sweep_limit` when None.
    """
    rows = sweeping.attend(
        connection,
        limit or settings.sweep_limit,
        unsent_after=settings.unsent_after,
        lost_after=settings.lost_after,
        lost_idle_after=settings.lost_idle_after,
        lease=settings.lease,
        steady=steady,
    )
    return Swept(
        messages=of_attended(rows),
        in_doubt=[row for row in rows if row.verdict == "in doubt"],
        looked_at=len(rows),
    )


def close_in_doubt(connection: Connection, row: Attended, settings: Settings) -> bool:
    """End a step run of a closing execution whose holder is gone; False if it was not so.

    Whether its body had an effect outside is not known, and its row says so.
    """
    with connection.transaction():
        locked = executions.lock(connection, row.address.execution_id)
        if locked is None or locked.status not in CLOSING_EXECUTION:
            return False
        if not sweeping.is_abandoned(connection, row.address, row.token):
            return False  # its holder has renewed the lease, or recorded
        error = {
            "kind": "InDoubt",
            "message": "its worker was gone when the execution closed: "
            "whether it had an effect is unknown",
        }
        recorded = moves.record_steps(
            connection,
            row.address.execution_id,
            expected=locked.state,
            nonce=secrets.randbits(63),
            holder=None,
            outcomes=[
                {
                    "name": row.address.name,
                    "scope": row.address.scope,
                    "run": row.address.run,
                    "token": row.token,
                    "status": "cancelled",
                    "closed_by": str(locked.status),
                    "error": error,
                }
            ],
            lease=settings.lease,
            unsent_after=settings.unsent_after,
        )
        return recorded.kind in {"recorded", "settled"}


def put_off(connection: Connection, message: StepMessage, settings: Settings) -> bool:
    """Heed a dead letter: want another message after a pause that grows with every one sent.

    Only deaths of workers condemn a step. False when the row does not wait for this message: it has
    another one under way, runs, waits for its time, or has ended.
    """
    wanted = sweeping.put_off(
        connection, message.address, message.number, pause=settings.unsent_after
    )
    address = message.address
    telemetry.emit(
        "dead_letter",
        execution_id=address.execution_id,
        flow=message.task.partition(".")[0],
        step=address.name,
        scope=address.scope,
        run=address.run,
        queue=message.queue,
        wanted=wanted,
    )
    return wanted


def set_aside(connection: Connection, letter: ForeignMessage, problem: str) -> int:
    """Keep a dead letter that is no message of ours in quarantine; return its number."""
    number = quarantine.set_message_aside(
        connection,
        queue=letter.queue,
        reason="dead letter",
        detail={"problem": codec.encode(problem)},
        properties=letter.properties(),
        body=letter.body,
    )
    facts = {"queue": letter.queue, "reason": "dead letter", "quarantine_id": number}
    telemetry.emit("message_quarantined", **facts)
    return number


def expire_completed(
    connection: Connection, settings: Settings, *, limit: int | None = None
) -> int:
    """Delete executions that ended longer than `keep` ago, at most ``limit``; return how many."""
    return expiry.expire_executions(
        connection,
        keep=settings.keep,
        key_keep=settings.key_keep,
        limit=limit or settings.sweep_limit,
    )


def expire_keys(connection: Connection, settings: Settings, *, limit: int | None = None) -> int:
    """Delete tombstones of keys whose time is over, at most ``limit``; return how many."""
    return expiry.expire_keys(connection, limit=limit or settings.sweep_limit)


def expire_inbox(connection: Connection, settings: Settings, *, limit: int | None = None) -> int:
    """Delete ids of messages taken longer than `key_keep` ago, at most ``limit``; return how many.

    No broker brings a message again after so long.
    """
    return inbox.expire(connection, keep=settings.key_keep, limit=limit or settings.sweep_limit)


def expire_quarantine(
    connection: Connection, settings: Settings, *, limit: int | None = None
) -> int:
    """Delete messages dropped longer than `key_keep` ago, at most ``limit``; return how many."""
    keep = settings.key_keep
    return quarantine.expire(connection, keep=keep, limit=limit or settings.sweep_limit)


def forget_incarnations(
    connection: Connection, settings: Settings, *, limit: int | None = None
) -> int:
    """Delete incarnations that ended longer than `keep` ago, at most ``limit``; return how many."""
    return incarnations.forget(connection, settings.keep, limit or settings.sweep_limit)
