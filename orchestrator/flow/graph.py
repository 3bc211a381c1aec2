"""The graph of a flow as plain values: its nodes, and who depends on whom.

A graph level has parameters, nodes and a result. An each node carries a graph of its own, its body,
which is expanded once per item. Inside a body nothing refers outwards: whatever an item needs from
outside comes in as a parameter, either the item itself or one bound by ``shared`` in the outer
graph. References are therefore always to the same level, and dependencies can be read off one level
at a time.

Only a step node runs a function of the user's. What the others do, the engine does itself: expand
an each, choose the first of several, wait for a signal, a time or a child execution.

A node that *handles* another is ordered when that one fails, and takes its place: whatever waits
for the handled node then waits for its handler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from orchestrator.errors import NotFound
from orchestrator.flow.bindings import (
    Binding,
    DictOf,
    Failure,
    ListOf,
    Literal,
    Output,
    Param,
    keep_sorted,
    leaves,
    outputs,
)

__all__ = [
    "Binding",
    "CallNode",
    "DictOf",
    "EachNode",
    "Failure",
    "Graph",
    "ListOf",
    "Literal",
    "MergeNode",
    "Node",
    "Output",
    "Param",
    "SignalNode",
    "SleepNode",
    "StepNode",
    "leaves",
    "outputs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """What every node has.

    Attributes:
        after: nodes that must have ended before, though their values are not used.
        conditions: the node is skipped if one of them is false.
    """

    after: tuple[str, ...] = ()
    conditions: tuple[Binding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", tuple(sorted(set(self.after))))


@dataclass(frozen=True, slots=True)
class StepNode(_Placed):
    """One step: which function runs, and what its parameters are bound to.

    ``handles`` names the node whose failure it takes; ``Failure`` of that node may be an argument.
    """

    name: str
    function: str
    arguments: tuple[tuple[str, Binding], ...] = ()
    handles: str | None = None

    def __post_init__(self) -> None:
        _Placed.__post_init__(self)
        keep_sorted(self, "arguments", self.arguments)

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        return (binding for _, binding in self.arguments)


@dataclass(frozen=True, slots=True)
class EachNode(_Placed):
    """A fan-out: ``body`` once per item of ``items``, the item bound to its parameter ``item``.

    ``shared`` binds the other parameters of the body; it is evaluated in the outer graph.
    ``accept`` is the share of items that must succeed, 0 to 1; 0 stands for at least one.
    """

    name: str
    items: Binding
    item: str
    body: Graph
    shared: tuple[tuple[str, Binding], ...] = ()
    accept: float = 1.0

    def __post_init__(self) -> None:
        _Placed.__post_init__(self)
        keep_sorted(self, "shared", self.shared)

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        yield self.items
        for _, binding in self.shared:
            yield binding


@dataclass(frozen=True, slots=True)
class MergeNode(_Placed):
    """The first ``wanted`` of some nodes that end with a value; a skipped one brings none.

    ``single``: its value is that of the one node it waited for, not a list. ``cancel``: what runs
    or waits for nothing but this merge is cancelled when it has what it wanted.

    It has neither ``after`` nor conditions: those of its inputs decide whether there is anything.
    """

    name: str
    inputs: tuple[str, ...]
    wanted: int = 1
    single: bool = True
    cancel: bool = True

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        return (Output(name) for name in self.inputs)


@dataclass(frozen=True, slots=True)
class SignalNode(_Placed):
    """Waits for an event called ``signal``, sent from outside to this execution.

    ``within`` is a duration as text; without ``default`` its end fails with TimedOut.
    """

    name: str
    signal: str
    within: str | None = None
    default: Literal | None = None

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        return iter(())


@dataclass(frozen=True, slots=True)
class SleepNode(_Placed):
    """Waits for a time: ``lasts`` (a duration as text) from its order on, or ``until`` a moment."""

    name: str
    lasts: str | None = None
    until: Binding | None = None

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        return iter(() if self.until is None else (self.until,))


@dataclass(frozen=True, slots=True)
class CallNode(_Placed):
    """A child execution of the flow of this name; its end is this node's end."""

    name: str
    flow: str
    arguments: tuple[tuple[str, Binding], ...] = ()

    def __post_init__(self) -> None:
        _Placed.__post_init__(self)
        keep_sorted(self, "arguments", self.arguments)

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after`` and its conditions."""
        return (binding for _, binding in self.arguments)


Node: TypeAlias = StepNode | EachNode | MergeNode | SignalNode | SleepNode | CallNode


@dataclass(frozen=True)
class Graph:
    """One level of a flow. It has no slots because what is derived from it is cached on it."""

    params: tuple[str, ...]
    nodes: tuple[Node, ...]
    result: Binding | None = None

    def node(self, name: str) -> Node:
        """Return the node called ``name`` of this level."""
        try:
            return self._by_name[name]
        except KeyError:
            raise NotFound(f"no step {name!r} among {sorted(self._by_name)}") from None

    def each(self, name: str) -> EachNode:
        """Return the each node called ``name`` of this level."""
        node = self.node(name)
        if not isinstance(node, EachNode):
            raise NotFound(f"{name!r} is a step, not an each")
        return node

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def dependencies(self, name: str) -> tuple[str, ...]:
        """Return the distinct nodes of this level that ``name`` waits for, as first mentioned.

        A handler waits for the failure of the node that it handles.
        """
        self.node(name)
        return self._dependencies[name]

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the nodes of this level that wait for the end of ``name``, in graph order.

        Those of a handler are those of the node it handles; the handler itself is none of them.
        """
        self.node(name)
        return self._dependents[name]

    def handler(self, name: str) -> str | None:
        """Return the node that takes the failure of ``name``, if there is one."""
        return self._handlers.get(name)

    def losers(self, merge: str) -> frozenset[str]:
        """Return the nodes that are of no use once a merge has what it wanted."""
        return self._losers.get(merge, frozenset())

    def merges_over(self, name: str) -> tuple[str, ...]:
        """Return the merges whose loser a node may become, the innermost first."""
        return self._merges_over.get(name, ())

    def paths(self) -> Iterator[str]:
        """Yield the path of every node, those inside bodies included: ``file``, ``file/parse``."""
        for node in self.nodes:
            yield node.name
            if isinstance(node, EachNode):
                yield from (f"{node.name}/{path}" for path in node.body.paths())

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Names without dependencies, in graph order."""
        return tuple(node.name for node in self.nodes if not self._dependencies[node.name])

    @cached_property
    def sinks(self) -> tuple[str, ...]:
        """Names that nothing waits for, in graph order; a handler shares the place of its node.

        When all of them have ended, so has everything but what merges have cancelled. A merge waits
        for none of its inputs in particular, and what may be cancelled for nothing.
        """
        useless: set[str] = set().union(*self._losers.values())
        awaited: set[str] = set()
        for node in self.nodes:
            for_all = not isinstance(node, MergeNode) or node.wanted == len(node.inputs)
            if for_all and handled(node) is None and node.name not in useless:
                awaited.update(self._dependencies[node.name])
        return tuple(
            node.name
            for node in self.nodes
            if node.name not in awaited | useless and handled(node) is None
        )

    def is_sink(self, name: str) -> bool:
        """Return whether the end of ``name`` counts towards that of its item."""
        return name in self._last

    @cached_property
    def _last(self) -> frozenset[str]:
        handlers = (self._handlers[name] for name in self.sinks if name in self._handlers)
        return frozenset(self.sinks).union(handlers)

    @cached_property
    def has_accepting(self) -> bool:
        """Whether some each, here or in a body, can do without some of its items."""
        return any(
            node.accept < 1 or node.body.has_accepting
            for node in self.nodes
            if isinstance(node, EachNode)
        )

    @cached_property
    def has_losers(self) -> bool:
        """Whether some merge, here or in a body, may cancel what loses."""
        return bool(self._losers) or any(
            node.body.has_losers for node in self.nodes if isinstance(node, EachNode)
        )

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the nodes of this level and of all bodies below it."""
        below = (node.body.names for node in self.nodes if isinstance(node, EachNode))
        return frozenset(self._by_name).union(*below)

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _dependencies(self) -> Mapping[str, tuple[str, ...]]:
        return {node.name: _dependencies(node) for node in self.nodes}

    @cached_property
    def _handlers(self) -> Mapping[str, str]:
        return {of: node.name for node in self.nodes if (of := handled(node)) is not None}

    @cached_property
    def _dependents(self) -> Mapping[str, tuple[str, ...]]:
        waiting: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            if handled(node) is None:
                for dependency in self._dependencies[node.name]:
                    waiting[dependency].append(node.name)
        for of, handler in self._handlers.items():
            waiting[handler] = waiting[of]
        return {name: tuple(names) for name, names in waiting.items()}

    @cached_property
    def _merges_over(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for merge, losers in self._losers.items():
            for name in losers:
                found.setdefault(name, []).append(merge)
        return {name: tuple(merges) for name, merges in found.items()}

    @cached_property
    def _losers(self) -> Mapping[str, frozenset[str]]:
        """Inner merges first, so that a node is found under the nearest one."""
        needed = set(outputs(self.result))
        found: dict[str, frozenset[str]] = {}
        for node in self.nodes:
            if isinstance(node, MergeNode) and node.cancel:
                losers: set[str] = set()
                grown = True
                while grown:
                    more = {
                        other
                        for other, dependents in self._dependents.items()
                        if other not in losers
                        and other not in needed
                        and dependents
                        and set(dependents) <= losers | {node.name}
                    }
                    losers |= more
                    grown = bool(more)
                found[node.name] = frozenset(losers)
        return dict(sorted(found.items(), key=lambda pair: len(pair[1])))


def handled(node: Node) -> str | None:
    """Return the node whose failure ``node`` handles, if it handles one."""
    return node.handles if isinstance(node, StepNode) else None


def _dependencies(node: Node) -> tuple[str, ...]:
    of = handled(node)
    if of is not None:
        return (of,)
    if isinstance(node, MergeNode):
        return tuple(dict.fromkeys(node.inputs))
    mentioned = [
        name for binding in (*node.bindings, *node.conditions) for name in outputs(binding)
    ]
    return tuple(dict.fromkeys((*mentioned, *node.after)))
