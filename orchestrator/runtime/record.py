"""Record: store an outcome and order what follows from it (protocol.md 4).

`record` chooses the form. *Fast* is one statement, for a plan that holds in an execution that is
running, not paused and never re-run: `record_step` for one success with at most one plain
successor, `record_steps` for joins, fan-outs, retries and failures. When the locked row says
otherwise the database answers ``full``, nothing is changed, and the *full* form locks the
execution, reads what the plan depends on, plans completely and writes with the same `record_steps`.
A record with a valid token is always accepted: in a closing execution it stores the outcome and
orders nothing, in a paused one it orders and counts but dispatches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.lifecycle import CLOSING_EXECUTION, TERMINAL_EXECUTION, ExecutionStatus
from orchestrator.records import Claimed, Recorded, StepAddress
from orchestrator.runtime.catalogue import Registered
from orchestrator.runtime.outcomes import Expanded, Failed, Outcome, Retried, Succeeded
from orchestrator.settings import Settings
from orchestrator.store import executions, moves
from orchestrator.store.database import Connection
from orchestrator.store.values import ITEMS_PER_PART

_RUNNING = (str(ExecutionStatus.RUNNING), False, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that has come to its outcome.

    Attributes:
        head: first row of the inline segment this step run belongs to; itself when its message
            named it.
        holder: incarnation that records.
        nonce: drawn once for this record and kept over its repetitions.
        may_continue: whether this process may go on with (name, scope) in the same delivery.
    """

    claimed: Claimed
    registered: Registered
    outcome: Outcome
    head: StepAddress
    holder: UUID
    nonce: int
    may_continue: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What `record_steps` is to write."""

    outcome: dict[str, Any]
    orders: Sequence[dict[str, Any]] = ()
    arrivals: Sequence[dict[str, Any]] = ()
    payloads: Sequence[dict[str, Any]] = ()
    inline: dict[str, str] | None = None
    lines: tuple[dict[str, Any], ...] = ()
    close: str | None = None
    quarantine: str | None = None


def record(connection: Connection, attempt: Attempt, settings: Settings) -> Recorded:
    """Store the outcome in the fast form; the answer ``full`` asks for `record_full`."""
    if isinstance(attempt.outcome, Succeeded):
        address = attempt.claimed.address
        following = planning.after(attempt.registered.graph, address.name, address.scope)
        if following.plain is not None or following.empty:
            return _record_plainly(connection, attempt, attempt.outcome, following.plain, settings)
    plan = _plan(attempt, settings)
    if plan.quarantine is not None:
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
        queue = _queue(attempt.registered, order.name, order.scope, settings)
        follows = (order.name, order.scope, queue)
        inline = _eligible(attempt, *follows)
    return moves.record_step(
        connection,
        attempt.claimed,
        nonce=attempt.nonce,
        holder=attempt.holder,
        output=success.text,
        large=_is_large(success, settings),
        follows=follows,
        inline=inline,
        head=attempt.head,
        lease=settings.lease,
        unsent_after=settings.unsent_after,
    )


def record_full(connection: Connection, attempt: Attempt, settings: Settings) -> Recorded:
    """Lock the execution, read, plan completely, write: one transaction, in any state."""
    with connection.transaction():
        claimed = attempt.claimed
        locked = executions.lock(connection, claimed.address.execution_id)
        if locked is None or locked.status in TERMINAL_EXECUTION:
            return Recorded(kind="fenced")
        if locked.status in CLOSING_EXECUTION:
            plan = _closing_plan(attempt, locked.status, settings)
        else:
            plan = _plan(attempt, settings)
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
        return recorded


def _plan(attempt: Attempt, settings: Settings) -> _Plan:
    """Plan for an execution that is open and has never been re-run."""
    match attempt.outcome:
        case Succeeded() as success:
            return _with_successors(_stored(attempt, success, settings), attempt, settings)
        case Expanded(items):
            return _expansion(attempt, items, settings)
        case Retried(delay, error):
            return _Plan(
                outcome={"status": "ready", "due_in": delay.total_seconds(), "error": error},
                lines=(_line("attempt failed", attempt, error),),
            )
        case Failed(error, quarantine):
            return _Plan(
                outcome={"status": "failed", "error": error},
                lines=(_line("failing", attempt, error),),
                close=str(ExecutionStatus.FAILING),
                quarantine=quarantine,
            )


def _closing_plan(attempt: Attempt, status: ExecutionStatus, settings: Settings) -> _Plan:
    """Store what is known and order nothing; what a success would order is owed (`closed_by`)."""
    match attempt.outcome:
        case Succeeded() as success:
            plan = _stored(attempt, success, settings)
            return replace(plan, outcome={**plan.outcome, "closed_by": str(status)})
        case Expanded():
            return _Plan(outcome={"status": "cancelled", "closed_by": str(status)})
        case Retried(_, error):
            return _Plan(
                outcome={"status": "failed", "error": error},
                lines=(_line("attempt failed", attempt, error),),
            )
        case Failed(error, quarantine):
            return _Plan(
                outcome={"status": "failed", "error": error},
                lines=(_line("attempt failed", attempt, error),),
                quarantine=quarantine,
            )


def successors(
    registered: Registered, address: StepAddress, settings: Settings
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """Return (orders, arrivals) that follow from the success of a step run, for `record_steps`."""
    graph, scope = registered.graph, address.scope
    succession = planning.after(graph, address.name, scope)
    orders = tuple(_order(registered, order, settings) for order in succession.orders)
    if succession.fan_in is None:
        return orders, ()
    each, outer = succession.fan_in.each, succession.fan_in.scope
    firsts = [
        {"name": order.name, "queue": _queue(registered, order.name, order.scope, settings)}
        for order in planning.item_orders(graph, each, outer, 0, 1)
    ]
    arrival = {
        "cause": 0,
        "name": each,
        "scope": outer,
        "run": 0,
        "arrivals": 1,
        "per_item": planning.arrivals_per_item(graph, each, outer),
        "firsts": firsts,
    }
    return orders, (arrival,)


def _with_successors(base: _Plan, attempt: Attempt, settings: Settings) -> _Plan:
    orders, arrivals = successors(attempt.registered, attempt.claimed.address, settings)
    inline = _chosen(attempt, orders)
    for arrival in arrivals:
        each, outer = arrival["name"], arrival["scope"]
        first = arrival["firsts"][0]
        item = scopes.child(outer, each, 0)
        inline = {"scope": outer}
        if _eligible(attempt, each, outer, _queue(attempt.registered, each, outer, settings)):
            inline["name"] = each
        if _eligible(attempt, first["name"], item, first["queue"]):
            inline["item_of"] = each
        if len(inline) == 1:
            inline = None
    return replace(base, orders=orders, arrivals=arrivals, inline=inline)


def _expansion(attempt: Attempt, items: list[Any], settings: Settings) -> _Plan:
    registered, address = attempt.registered, attempt.claimed.address
    count = len(items)
    if not count:
        done = _Plan(outcome={"status": "succeeded", "output": None, "items": 0, "next": 0})
        return _with_successors(done, attempt, settings)
    window = registered.options(address.name, address.scope).window or settings.fan_out_chunk
    begun = min(count, window, settings.fan_out_chunk)
    graph = registered.graph
    orders = tuple(
        _order(registered, order, settings)
        for order in planning.item_orders(graph, address.name, address.scope, 0, begun)
    )
    per_item = planning.arrivals_per_item(graph, address.name, address.scope)
    parts = [items[start : start + ITEMS_PER_PART] for start in range(0, count, ITEMS_PER_PART)]
    return _Plan(
        outcome={
            "status": "waiting",
            "items": count,
            "next": begun,
            "wanted": count * per_item,
            "live": 0,
        },
        orders=orders,
        payloads=tuple(_payload(address, "items", part, value) for part, value in enumerate(parts)),
        inline=_chosen(attempt, orders),
    )


def _chosen(attempt: Attempt, orders: tuple[dict[str, Any], ...]) -> dict[str, str] | None:
    """Choose what to go on with: a plain order if there is one, else a join that may fire now."""
    fitting = [
        order
        for order in orders
        if _eligible(attempt, order["name"], order["scope"], order["queue"])
    ]
    fitting.sort(key=lambda order: bool(order["wanted"] > 1))
    return {"name": fitting[0]["name"], "scope": fitting[0]["scope"]} if fitting else None


def _eligible(attempt: Attempt, name: str, scope: str, queue: str) -> bool:
    return (
        queue == attempt.claimed.queue
        and attempt.registered.options(name, scope).inline
        and attempt.may_continue(name, scope)
    )


def _write(
    connection: Connection,
    attempt: Attempt,
    plan: _Plan,
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
        lines=plan.lines,
        close=plan.close,
        cause=_place(claimed.address),
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


def _order(registered: Registered, order: planning.Order, settings: Settings) -> dict[str, Any]:
    return {
        "cause": 0,
        "name": order.name,
        "scope": order.scope,
        "run": 0,
        "wanted": order.wanted,
        "arrivals": 1,
        "queue": _queue(registered, order.name, order.scope, settings),
    }


def _queue(registered: Registered, name: str, scope: str, settings: Settings) -> str:
    return registered.queue(name, scope, settings)


def _stored(attempt: Attempt, success: Succeeded, settings: Settings) -> _Plan:
    """Plan to store an output: a small one in the step's own row, a large one apart from it."""
    if not _is_large(success, settings):
        return _Plan(outcome={"status": "succeeded", "output": success.value})
    large = _payload(attempt.claimed.address, "output", 0, success.value)
    return _Plan(outcome={"status": "succeeded"}, payloads=(large,))


def _is_large(success: Succeeded, settings: Settings) -> bool:
    if success.value is None:  # as a payload it would be no value
        return False
    return len(success.text.encode()) > settings.inline_output_bytes


def _payload(address: StepAddress, kind: str, part: int, value: Any) -> dict[str, Any]:
    return {
        "name": address.name,
        "scope": address.scope,
        "run": address.run,
        "kind": kind,
        "part": part,
        "value": value,
    }


def _line(kind: str, attempt: Attempt, error: Mapping[str, Any]) -> dict[str, Any]:
    address = attempt.claimed.address
    return {
        "kind": kind,
        "data": {
            "name": address.name,
            "scope": address.scope,
            "run": address.run,
            "attempt": attempt.claimed.attempt,
            "error": error,
        },
    }


def _place(address: StepAddress) -> str:
    return f"{address.scope}/{address.name}" if address.scope else address.name
