"""Start executions, one or many, alone or in a caller's transaction; the key says what is new."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput
from orchestrator.flow import planning
from orchestrator.records import Start, Started, StepAddress, StepMessage
from orchestrator.runtime import reports
from orchestrator.runtime.catalogue import Registered, task_name
from orchestrator.settings import Settings
from orchestrator.store import moves
from orchestrator.store import starts as rows
from orchestrator.store.borrowed import Borrowed
from orchestrator.store.database import Connection

_KEY_LIMIT = 500
#: Of many conflicts a message names so many.
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedIn:
    """What a start in a caller's transaction came to.

    Attributes:
        answers: what was found or made.
        messages: what is to be sent once it is committed.
        committed: the caller is in autocommit: it is committed already.
    """

    answers: list[Started]
    messages: list[StepMessage]
    committed: bool


def new_id() -> UUID:
    """Return a new UUIDv7: what was started later sorts behind."""
    value = time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)
    return UUID(int=value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def check_key(key: str) -> None:
    """Refuse what cannot be the key of an execution or of a signal.

    Raises:
        InvalidInput: it is empty or too long, or holds what no database does.
    """
    if not 0 < len(key) <= _KEY_LIMIT:
        raise InvalidInput(f"a key has 1 to {_KEY_LIMIT} characters, this one {len(key)}")
    if codec.encode(key) != key:
        raise InvalidInput(f"the key {key!r} holds NUL or half a character, which no database does")


def wanted(
    registered: Registered,
    document: Mapping[str, codec.JSON],
    settings: Settings,
    *,
    key: str | None = None,
) -> Start:
    """Return what is to be stored of a start; its execution id is drawn here, once.

    Args:
        document: validated, encoded input by parameter name.
        key: the caller's own id; the same key again is the same execution.

    Raises:
        InvalidInput: the input is too large, or the key cannot be one.
    """
    text = codec.canonical(dict(document))
    size = len(text.encode())
    if size > settings.max_input_bytes:
        raise InvalidInput(
            f"the input of flow {registered.flow!r} is {size} bytes, at most "
            f"{settings.max_input_bytes} are allowed; store it elsewhere and pass where it is"
        )
    if key is not None:
        check_key(key)
    digest = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Start(execution_id=new_id(), key=key, document=text, input_hash=digest)


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
    one = replace(wanted(registered, document, settings, key=key), execution_id=execution_id)
    orders = _orders(registered, settings)
    started = moves.start_execution(
        connection,
        execution_id=execution_id,
        flow=registered.flow,
        definition_id=registered.id,
        key=key,
        document=one.document,
        input_hash=one.input_hash,
        orders=orders,
        unsent_after=settings.unsent_after,
        actor=actor,
        deadline=registered.definition.deadline,
    )
    if not started.created:
        _require_same(registered, [one], [started])
        return started, []
    reports.started(started.execution_id, registered.flow, key)
    return started, _messages(registered, one, orders)


def start_many(
    connection: Connection,
    registered: Registered,
    starts: Sequence[Start],
    settings: Settings,
    *,
    actor: str | None = None,
) -> tuple[list[Started], list[StepMessage]]:
    """Start executions of one flow, all or none; those whose keys are taken are found.

    Args:
        starts: from `wanted`, at most `CHUNK` of them, no key twice.

    Returns:
        What was found or made, in the order of ``starts``, and the messages to send.

    Raises:
        Conflict: a key belongs to an execution with another input, or to one that has expired;
            nothing was stored.
    """
    orders = _orders(registered, settings)
    answers = rows.start_executions(
        connection,
        flow=registered.flow,
        definition_id=registered.id,
        starts=starts,
        orders=orders,
        unsent_after=settings.unsent_after,
        actor=actor,
        deadline=registered.definition.deadline,
    )
    _require_same(registered, starts, answers)
    made = [one for one, answer in zip(starts, answers, strict=True) if answer.created]
    for one in made:
        reports.started(one.execution_id, registered.flow, one.key)
    return answers, [message for one in made for message in _messages(registered, one, orders)]


def start_in(
    borrowed: Borrowed,
    registered: Registered,
    starts: Sequence[Start],
    settings: Settings,
    *,
    transaction: str,
    actor: str | None = None,
) -> StartedIn:
    """The same inside a transaction of the caller's, who commits it or not.

    Args:
        transaction: its number, from `starts.database_of_caller` just before.

    Raises:
        Conflict: as above; the caller's transaction is as good as before.
    """
    orders = _orders(registered, settings)
    now, answers = rows.start_in(
        borrowed,
        flow=registered.flow,
        definition_id=registered.id,
        starts=starts,
        orders=orders,
        unsent_after=settings.unsent_after,
        actor=actor,
        deadline=registered.definition.deadline,
    )
    _require_same(registered, starts, answers)
    made = [one for one, answer in zip(starts, answers, strict=True) if answer.created]
    return StartedIn(
        answers=answers,
        messages=[message for one in made for message in _messages(registered, one, orders)],
        committed=now != transaction,
    )


def committed(
    connection: Connection, registered: Registered, messages: Sequence[StepMessage]
) -> list[StepMessage]:
    """Return the messages of executions that are there now, and tell of these.

    A rollback to a savepoint undoes some starts of a transaction that is committed.
    """
    there = rows.existing(connection, {message.address.execution_id for message in messages})
    kept = [message for message in messages if message.address.execution_id in there]
    labels = {message.address.execution_id: message.label for message in kept}
    for execution_id, label in labels.items():
        reports.started(execution_id, registered.flow, label or None)
    return kept


def _orders(registered: Registered, settings: Settings) -> list[tuple[str, str, str]]:
    return [
        (order.name, order.scope, registered.queue(order.name, order.scope, settings))
        for order in planning.first(registered.graph)
    ]


def _messages(
    registered: Registered, one: Start, orders: Sequence[tuple[str, str, str]]
) -> list[StepMessage]:
    return [
        StepMessage(
            address=StepAddress(one.execution_id, name, scope, 0),
            definition_id=registered.id,
            task=task_name(registered.flow, name, scope),
            number=1,
            queue=queue,
            label=one.key or "",
        )
        for name, scope, queue in orders
    ]


def _require_same(
    registered: Registered, starts: Sequence[Start], answers: Sequence[Started]
) -> None:
    """Refuse keys that belong to other work; one sentence names the first few."""
    problems = [
        _conflict(registered.flow, one, answer)
        for one, answer in zip(starts, answers, strict=True)
        if not answer.created and (answer.input_hash != one.input_hash or answer.expired)
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise Conflict("; ".join(problems[:_SHOWN]) + more)


def _conflict(flow: str, one: Start, held: Started) -> str:
    if held.input_hash != one.input_hash:
        return (
            f"key {one.key!r} of flow {flow!r} belongs to execution {held.execution_id}"
            f" with another input (hash {held.input_hash}, this one {one.input_hash}); "
            f"use another key or the same input"
        )
    return (
        f"key {one.key!r} of flow {flow!r} belongs to execution {held.execution_id}, which is "
        "finished and expired; use another key"
    )
