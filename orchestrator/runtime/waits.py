"""What a wait comes to, decided under its execution's lock.

A sleep ends at its moment. A signal that has come is taken by the wait that finds it; one that has
not is waited for until the time is over. A call starts its child in the commit that parks it, so
that there is never a child that nobody waits for, nor a wait for nothing; the child's key makes it
the same child however often the call is repeated.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, DefinitionError, InvalidInput, NotFound
from orchestrator.flow import reading
from orchestrator.lifecycle import CLOSING_EXECUTION, ExecutionStatus
from orchestrator.records import Claimed, StepMessage
from orchestrator.runtime import decisions, queries, start, values
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.outcomes import (
    Awaits,
    Calls,
    Failed,
    Outcome,
    Parked,
    Skipped,
    Sleeps,
    Succeeded,
)
from orchestrator.runtime.plans import Attempt
from orchestrator.settings import Settings
from orchestrator.store import events
from orchestrator.store.database import Connection

#: From here on a wait has no end: no clock will show it.
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
#: How deep calls may go; a recursion that has no end stops here (flows.md 2).
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Decided:
    """What a wait came to.

    Attributes:
        begun: messages of a child execution that was started for it.
        posted: whether there is an event to deliver to another execution.
    """

    outcome: Outcome
    begun: tuple[StepMessage, ...] = ()
    posted: bool = False


def decide(connection: Connection, attempt: Attempt, settings: Settings) -> Decided:
    """Return what a wait comes to now; a node that is skipped gives up the child it waited for."""
    claimed, outcome = attempt.claimed, attempt.outcome
    reason = outcome.reason if isinstance(outcome, Skipped) else _refusal(connection, attempt)
    if reason is not None:
        if claimed.child is not None:
            events.tell(connection, claimed.child, "cancel", claimed.address.execution_id)
        return Decided(Skipped(reason), posted=claimed.child is not None)
    match outcome:
        case Sleeps(until, lasts):
            now = events.now(connection)
            over_at = claimed.until_at or until or _later(now, lasts or timedelta())
            is_over = decisions.is_over(over_at, now)
            return Decided(Succeeded(None, "null") if is_over else _parked(over_at))
        case Awaits():
            return Decided(_signal(connection, claimed, outcome))
        case Calls():
            return _call(connection, attempt.catalogue, claimed, outcome, settings)
    raise AssertionError(f"{outcome} is no wait")


def _refusal(connection: Connection, attempt: Attempt) -> str | None:
    """Why a node is not to wait: what it was for may have been decided since it was claimed."""
    graph, address = attempt.registered.graph, attempt.claimed.address
    gates = reading.gates(graph, address.name, address.scope)
    if not gates:
        return None
    found = values.fetch(connection, address.execution_id, gates)
    return reading.refusal(graph, address.name, address.scope, found)


def _later(now: datetime, lasts: timedelta) -> datetime:
    try:
        return now + lasts
    except OverflowError:  # longer than the calendar
        return _NEVER


def _parked(until: datetime) -> Parked:
    """What ends with the calendar does not end: the database has days that Python has not."""
    return Parked(until) if until < _NEVER else Parked()


def _signal(connection: Connection, claimed: Claimed, wait: Awaits) -> Outcome:
    address = claimed.address
    taken = events.take_signal(connection, address.execution_id, wait.signal, str(address))
    if taken is not None:
        return _success(taken[0])
    if wait.within is None:
        return Parked()
    now = events.now(connection)
    until = claimed.until_at or _later(now, wait.within)
    if not decisions.is_over(until, now):
        return _parked(until)
    if wait.has_default:
        return _success(wait.default)
    return _failed(claimed, "TimedOut", f"no signal {wait.signal!r} came within {wait.within}")


def _call(
    connection: Connection,
    catalogue: Catalogue,
    claimed: Claimed,
    call: Calls,
    settings: Settings,
) -> Decided:
    try:
        if claimed.child is not None:
            return Decided(_looked_at(connection, catalogue, claimed, claimed.child))
        return _begun(connection, catalogue, claimed, call, settings)
    except (Conflict, DefinitionError, InvalidInput, NotFound) as error:
        return Decided(_failed(claimed, type(error).__name__, str(error)))


def _begun(
    connection: Connection,
    catalogue: Catalogue,
    claimed: Claimed,
    call: Calls,
    settings: Settings,
) -> Decided:
    address = claimed.address
    depth = events.depth(connection, address.execution_id) + 1
    if depth > MAX_DEPTH:
        return Decided(
            _failed(claimed, "TooDeep", f"flows call each other more than {MAX_DEPTH} deep")
        )
    registered = catalogue.called(connection, call.flow)
    document = {**registered.definition.defaults, **call.document}
    digest = hashlib.sha256(codec.canonical(document).encode()).hexdigest()[:12]
    started, messages = start.start(
        connection,
        registered,
        document,
        settings,
        execution_id=start.new_id(),
        key=f"{address.id}:{digest}",
        actor=str(address.execution_id),
    )
    child = started.execution_id
    if started.created:
        events.adopt(connection, child, address, depth)
        return Decided(Parked(child=child), begun=tuple(messages))
    # an operator retries this step: its child is the same one, and gets the same retry
    events.withdraw_cancel(connection, child, address.execution_id)
    found = events.child(connection, child)
    if found is not None and found.status in CLOSING_EXECUTION:
        return Decided(_parked(events.now(connection) + settings.unsent_after))  # then, its retry
    if found is not None and found.ended and found.status != ExecutionStatus.SUCCEEDED:
        events.tell(connection, child, "retry", address.execution_id)
        return Decided(Parked(child=child), posted=True)
    return Decided(_looked_at(connection, catalogue, claimed, child))


def _looked_at(
    connection: Connection, catalogue: Catalogue, claimed: Claimed, child: UUID
) -> Outcome:
    """What a child has come to, for the step that called it."""
    found = events.child(connection, child)
    if found is None:
        raise NotFound(f"child execution {child} has expired")
    if not found.ended:
        return Parked(child=child)
    if found.status != ExecutionStatus.SUCCEEDED:
        reason = queries.reason(connection, child, found.status)
        return _failed(claimed, "ChildFailed", f"child execution {child} {found.status}: {reason}")
    graph = catalogue.definition(connection, found.definition_id).graph
    fetched = values.fetch(connection, child, reading.result_reads(graph))
    return _success(reading.result(graph, fetched))


def _success(value: codec.JSON) -> Succeeded:
    return Succeeded(value, codec.canonical(value))


def _failed(claimed: Claimed, kind: str, message: str) -> Failed:
    return Failed({"kind": kind, "message": message, "attempt": claimed.attempt})
