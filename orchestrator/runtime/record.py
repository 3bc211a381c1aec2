"""Record: store an outcome and order what follows from it (protocol.md 4).

`record` chooses the form. *Fast* is one statement, for a plan that holds in an execution that is
running, not paused and never re-run: `record_step` for one success with at most one plain
successor, `record_steps` for joins, fan-outs, retries and failures. When the locked row says
otherwise the database answers ``full``, nothing is changed, and the *full* form locks the
execution, reads what the plan depends on, plans completely and writes with the same `record_steps`.
A record with a valid token is always accepted: in a closing execution it stores the outcome and
orders nothing, in a paused one it orders and counts but dispatches nothing.

What a wait comes to (a signal, a sleep, a child execution) is decided under the execution's lock,
so by the full form alone: whoever sends, or ends as a child, wakes it under the same lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from orchestrator.flow import durations, planning, reading
from orchestrator.flow.graph import Graph
from orchestrator.lifecycle import CLOSING_EXECUTION, TERMINAL_EXECUTION, ExecutionStatus
from orchestrator.records import Recorded, StepAddress
from orchestrator.runtime import freed, places, plans, values, waits
from orchestrator.runtime.outcomes import (
    Awaits,
    Calls,
    Expanded,
    Failed,
    Outcome,
    Retried,
    Skipped,
    Sleeps,
    Succeeded,
)
from orchestrator.runtime.plans import Attempt, Plan
from orchestrator.settings import Settings
from orchestrator.store import executions, moves
from orchestrator.store.database import Connection

__all__ = ["Attempt", "record", "record_full", "with_runs"]

_RUNNING = (str(ExecutionStatus.RUNNING), False, 0)


def record(connection: Connection, attempt: Attempt, settings: Settings) -> Recorded:
    """Store the outcome in the fast form; the answer ``full`` asks for `record_full`."""
    address = attempt.claimed.address
    graph, name, scope = attempt.registered.graph, address.name, address.scope
    match attempt.outcome:
        case Sleeps() | Awaits() | Calls():
            return Recorded(kind="full")
        case Retried() if attempt.registered.options(name, scope).deadline is not None:
            return Recorded(kind="full")
        case Failed() if reading.merge_reads(graph, name, scope):
            return Recorded(kind="full")
        case Failed() if planning.accepting_item(graph, scope) is not None:
            return Recorded(kind="full")
        case Skipped() if attempt.claimed.child is not None:
            return Recorded(kind="full")
        case Expanded() if reading.merge_reads(graph, name, scope):
            return Recorded(kind="full")
        case Succeeded() as success if not planning.level(graph, scope).losers(name):
            following = planning.after(graph, name, scope)
            if following.plain is not None or following.empty:
                return _record_plainly(connection, attempt, success, following.plain, settings)
    if _may_idle(attempt):
        return Recorded(kind="full")
    plan = plans.plan(attempt, settings)
    if plan.quarantine is not None or freed.signals(attempt):
        return Recorded(kind="full")
    return _write(connection, attempt, plan, _RUNNING, settings)


def _record_plainly(
    connection: Connection,
    attempt: Attempt,
    success: Succeeded,
    order: planning.Order | None,
    settings: Settings,
) -> Recorded:
    """Store a success with at most one plain successor: nearly all records, so plan nothing."""
    follows, inline = None, False
    if order is not None:
        queue = attempt.registered.queue(order.name, order.scope, settings)
        follows = (order.name, order.scope, queue)
        inline = plans.eligible(attempt, *follows)
    return moves.record_step(
        connection,
        attempt.claimed,
        nonce=attempt.nonce,
        holder=attempt.holder,
        output=success.text,
        large=plans.is_large(success, settings),
        follows=follows,
        inline=inline,
        head=attempt.head,
        lease=settings.lease,
        unsent_after=settings.unsent_after,
    )


def record_full(
    connection: Connection, attempt: Attempt, settings: Settings
) -> tuple[Outcome, Recorded]:
    """Lock the execution, read, plan completely, write: one transaction, in any state.

    Returns:
        What the attempt came to, which for a wait is known only now, and the answer.
    """
    with connection.transaction():
        claimed, given = attempt.claimed, attempt.outcome
        locked = executions.lock(connection, claimed.address.execution_id)
        if locked is None or locked.status in TERMINAL_EXECUTION:
            return attempt.outcome, Recorded(kind="fenced")
        attempt = _in_time(connection, attempt)
        waited = waits.Decided(attempt.outcome)
        if isinstance(attempt.outcome, Sleeps | Awaits | Calls | Skipped):
            if not executions.holds(connection, claimed.address, claimed.token):
                return attempt.outcome, Recorded(kind="fenced")
            if locked.status not in CLOSING_EXECUTION:
                waited = waits.decide(connection, attempt, settings)
                attempt = replace(attempt, outcome=waited.outcome)
        if locked.status in CLOSING_EXECUTION:
            plan = plans.closing_plan(attempt, locked.status, settings)
        else:
            decided = _decided_merge(connection, attempt)
            if decided is not None and isinstance(attempt.outcome, Expanded):
                # nobody awaits its items
                attempt = replace(attempt, outcome=Skipped(f"{decided} has what it wanted"))
            idle_ones = idle(connection, attempt.registered.graph, claimed.address)
            plan = plans.plan(attempt, settings, decided=decided, idle=idle_ones)
            if locked.paused:
                plan = replace(plan, inline=None)
            if locked.reruns:
                plan = replace(
                    plan,
                    orders=with_runs(connection, plan.orders, locked.id, locked.reruns),
                    arrivals=with_runs(connection, plan.arrivals, locked.id, locked.reruns),
                )
        recorded = _write(connection, attempt, plan, locked.state, settings)
        if recorded.kind != "fenced" and plan.quarantine is not None:
            executions.set_aside(
                connection,
                claimed.address,
                reason=plan.quarantine,
                detail=plan.outcome["error"],
            )
        begun = waited.begun
        if recorded.kind == "recorded" and locked.status is ExecutionStatus.RUNNING:
            took = isinstance(given, Awaits) and isinstance(attempt.outcome, Succeeded)
            left = frozenset[str]() if took else freed.signals(attempt)
            absorbed_by = plan.outcome.get("absorbed_by")
            begun += freed.wake(
                connection, attempt, locked, left=left, absorbed_by=absorbed_by, settings=settings
            )
        posted = recorded.posted or waited.posted
        return attempt.outcome, replace(recorded, begun=begun, posted=posted)


def _in_time(connection: Connection, attempt: Attempt) -> Attempt:
    """Let a step fail whose next attempt would begin after its deadline."""
    address = attempt.claimed.address
    deadline = attempt.registered.options(address.name, address.scope).deadline
    if not isinstance(attempt.outcome, Retried) or deadline is None:
        return attempt
    delay, error = attempt.outcome.delay, attempt.outcome.error
    if not moves.is_too_late(connection, attempt.claimed, delay=delay, deadline=deadline):
        return attempt
    told = f"no other attempt would begin before the step's deadline of {durations.text(deadline)}"
    return replace(attempt, outcome=Failed({**error, "message": f"{error['message']} ({told})"}))


def _decided_merge(connection: Connection, attempt: Attempt) -> str | None:
    """Return where the merge stands that has what it wanted without this node."""
    address = attempt.claimed.address
    if not isinstance(attempt.outcome, Failed | Expanded):
        return None
    over = reading.merge_reads(attempt.registered.graph, address.name, address.scope)
    found = values.fetch(connection, address.execution_id, over)
    decided = (read for read in over if found[read])
    return next((places.text_of(read.merge, read.scope) for read in decided), None)


def _may_idle(attempt: Attempt) -> bool:
    """Whether something that follows may be needed by nobody, and wait for what was cancelled."""
    graph, address = attempt.registered.graph, attempt.claimed.address
    if not graph.has_losers or isinstance(attempt.outcome, Retried):
        return False
    return bool(reading.idle_reads(graph, planning.after(graph, address.name, address.scope)))


def idle(connection: Connection, graph: Graph, address: StepAddress) -> frozenset[str]:
    """Return the joins and merges after a node that nobody needs any more: not to be ordered."""
    reads = reading.idle_reads(graph, planning.after(graph, address.name, address.scope))
    found = values.fetch(connection, address.execution_id, frozenset().union(*reads.values()))
    return frozenset(name for name, over in reads.items() if any(found[read] for read in over))


def _write(
    connection: Connection,
    attempt: Attempt,
    plan: Plan,
    expected: tuple[str, bool, int],
    settings: Settings,
) -> Recorded:
    claimed = attempt.claimed
    outcome = {
        **plan.outcome,
        "name": claimed.address.name,
        "scope": claimed.address.scope,
        "run": claimed.address.run,
        "token": claimed.token,
        "large": bool(plan.payloads),
    }
    return moves.record_steps(
        connection,
        claimed.address.execution_id,
        expected=expected,
        nonce=attempt.nonce,
        holder=attempt.holder,
        outcomes=[outcome],
        orders=plan.orders,
        arrivals=plan.arrivals,
        payloads=plan.payloads,
        inline=plan.inline,
        losers=plan.losers,
        lines=plan.lines,
        close=plan.close,
        cause=plans.place(claimed.address),
        head=attempt.head,
        lease=settings.lease,
        unsent_after=settings.unsent_after,
    )


def with_runs(
    connection: Connection, rows: Iterable[Mapping[str, Any]], execution_id: UUID, reruns: int
) -> list[dict[str, Any]]:
    """Address what is there by its own run, what is ordered now by the newest re-run's number."""
    rows = list(rows)
    places = [(row["name"], row["scope"]) for row in rows]
    current = executions.current_runs(connection, execution_id, places)
    return [
        {**row, "run": current.get(place, reruns)} for row, place in zip(rows, places, strict=True)
    ]
