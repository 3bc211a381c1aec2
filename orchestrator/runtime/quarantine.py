"""What operators do with messages in quarantine: look, repair, release, drop.

Step runs are set aside there too; their way out is a retry of their execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.records import StepMessage
from orchestrator.runtime import reports, requests
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.foreign import ForeignMessage, body_text
from orchestrator.runtime.triggers import Refused, Trigger
from orchestrator.settings import Settings
from orchestrator.store import quarantine
from orchestrator.store.database import Connection
from orchestrator.store.quarantine import SetAside


def listed(
    connection: Connection,
    *,
    every: bool = False,
    queue: str | None = None,
    reason: str | None = None,
    limit: int = 100,
) -> list[SetAside]:
    """Return what is in quarantine, newest first and without bodies.

    Args:
        every: also what was released or dropped.
        queue, reason: only these.
    """
    return quarantine.listed(connection, every=every, queue=queue, reason=reason, limit=limit)


def show(connection: Connection, number: int) -> SetAside:
    """Return one with its body.

    Raises:
        NotFound: there is none with this number.
    """
    return _found(quarantine.find(connection, number), number)


def release(
    connection: Connection,
    catalogue: Catalogue,
    settings: Settings,
    number: int,
    *,
    execution_id: UUID,
    body: bytes | None = None,
    actor: str,
) -> tuple[UUID, bool, list[StepMessage]]:
    """Start what a message wants, in the transaction that releases it.

    Args:
        execution_id: from `start.new_id`, drawn once and kept over repetitions.
        body: the repaired body; by default the one that came.

    Returns:
        The execution, whether this release started it, and the messages to send. A message that was
        released before starts nothing: the execution is the one of then.

    Raises:
        NotFound: there is none with this number.
        Conflict: it was dropped, or its key belongs to an execution with another input.
        InvalidInput: it is still not right; it stays where it is.
    """
    with connection.transaction():
        row = _found(quarantine.find(connection, number, lock=True), number)
        if row.queue is None or row.properties is None or row.body is None:
            raise Conflict(
                f"{number} in quarantine is a step of execution {row.execution_id}: "
                "retry that execution"
            )
        if row.dropped_at is not None:
            raise Conflict(f"message {number} in quarantine was dropped at {row.dropped_at}")
        if row.released_at is not None and row.execution_id is not None:
            return row.execution_id, False, []
        message = ForeignMessage.kept(
            queue=row.queue,
            properties=dict(row.properties),
            body=row.body if body is None else body,
            delivery=execution_id,
        )
        trigger = _trigger(row.detail)
        try:
            request = requests.read(message, trigger, settings)
            if isinstance(request, Refused):
                raise request
            begun = requests.begin(connection, catalogue, settings, request, message, actor=actor)
        except Refused as refused:
            sentence = f"message {number} in quarantine: {refused.problem}"
            wrong = Conflict if refused.reason == "key conflict" else InvalidInput
            raise wrong(sentence) from refused
        if begun.execution_id is None:
            raise Conflict(
                f"message {number} in quarantine: its work was done long ago and has expired; "
                "drop it"
            )
        changed: dict[str, Any] = {}
        if body is not None and body != row.body:
            changed["repaired"] = codec.encode(body_text(body))
        quarantine.set_released(connection, number, begun.execution_id, detail=changed)
        about = {"quarantine": number, **changed}
        quarantine.write_audit(connection, "release", actor, begun.execution_id, about)
    reports.operated(begun.execution_id, "release", actor)
    return begun.execution_id, begun.outcome == "started", begun.messages


def drop(connection: Connection, number: int, *, actor: str) -> bool:
    """Give a message up; False when that was done before.

    Raises:
        NotFound: there is none with this number.
        Conflict: it was released, or is a step run.
    """
    with connection.transaction():
        row = _found(quarantine.find(connection, number, lock=True), number)
        if row.queue is None:
            raise Conflict(
                f"{number} in quarantine is a step of execution {row.execution_id}: "
                "cancel or retry that execution"
            )
        if row.released_at is not None:
            raise Conflict(
                f"message {number} in quarantine was released: it started execution "
                f"{row.execution_id}"
            )
        if row.dropped_at is not None:
            return False
        quarantine.set_dropped(connection, number)
        quarantine.write_audit(connection, "drop", actor, None, {"quarantine": number})
    return True


def _trigger(detail: Mapping[str, Any]) -> Trigger | None:
    written = detail.get("trigger")
    return None if written is None else Trigger(**written)


def _found(row: SetAside | None, number: int) -> SetAside:
    if row is None:
        raise NotFound(f"nothing in quarantine has the number {number}")
    return row
