"""What the engine itself decides at a node: skip, expand, gather, merge, wait, call.

Pure but for the two functions that fetch what the kernel asks for. Only a step node is left to its
body.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

from orchestrator import codec
from orchestrator.errors import InvalidInput
from orchestrator.flow import durations, planning, reading
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    Graph,
    MergeNode,
    SignalNode,
    SleepNode,
    StepNode,
)
from orchestrator.flow.reads import Read, Values
from orchestrator.records import Claimed
from orchestrator.runtime.outcomes import (
    Awaits,
    Calls,
    Expanded,
    Failed,
    Outcome,
    Skipped,
    Sleeps,
    Succeeded,
)

Fetch = Callable[[frozenset[Read]], Values]


def decide(graph: Graph, claimed: Claimed, *, settled: Fetch, fresh: Fetch) -> Outcome | None:
    """Return what a claimed node comes to, or None when the body of its step is to run.

    Args:
        settled: fetches values that do not change any more; they may be kept over a segment.
        fresh: fetches what others may change until this node is recorded.

    Raises:
        InvalidInput, NotAList: a value does not fit; the node fails.
    """
    name, scope = claimed.address.name, claimed.address.scope
    node = planning.level(graph, scope).node(name)
    gates = reading.gates(graph, name, scope)
    if gates or node.conditions:  # a condition on what is written in the flow reads nothing
        reason = reading.refusal(graph, name, scope, fresh(gates) if gates else {})
        if reason is not None:
            return Skipped(reason)
    match node:
        case StepNode():
            return None
        case EachNode():
            if claimed.items is not None:
                return _gathered(node, claimed, fresh)
            found = settled(reading.reads(graph, name, scope))
            return Expanded(reading.items(graph, name, scope, found))
        case MergeNode():
            return _merged(graph, node, scope, settled, fresh)
        case SignalNode():
            return Awaits(
                node.signal,
                None if node.within is None else durations.parse(node.within),
                None if node.default is None else node.default.value,
                node.default is not None,
            )
        case SleepNode():
            if node.lasts is not None:
                return Sleeps(lasts=durations.parse(node.lasts))
            found = settled(reading.reads(graph, name, scope))
            return Sleeps(until=_moment(node, reading.moment(graph, node, scope, found)))
        case CallNode():
            found = settled(reading.reads(graph, name, scope))
            return Calls(node.flow, reading.arguments(graph, name, scope, found))
    assert_never(node)


def _gathered(node: EachNode, claimed: Claimed, fresh: Fetch) -> Outcome:
    """All items have ended: enough of them well, or the each fails."""
    scope, count = claimed.address.scope, claimed.items or 0
    if node.accept < 1:
        lost = reading.lost_items(node, scope, fresh(reading.gather_reads(node, scope)))
        if count and (lost == count or count - lost < node.accept * count):
            wanted = f"{node.accept:.0%}" if node.accept else "one"
            return Failed(
                {
                    "kind": "TooManyFailed",
                    "message": f"{lost} of {count} items failed, at least {wanted} must succeed",
                    "attempt": claimed.attempt,
                }
            )
    return Succeeded(None, "null")


def _merged(graph: Graph, node: MergeNode, scope: str, settled: Fetch, fresh: Fetch) -> Outcome:
    ended = fresh(reading.reads(graph, node.name, scope))
    won = reading.winners(graph, node.name, scope, ended)
    if len(won) < node.wanted:
        return Skipped(f"{len(won)} of {node.wanted} came with a value")
    reads = frozenset(read for winner in won for read in reading.output_reads(graph, winner, scope))
    found = settled(reads)
    values = [reading.output(graph, winner, scope, found) for winner in won]
    value = values[0] if node.single else values
    return Succeeded(value, codec.canonical(value))


def _moment(node: SleepNode, encoded: codec.JSON) -> datetime:
    value = codec.decode(encoded, datetime, where=f"until= of {node.name!r}")
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidInput(f"until= of {node.name!r} is {value!r}: give an aware datetime")
    return value


def is_over(until: datetime, now: datetime) -> bool:
    """Return whether a wait is over, to the precision of the clock that wakes it."""
    return until <= now + timedelta(milliseconds=1)
