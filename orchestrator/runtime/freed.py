"""Who goes on when others give up: what waits in a lost item, and whom a signal is left to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.flow import planning
from orchestrator.flow.graph import EachNode, Graph, Node, SignalNode
from orchestrator.records import StepMessage
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.outcomes import Failed, Skipped, Succeeded
from orchestrator.runtime.plans import Attempt
from orchestrator.settings import Settings
from orchestrator.store import events
from orchestrator.store.database import Connection
from orchestrator.store.executions import LockedExecution


def signals(attempt: Attempt) -> frozenset[str]:
    """Return the signals that somebody may have been woken for who will not take them.

    A wait that did take its signal is not asked about.
    """
    name, scope = attempt.claimed.address.name, attempt.claimed.address.scope
    here = planning.level(attempt.registered.graph, scope)
    nodes: list[Node] = []
    if isinstance(attempt.outcome, Succeeded | Skipped | Failed):
        nodes.append(here.node(name))
    if isinstance(attempt.outcome, Succeeded):
        nodes += (here.node(loser) for loser in here.losers(name))
    return frozenset(signal for node in nodes for signal in _signals_of(node))


def wake(
    connection: Connection,
    attempt: Attempt,
    locked: LockedExecution,
    *,
    left: frozenset[str],
    absorbed_by: Any,
    settings: Settings,
) -> tuple[StepMessage, ...]:
    """Make due what waits for nothing any more, under the execution's lock; return its messages.

    Args:
        left: signals that may lie there, with somebody waiting for them who was not woken.
        absorbed_by: what took the failure that was recorded, if it was one and something did.
    """
    graph, scope = attempt.registered.graph, attempt.claimed.address.scope
    awake = events.Awake(paused=locked.paused, unsent_after=settings.unsent_after)
    woken = []
    item = planning.accepting_item(graph, scope)
    if item is not None and absorbed_by == item:
        names = planning.level(graph, item).names
        woken += events.wake_inside(connection, locked.id, item, sorted(names), awake)
    for signal in sorted(left):
        count = events.untaken(connection, locked.id, signal)
        if count:
            waiting = places(graph, signal)
            woken += events.wake_waiting(connection, locked.id, waiting, awake, limit=count)
    return tuple(of_ordered(attempt.registered, woken, attempt.claimed.key))


def places(graph: Graph, signal: str, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return the nodes that wait for a signal: (name, the eaches around it as a path)."""
    found: list[tuple[str, str]] = []
    for node in graph.nodes:
        if isinstance(node, SignalNode) and node.signal == signal:
            found.append((node.name, "/".join(path)))
        elif isinstance(node, EachNode):
            found += places(node.body, signal, (*path, node.name))
    return found


def _signals_of(node: Node) -> Iterator[str]:
    if isinstance(node, SignalNode):
        yield node.signal
    elif isinstance(node, EachNode):
        for inner in node.body.nodes:
            yield from _signals_of(inner)
