"""What an outcome brings about: the plan that one `record_steps` writes. Pure.

A success orders its successors. A skipped node does too, without a value. A failure ends the
execution unless its handler takes it, the item it belongs to can be done without, or a merge had
what it wanted without it. What a closing execution stores orders nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import EachNode, Graph
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import Claimed, StepAddress
from orchestrator.runtime import queues
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.outcomes import (
    Awaits,
    Calls,
    Expanded,
    Failed,
    Outcome,
    Parked,
    Retried,
    Skipped,
    Sleeps,
    Succeeded,
)
from orchestrator.settings import Settings
from orchestrator.store import values as stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that has come to its outcome.

    Attributes:
        catalogue: where a child execution finds its definition.
        head: first row of the inline segment this step run belongs to; itself when its message
            named it.
        holder: incarnation that records.
        nonce: drawn once for this record and kept over its repetitions.
        may_continue: whether this process may go on with (name, scope) in the same delivery.
    """

    claimed: Claimed
    registered: Registered
    catalogue: Catalogue
    outcome: Outcome
    head: StepAddress
    holder: UUID
    nonce: int
    may_continue: Callable[[str, str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `record_steps` is to write."""

    outcome: dict[str, Any]
    orders: Sequence[dict[str, Any]] = ()
    arrivals: Sequence[dict[str, Any]] = ()
    payloads: Sequence[dict[str, Any]] = ()
    inline: dict[str, str] | None = None
    losers: tuple[dict[str, Any], ...] = ()
    lines: tuple[dict[str, Any], ...] = ()
    close: str | None = None
    quarantine: str | None = None


def plan(
    attempt: Attempt,
    settings: Settings,
    *,
    decided: str | None = None,
    idle: Collection[str] = (),
) -> Plan:
    """Plan for an execution that is open and has never been re-run.

    Args:
        decided: where the merge stands that does without a node that failed.
        idle: what of that which follows nobody needs any more; it is not ordered.
    """
    found = _plan(attempt, settings, decided)
    if not idle:
        return found
    orders = tuple(order for order in found.orders if order["name"] not in idle)
    wish = found.inline is not None and found.inline.get("name") in idle
    return replace(found, orders=orders, inline=None if wish else found.inline)


def _plan(attempt: Attempt, settings: Settings, decided: str | None) -> Plan:
    match attempt.outcome:
        case Succeeded() as success:
            return _with_successors(_stored(attempt, success, settings), attempt, settings)
        case Expanded(items):
            return _expansion(attempt, items, settings)
        case Retried(delay, error):
            return Plan(
                outcome={"status": "ready", "due_in": delay.total_seconds(), "error": error},
                lines=(_line("attempt failed", attempt, error),),
            )
        case Skipped(reason):
            skipped = Plan(outcome={"status": "skipped", "closed_by": reason})
            return _with_successors(skipped, attempt, settings, live=False)
        case Parked(until, child):
            return Plan(
                outcome={
                    "status": "ready",
                    "parked": True,
                    "due": None if until is None else until.isoformat(),
                    "child": None if child is None else str(child),
                }
            )
        case Failed() as failure:
            return _failure(attempt, failure, decided, settings)
        case Sleeps() | Awaits() | Calls():
            raise AssertionError("a wait is decided before it is planned")


def _failure(attempt: Attempt, failure: Failed, decided: str | None, settings: Settings) -> Plan:
    """A failure ends the execution, unless somebody takes it."""
    address, graph = attempt.claimed.address, attempt.registered.graph
    here = planning.level(graph, address.scope)
    following = planning.after_failure(graph, address.name, address.scope)
    absorber = (
        decided
        or here.handler(address.name)
        or (planning.accepting_item(graph, address.scope) if following else None)
    )
    if absorber is None:
        return Plan(
            outcome={"status": "failed", "error": failure.error},
            lines=(_line("failing", attempt, failure.error),),
            close=str(ExecutionStatus.FAILING),
            quarantine=failure.quarantine,
        )
    base = Plan(
        outcome={"status": "failed", "error": failure.error, "absorbed_by": absorber},
        lines=(_line("attempt failed", attempt, failure.error),),
        quarantine=failure.quarantine,
    )
    if decided or following is None:
        return base
    return _ordering(base, attempt, following, settings)


def closing_plan(attempt: Attempt, status: ExecutionStatus, settings: Settings) -> Plan:
    """Store what is known and order nothing; what a success would order is owed (`closed_by`)."""
    match attempt.outcome:
        case Succeeded() as success:
            plan = _stored(attempt, success, settings)
            return replace(plan, outcome={**plan.outcome, "closed_by": str(status)})
        case Retried(_, error):
            return Plan(
                outcome={"status": "failed", "error": error},
                lines=(_line("attempt failed", attempt, error),),
            )
        case Failed(error, quarantine):
            return Plan(
                outcome={"status": "failed", "error": error},
                lines=(_line("attempt failed", attempt, error),),
                quarantine=quarantine,
            )
        case _:  # nothing is known that would be lost: opened again, it is looked at again
            return Plan(outcome={"status": "cancelled", "closed_by": str(status)})


def successors(
    registered: Registered, address: StepAddress, settings: Settings
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """Return (orders, arrivals) that follow from the success of a step run, for `record_steps`."""
    following = planning.after(registered.graph, address.name, address.scope)
    return _rows(registered, following, settings)


def _rows(
    registered: Registered, following: planning.Succession, settings: Settings
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    graph = registered.graph
    orders = tuple(_order(registered, order, settings) for order in following.orders)
    if following.fan_in is None:
        return orders, ()
    each, outer = following.fan_in.each, following.fan_in.scope
    firsts = [
        {"name": order.name, "queue": registered.queue(order.name, order.scope, settings)}
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


def _with_successors(
    base: Plan, attempt: Attempt, settings: Settings, *, live: bool = True
) -> Plan:
    address, graph = attempt.claimed.address, attempt.registered.graph
    following = planning.after(graph, address.name, address.scope, live=live)
    losers = _losers(graph, address) if live else ()
    return _ordering(replace(base, losers=losers), attempt, following, settings)


def _ordering(
    base: Plan, attempt: Attempt, following: planning.Succession, settings: Settings
) -> Plan:
    orders, arrivals = _rows(attempt.registered, following, settings)
    inline = _chosen(attempt, orders)
    for arrival in arrivals:
        each, outer = arrival["name"], arrival["scope"]
        first = arrival["firsts"][0]
        item = scopes.child(outer, each, 0)
        inline = {"scope": outer}
        if eligible(attempt, each, outer, attempt.registered.queue(each, outer, settings)):
            inline["name"] = each
        if eligible(attempt, first["name"], item, first["queue"]):
            inline["item_of"] = each
        if len(inline) == 1:
            inline = None
    return replace(base, orders=orders, arrivals=arrivals, inline=inline)


def _losers(graph: Graph, address: StepAddress) -> tuple[dict[str, Any], ...]:
    """What a merge that has what it wanted needs no more, items of eaches included."""
    here = planning.level(graph, address.scope)
    found: list[dict[str, Any]] = []
    for loser in sorted(here.losers(address.name)):
        node = here.node(loser)
        found.append({"name": loser, "scope": address.scope, "gated": bool(node.conditions)})
        if isinstance(node, EachNode):
            first = scopes.child(address.scope, loser, 0)
            below = first.removesuffix("0]")
            found += ({"name": name, "below": below} for name in sorted(node.body.names))
    return tuple(found)


def _expansion(attempt: Attempt, items: list[Any], settings: Settings) -> Plan:
    registered, address = attempt.registered, attempt.claimed.address
    count = len(items)
    if not count:
        done = Plan(outcome={"status": "succeeded", "output": None, "items": 0, "next": 0})
        return _with_successors(done, attempt, settings)
    window = registered.options(address.name, address.scope).window or settings.fan_out_chunk
    begun = min(count, window, settings.fan_out_chunk)
    graph = registered.graph
    orders = tuple(
        _order(registered, order, settings)
        for order in planning.item_orders(graph, address.name, address.scope, 0, begun)
    )
    per_item = planning.arrivals_per_item(graph, address.name, address.scope)
    return Plan(
        outcome={
            "status": "waiting",
            "items": count,
            "next": begun,
            "wanted": count * per_item,
            "live": 0,
        },
        orders=orders,
        payloads=tuple(
            _payload(address, "items", part, value) for part, value in stored.parts(items)
        ),
        inline=_chosen(attempt, orders),
    )


def _chosen(attempt: Attempt, orders: tuple[dict[str, Any], ...]) -> dict[str, str] | None:
    """Choose what to go on with: a plain order if there is one, else a join that may fire now."""
    fitting = [
        order
        for order in orders
        if eligible(attempt, order["name"], order["scope"], order["queue"])
    ]
    fitting.sort(key=lambda order: bool(order["wanted"] > 1 or order["total"]))
    return {"name": fitting[0]["name"], "scope": fitting[0]["scope"]} if fitting else None


def eligible(attempt: Attempt, name: str, scope: str, queue: str) -> bool:
    """Return whether the recorder may go on with a step run without a message.

    It may from an ordinary step to an urgent one, but not the other way: others of the urgent
    would wait meanwhile.
    """
    own = attempt.claimed.queue
    return (
        queue in (own, queues.high(own))
        and attempt.registered.options(name, scope).inline
        and attempt.may_continue(name, scope)
    )


def _order(registered: Registered, order: planning.Order, settings: Settings) -> dict[str, Any]:
    return {
        "cause": 0,
        "name": order.name,
        "scope": order.scope,
        "run": 0,
        "wanted": order.wanted,
        "total": order.total,
        "live": order.live,
        "arrivals": 1,
        "queue": registered.queue(order.name, order.scope, settings),
    }


def _stored(attempt: Attempt, success: Succeeded, settings: Settings) -> Plan:
    """Plan to store an output: a small one in the step's own row, a large one apart from it."""
    if not is_large(success, settings):
        return Plan(outcome={"status": "succeeded", "output": success.value})
    large = _payload(attempt.claimed.address, "output", 0, success.value)
    return Plan(outcome={"status": "succeeded"}, payloads=(large,))


def is_large(success: Succeeded, settings: Settings) -> bool:
    """Return whether an output is kept in `payloads`, apart from the step's own row."""
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


def place(address: StepAddress) -> str:
    """Return where a step run stands, as journal and `closed_by` name it."""
    return f"{address.scope}/{address.name}" if address.scope else address.name
