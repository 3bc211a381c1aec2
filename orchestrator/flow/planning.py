"""What is ordered when a flow starts, when a node ends, and when a fan-out makes room.

Every function is pure and takes the ROOT graph and a scope; it finds the level itself. A node that
waits for at most one other is *plain*: its only arrival orders it ready. One that waits for several
is a join: its row is inserted at the first arrival, counts one per dependency and fires at
``wanted``. The last nodes of an item (the sinks of its body) arrive at the each's own row, too.

Whatever ends arrives, also what was skipped; only a merge asks whether a value came with it. A node
that fails arrives nowhere: its handler is ordered, if it has one, and arrives in its place. Inside
an item that its each can do without, it arrives without a value, and the rest of the item is
skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import Graph, MergeNode


@dataclass(frozen=True, slots=True)
class Order:
    """A step run to create, or to count an arrival at: ready at once when it wants at most one.

    Attributes:
        wanted: how many arrivals it waits for; of a merge, how many with a value.
        total: of a merge, how many arrivals there can be; else 0.
        live: whether this arrival comes with a value.
    """

    name: str
    scope: str
    wanted: int
    total: int = 0
    live: bool = True

    @property
    def plain(self) -> bool:
        """Whether nothing more has to arrive."""
        return self.wanted <= 1 and not self.total


@dataclass(frozen=True, slots=True)
class FanIn:
    """One arrival at the row of an each."""

    each: str
    scope: str


@dataclass(frozen=True, slots=True)
class Succession:
    """What the end of one node brings about."""

    orders: tuple[Order, ...] = ()
    fan_in: FanIn | None = None

    @property
    def plain(self) -> Order | None:
        """The only order, when there is nothing else and it is ready at once."""
        if self.fan_in is None and len(self.orders) == 1 and self.orders[0].plain:
            return self.orders[0]
        return None

    @property
    def empty(self) -> bool:
        """Whether nothing follows: the execution may have settled."""
        return self.fan_in is None and not self.orders


def level(graph: Graph, scope: str) -> Graph:
    """Return the graph in which the nodes of ``scope`` live."""
    for each in scopes.path(scope):
        graph = graph.each(each).body
    return graph


def first(graph: Graph, scope: str = scopes.TOP) -> tuple[Order, ...]:
    """Return the orders of a start: the nodes of this level without dependencies, in graph order.

    Unlike the other functions it takes the level's own graph, so that it serves a body as well as a
    flow.
    """
    return tuple(Order(name, scope, 0) for name in graph.roots)


def after(graph: Graph, name: str, scope: str, *, live: bool = True) -> Succession:
    """Return what follows the end of ``name`` in ``scope``; ``live``: it ended with a value.

    For example ``after(graph, "parse", "folder[3]")`` is
    ``Succession(orders=(Order("store", "folder[3]", 1),), fan_in=None)``.
    """
    here = level(graph, scope)
    orders = tuple(_arrival(here, next_, scope, live) for next_ in here.dependents(name))
    outer = scopes.parent(scope)
    if outer is None or not here.is_sink(name):
        return Succession(orders)
    return Succession(orders, FanIn(outer[1], outer[0]))


def after_failure(graph: Graph, name: str, scope: str) -> Succession | None:
    """Return what follows when ``name`` fails and the flow does not; None if the flow does."""
    handler = level(graph, scope).handler(name)
    if handler is not None:
        return Succession((Order(handler, scope, 0),))
    if accepting_item(graph, scope) is not None:
        return after(graph, name, scope, live=False)
    return None


def accepting_item(graph: Graph, scope: str) -> str | None:
    """Return the innermost item around ``scope`` that its each can do without, if there is one."""
    return next(accepting_items(graph, scope), None)


def accepting_items(graph: Graph, scope: str) -> Iterator[str]:
    """Yield the items around ``scope`` that their eaches can do without, the innermost first."""
    if not graph.has_accepting:
        return
    while (outer := scopes.parent(scope)) is not None:
        if level(graph, outer[0]).each(outer[1]).accept < 1:
            yield scope
        scope = outer[0]


def merges_over(graph: Graph, name: str, scope: str) -> Iterator[tuple[str, str]]:
    """Yield the merges, with their scopes, that may make a node useless, the innermost first.

    What an item does is as useless as its each.
    """
    while graph.has_losers:
        for merge in level(graph, scope).merges_over(name):
            yield merge, scope
        outer = scopes.parent(scope)
        if outer is None:
            return
        scope, name, _ = outer


def _arrival(here: Graph, name: str, scope: str, live: bool) -> Order:
    node = here.node(name)
    if isinstance(node, MergeNode):
        return Order(name, scope, node.wanted, len(node.inputs), live)
    return Order(name, scope, len(here.dependencies(name)))


def item_orders(
    graph: Graph, each_name: str, scope: str, start: int, stop: int
) -> tuple[Order, ...]:
    """Return the first orders of the items ``start`` up to but not including ``stop``."""
    body = level(graph, scope).each(each_name).body
    return tuple(_item_orders(body, each_name, scope, start, stop))


def arrivals_per_item(graph: Graph, each_name: str, scope: str) -> int:
    """Return how often an item arrives at its each: once per sink of the body."""
    return len(level(graph, scope).each(each_name).body.sinks)


def _item_orders(body: Graph, each_name: str, scope: str, start: int, stop: int) -> Iterator[Order]:
    for index in range(start, stop):
        yield from first(body, scopes.child(scope, each_name, index))
