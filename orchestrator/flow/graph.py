"""The graph of a flow as plain values: bindings, nodes, and who depends on whom.

A graph level has parameters, nodes and a result. An each node carries a graph of its own, its body,
which is expanded once per item. Inside a body nothing refers outwards: whatever an item needs from
outside comes in as a parameter, either the item itself or one bound by ``shared`` in the outer
graph. References are therefore always to the same level, and dependencies can be read off one level
at a time.

Arguments, shared bindings and dict entries are kept sorted by name: their order is no part of a
flow's structure, and it would not survive a JSON object in the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from orchestrator.codec import JSON
from orchestrator.errors import NotFound


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of this graph: an input of the flow, or an item or shared parameter of a body."""

    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """The value of a node of the same level; of an each node its item results, in item order."""

    node: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the flow, already encoded by the codec."""

    value: JSON


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list that is put together from bindings."""

    items: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """An object that is put together from bindings."""

    entries: tuple[tuple[str, Binding], ...]

    def __post_init__(self) -> None:
        _keep_sorted(self, "entries", self.entries)


Binding: TypeAlias = Param | Output | Literal | ListOf | DictOf


@dataclass(frozen=True, slots=True)
class StepNode:
    """One step: which function runs, and what its parameters are bound to."""

    name: str
    function: str
    arguments: tuple[tuple[str, Binding], ...] = ()
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _keep_sorted(self, "arguments", self.arguments)
        object.__setattr__(self, "after", tuple(sorted(set(self.after))))

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after``."""
        return (binding for _, binding in self.arguments)


@dataclass(frozen=True, slots=True)
class EachNode:
    """A fan-out: ``body`` once per item of ``items``, the item bound to its parameter ``item``.

    ``shared`` binds the other parameters of the body; it is evaluated in the outer graph.
    """

    name: str
    items: Binding
    item: str
    body: Graph
    shared: tuple[tuple[str, Binding], ...] = ()
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _keep_sorted(self, "shared", self.shared)
        object.__setattr__(self, "after", tuple(sorted(set(self.after))))

    @property
    def bindings(self) -> Iterator[Binding]:
        """What this node waits for besides ``after``."""
        yield self.items
        for _, binding in self.shared:
            yield binding


Node: TypeAlias = StepNode | EachNode


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
        """Return the distinct nodes of this level that ``name`` waits for, as first mentioned."""
        self.node(name)
        return self._dependencies[name]

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the nodes of this level that wait for ``name``, in graph order."""
        self.node(name)
        return self._dependents[name]

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
        """Names without dependents, in graph order."""
        return tuple(node.name for node in self.nodes if not self._dependents[node.name])

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _dependencies(self) -> Mapping[str, tuple[str, ...]]:
        return {node.name: _dependencies(node) for node in self.nodes}

    @cached_property
    def _dependents(self) -> Mapping[str, tuple[str, ...]]:
        waiting: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for dependency in self._dependencies[node.name]:
                waiting[dependency].append(node.name)
        return {name: tuple(names) for name, names in waiting.items()}


def outputs(binding: Binding | None) -> Iterator[str]:
    """Yield the names of the nodes a binding refers to."""
    for leaf in leaves(binding):
        if isinstance(leaf, Output):
            yield leaf.node


def leaves(binding: Binding | None) -> Iterator[Param | Output | Literal]:
    """Yield the parameters, outputs and literals inside a binding, in order."""
    match binding:
        case None:
            return
        case ListOf(items):
            for item in items:
                yield from leaves(item)
        case DictOf(entries):
            for _, entry in entries:
                yield from leaves(entry)
        case _:
            yield binding


def _dependencies(node: Node) -> tuple[str, ...]:
    mentioned = [name for binding in node.bindings for name in outputs(binding)]
    return tuple(dict.fromkeys((*mentioned, *node.after)))


def _keep_sorted(owner: object, field: str, pairs: tuple[tuple[str, Binding], ...]) -> None:
    object.__setattr__(owner, field, tuple(sorted(pairs, key=lambda pair: pair[0])))
