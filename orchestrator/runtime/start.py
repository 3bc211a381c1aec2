"""Start an execution: the key decides whether it is new."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

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


def start(
    connection: Connection,
    registered: Registered,
    document: Mapping[str, codec.JSON],
    settings: Settings,
    *,
    key: str | None = None,
    actor: str | None = None,
) -> tuple[Started, list[StepMessage]]:
    """Create an execution with its first step runs, or find the one that has the key.

    Args:
        document: validated, encoded input by parameter name.
        key: the caller's own id; the same key again is the same execution.

    Returns:
        What was found or made, and the messages to send (none when the key was there).

    Raises:
        Conflict: the key belongs to an execution with another input, or to one that has expired.
        InvalidInput: the key or the input is too large.
    """
    text = codec.canonical(dict(document))
    if len(text.encode()) > settings.max_input_bytes:
        raise InvalidInput(
            f"the input of flow {registered.flow!r} is {len(text.encode())} bytes, at most "
            f"{settings.max_input_bytes} are allowed; store it elsewhere and pass where it is"
        )
    if key is not None and not 0 < len(key) <= _KEY_LIMIT:
        raise InvalidInput(f"a key has 1 to {_KEY_LIMIT} characters, this one {len(key)}")
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    orders = [
        (
            order.name,
            order.scope,
            registered.options(order.name, order.scope).queue or settings.queue,
        )
        for order in planning.first(registered.graph)
    ]
    started = moves.start_execution(
        connection,
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
