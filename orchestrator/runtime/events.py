"""Signals from outside, and what executions tell each other, or themselves for later (deadlines).

Every event is an inserted row, handled later under the lock of the execution that it is for
(protocol.md 2): a child never waits for its parent's lock, nor a parent for its children's.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput, NotFound, OrchestratorError
from orchestrator.flow import durations, inputs
from orchestrator.flow.functions import near_miss
from orchestrator.flow.graph import EachNode, Graph, SignalNode
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import StepMessage
from orchestrator.runtime import freed, operate, reports
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.start import check_key
from orchestrator.settings import Settings
from orchestrator.store import events, executions, moves
from orchestrator.store.database import Connection, Database
from orchestrator.store.executions import LockedExecution, Woken

#: Deadlines of executions that ended in time are laid aside so many at once.
_DROPPED = 1000


def send(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    signal: str,
    data: Any,
    *,
    settings: Settings,
    from_json: bool = False,
    dedupe_key: str | None = None,
    actor: str | None = None,
) -> list[StepMessage]:
    """Send a signal to an execution; return the messages of what it wakes.

    A signal that nobody waits for yet is kept until somebody does.

    Args:
        data: what it carries, validated against the signal's annotation if this process has the
            flow.
        from_json: ``data`` is a JSON value, to be read as the annotation says.
        dedupe_key: the same key again is the same signal, taken once.

    Raises:
        NotFound: no such execution.
        InvalidInput: its flow waits for no signal of this name, the data does not fit or is too
            large, or the key cannot be one.
        Conflict: the execution has ended, or is ending.
    """
    if dedupe_key is not None:
        check_key(dedupe_key)
    with connection.transaction():
        locked = executions.lock(connection, execution_id)
        if locked is None:
            raise NotFound(f"no execution {execution_id}; it may have expired")
        registered = catalogue.definition(connection, locked.definition_id)
        waiting = freed.places(registered.graph, signal)
        if not waiting:
            names = sorted({of for _, of in _signals(registered.graph)})
            raise InvalidInput(
                f"flow {registered.flow!r} waits for no signal {signal!r}"
                f"{near_miss(signal, names)}; it waits for {', '.join(names) or 'none'}"
            )
        if locked.status is not ExecutionStatus.RUNNING:
            raise Conflict(f"execution {execution_id} is {locked.status}: it takes no signals")
        text = _text(
            catalogue,
            registered.flow,
            signal,
            data,
            from_json=from_json,
            limit=settings.max_input_bytes,
        )
        added = events.add_signal(
            connection, execution_id, signal, text, dedupe_key=dedupe_key, actor=actor
        )
        woken = []
        if added:
            woken = events.wake_waiting(connection, execution_id, waiting, _awake(locked, settings))
    return of_ordered(registered, woken, locked.key)


def deliver(
    connection: Connection, catalogue: Catalogue, settings: Settings
) -> list[StepMessage] | None:
    """Handle the first event between executions that is due; return its messages.

    None: there is none. One that cannot be handled is put off, so that the others are.
    """
    with connection.transaction():
        event = events.take_between(connection)
        if event is None:
            return None
        try:
            with connection.transaction():
                return _handled(connection, catalogue, settings, event)
        except OrchestratorError as error:
            events.put_off(connection, event.id, settings.lost_after)
            reports.put_off(event.execution_id, event.kind, error)
    return []


def _handled(
    connection: Connection, catalogue: Catalogue, settings: Settings, event: events.Event
) -> list[StepMessage]:
    locked = executions.lock(connection, event.execution_id)
    if locked is None:
        return []
    match event.kind:
        case "ended" if locked.status is ExecutionStatus.RUNNING:
            woken = events.wake_caller(
                connection, locked.id, event.source, _awake(locked, settings)
            )
            return _messages(connection, catalogue, locked, woken)
        case "cancel" if locked.status is ExecutionStatus.RUNNING:
            _close(connection, locked, ExecutionStatus.CANCELLING, "parent", settings)
        case "deadline" if locked.status is ExecutionStatus.RUNNING:
            line = {"kind": "deadline", "data": {"after": durations.text(event.after)}}
            _close(connection, locked, ExecutionStatus.FAILING, "deadline", settings, line)
            reports.too_late(locked.id, event.after)
        case "deadline":
            events.drop_deadlines(connection, limit=_DROPPED)
        case "retry" if locked.status in {ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}:
            actor = f"execution {event.source}"
            return operate.retry(
                connection, catalogue, locked.id, settings, actor=actor, cancelled=True
            )
    return []


def _close(
    connection: Connection,
    locked: LockedExecution,
    status: ExecutionStatus,
    cause: str,
    settings: Settings,
    *lines: dict[str, Any],
) -> None:
    """End what is not running of a locked execution, ask the rest to stop, tell its children."""
    moves.record_steps(
        connection,
        locked.id,
        expected=locked.state,
        nonce=secrets.randbits(63),
        holder=None,
        lines=lines,
        close=str(status),
        cause=cause,
        lease=settings.lease,
        unsent_after=settings.unsent_after,
    )


def deliver_all(
    database: Database, catalogue: Catalogue, settings: Settings, *, limit: int = 1000
) -> tuple[list[StepMessage], int]:
    """Handle what executions have told each other, each in its own transaction.

    Returns:
        The messages to send, and how many events were handled.
    """
    messages: list[StepMessage] = []
    for handled in range(limit):
        found = database.run(deliver, catalogue, settings)
        if found is None:
            return messages, handled
        messages += found
    return messages, limit


def _text(
    catalogue: Catalogue, flow: str, signal: str, data: Any, *, from_json: bool, limit: int
) -> str:
    """What a signal carries, checked as far as this process knows its type, as JSON text."""
    known = catalogue.flows.get(flow)
    annotation: Any = Any
    if known is not None:
        nodes = {name for name, of in _signals(known.definition.graph) if of == signal}
        fitting = (of for path, of in known.signals.items() if path.rpartition("/")[2] in nodes)
        annotation = next(fitting, Any)
    read = inputs.signal_from_document if from_json else inputs.signal_from_python
    text = codec.canonical(read(flow, signal, data, annotation))
    if len(text.encode()) > limit:
        raise InvalidInput(
            f"the data of signal {signal!r} is {len(text.encode())} bytes, at most {limit} are "
            "allowed; store it elsewhere and send where it is"
        )
    return text


def _awake(locked: LockedExecution, settings: Settings) -> events.Awake:
    return events.Awake(paused=locked.paused, unsent_after=settings.unsent_after)


def _messages(
    connection: Connection, catalogue: Catalogue, locked: LockedExecution, woken: list[Woken]
) -> list[StepMessage]:
    registered = catalogue.definition(connection, locked.definition_id)
    return of_ordered(registered, woken, locked.key)


def _signals(graph: Graph) -> Iterator[tuple[str, str]]:
    """The signals that a flow waits for: (node name, signal), those of bodies included."""
    for node in graph.nodes:
        if isinstance(node, SignalNode):
            yield node.name, node.signal
        elif isinstance(node, EachNode):
            yield from _signals(node.body)
