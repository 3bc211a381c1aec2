"""Start an execution: the key decides whether it is new."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput
from orchestrator.flow import planning
from orchestrator.records import Started, StepAddress, StepMessage
from orchestrator.runtime import reports
from orchestrator.runtime.catalogue import Registered, task_name
from orchestrator.settings import Settings
from orchestrator.store import moves
from orchestrator.store.database import Connection

_KEY_LIMIT = 500


def new_id() -> UUID:
    """Return a new UUIDv7: what was started later sorts behind."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return UUID(int=value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def start(
    connection: Connection,
    registered: Registered,
    document: Mapping[str, codec.JSON],
    settings: Settings,
    *,
    execution_id: UUID,
    key: str | None = None,
    actor: str | None = None,
) -> tuple[Started, list[StepMessage]]:
    """Create an execution with its first step runs, or find the one that has the key.

    Args:
        document: validated, encoded input by parameter name.
        execution_id: from `new_id`, drawn once per start and kept over its repetitions: the same id
            again gets the same answer.
        key: the caller's own id; the same key again is the same execution.

    Returns:
        What was found or made, and the messages to send (none when the key was there).

    Raises:
        Conflict: the key belongs to an execution with another input, or to one that has expired.
        InvalidInput: the input is too large, or the key cannot be one.
    """
    text = codec.canonical(dict(document))
    if len(text.encode()) > settings.max_input_bytes:
        raise InvalidInput(
            f"the input of flow {registered.flow!r} is {len(text.encode())} bytes, at most "
            f"{settings.max_input_bytes} are allowed; store it elsewhere and pass where it is"
        )
    if key is not None and not 0 < len(key) <= _KEY_LIMIT:
        raise InvalidInput(f"a key has 1 to {_KEY_LIMIT} characters, this one {len(key)}")
    if key is not None and codec.encode(key) != key:
        raise InvalidInput(f"the key {key!r} holds NUL or half a character, which no database does")
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    orders = [
        (
            order.name,
            order.scope,
            registered.queue(order.name, order.scope, settings),
        )
        for order in planning.first(registered.graph)
    ]
    started = moves.start_execution(
        connection,
        execution_id=execution_id,
        flow=registered.flow,
        definition_id=registered.id,
        key=key,
        document=text,
        input_hash=digest,
        orders=orders,
        unsent_after=settings.unsent_after,
        actor=actor,
    )
    if started.created:
        reports.started(started.execution_id, registered.flow, key)
        return started, [
            StepMessage(
                address=StepAddress(started.execution_id, name, scope, 0),
                definition_id=registered.id,
                task=task_name(registered.flow, name, scope),
                number=1,
                queue=queue,
                label=key or "",
            )
            for name, scope, queue in orders
        ]
    if started.input_hash != digest:
        raise Conflict(
            f"key {key!r} of flow {registered.flow!r} belongs to execution "
            f"{started.execution_id} with another "
            f"input (hash {started.input_hash}, this one {digest}); "
            f"use another key or the same input"
        )
    if started.expired:
        raise Conflict(
            f"key {key!r} of flow {registered.flow!r} belongs to execution "
            f"{started.execution_id}, which is "
            "finished and expired; use another key"
        )
    return started, []
