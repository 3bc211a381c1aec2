"""What the body of a step needs, and how its arguments are put together from it.

A binding is turned into *reads*, which the runtime fetches in one go, and into a function over the
values fetched. All values are encoded JSON; nothing here decodes them.

Inside an item, a parameter is either the item (``ItemOf``) or a shared binding of the outer graph,
which is followed outwards. The value of an each is the list of its body's results: the reads of
that result hold for all items at once, so they carry a ``path``, the eaches to walk down from
``scope``. Their values are mappings by scope text, with one entry for every scope
``scope/path0[i]/path1[j]/...`` (with an empty path: for ``scope`` itself). How many items there
were is never guessed from the outputs found: ``CountsOf`` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from orchestrator.codec import JSON
from orchestrator.errors import NotAList, NotFound
from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Output,
    Param,
    StepNode,
)


@dataclass(frozen=True, slots=True)
class InputOf:
    """A parameter of the flow itself. Value: its encoded input."""

    param: str


@dataclass(frozen=True, slots=True)
class OutputOf:
    """The output of one step run. Value: the encoded output."""

    name: str
    scope: str


@dataclass(frozen=True, slots=True)
class OutputsOf:
    """The outputs of a step in all items below ``scope``. Value: {scope text: encoded output}."""

    name: str
    scope: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemOf:
    """One item of the list stored with an each, whose row lives in ``scope``. Value: the item."""

    each: str
    scope: str
    index: int


@dataclass(frozen=True, slots=True)
class ItemsOf:
    """The stored lists of an each, where a body's result is its item. Value: {scope text: list}."""

    each: str
    scope: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountsOf:
    """How many items an each has. Value: {scope text of the each's row: number of items}."""

    each: str
    scope: str
    path: tuple[str, ...]


Read: TypeAlias = InputOf | OutputOf | OutputsOf | ItemOf | ItemsOf | CountsOf
Values: TypeAlias = Mapping[Read, Any]

#: What gives the value of a binding at one concrete scope.
_Evaluate: TypeAlias = Callable[[str], JSON]


def reads(graph: Graph, name: str, scope: str) -> frozenset[Read]:
    """Return what to fetch for ``name`` in ``scope``: a step's arguments, an each's items."""
    node = planning.level(graph, scope).node(name)
    place = _Place(graph, scope)
    bindings = (node.items,) if isinstance(node, EachNode) else tuple(node.bindings)
    return frozenset(read for binding in bindings for read in place.reads(binding))


def arguments(graph: Graph, name: str, scope: str, values: Values) -> dict[str, JSON]:
    """Return the encoded arguments of a step by parameter name."""
    node = planning.level(graph, scope).node(name)
    if not isinstance(node, StepNode):
        raise NotFound(f"{name!r} is an each: it has items, not arguments")
    place = _Place(graph, scope)
    return {param: place.value(binding, values) for param, binding in node.arguments}


def items(graph: Graph, name: str, scope: str, values: Values) -> list[JSON]:
    """Return the encoded items of an each; a tuple or a set that a step returned serves as well.

    Raises NotAList when the value is anything else.
    """
    node = planning.level(graph, scope).each(name)
    value = _Place(graph, scope).value(node.items, values)
    found = as_list(value)
    if found is None:
        where = f" in {scope}" if scope else ""
        raise NotAList(
            f"the items of each {name!r}{where} are not a list but {_described(value)};"
            " let the step before it return a list"
        )
    return found


def as_list(value: JSON) -> list[JSON] | None:
    """Return the members of an encoded list, tuple or set, or None."""
    match value:
        case list():
            return value
        case {"$tuple": list(inner)} | {"$set": list(inner)} | {"$frozenset": list(inner)}:
            return inner
    return None


def result_reads(graph: Graph) -> frozenset[Read]:
    """Return what must be fetched for the result of a flow."""
    return frozenset(_Place(graph, scopes.TOP).reads(graph.result))


def result(graph: Graph, values: Values) -> JSON:
    """Return the encoded result of a flow."""
    return _Place(graph, scopes.TOP).value(graph.result, values)


@dataclass(frozen=True, slots=True)
class _Place:
    """A level seen from a base scope: the base itself, or all items below it through ``path``."""

    root: Graph
    base: str
    path: tuple[str, ...] = ()

    @property
    def graph(self) -> Graph:
        graph = planning.level(self.root, self.base)
        for each in self.path:
            graph = graph.each(each).body
        return graph

    def below(self, each: str) -> _Place:
        return _Place(self.root, self.base, (*self.path, each))

    def outer(self) -> tuple[EachNode, _Place]:
        """The each around this place and the place where its row lives."""
        if self.path:
            place = _Place(self.root, self.base, self.path[:-1])
            return place.graph.each(self.path[-1]), place
        outer, each, _ = _parent(self.base)
        place = _Place(self.root, outer)
        return place.graph.each(each), place

    def reads(self, binding: Binding | None) -> Iterator[Read]:
        match binding:
            case Output(name):
                node = self.graph.node(name)
                if isinstance(node, EachNode):
                    yield CountsOf(name, self.base, self.path)
                    yield from self.below(name).reads(node.body.result)
                else:
                    yield self._output(name)
            case Param(name) if self._at_top:
                yield InputOf(name)
            case Param(name):
                node, place = self.outer()
                if name != node.item:
                    yield from place.reads(_shared(node, name))
                elif self.path:
                    yield ItemsOf(node.name, self.base, place.path)
                else:
                    yield _item(self.base)
            case ListOf(parts):
                for part in parts:
                    yield from self.reads(part)
            case DictOf(entries):
                for _, entry in entries:
                    yield from self.reads(entry)
            case Literal() | None:
                return

    def value(self, binding: Binding | None, values: Values) -> JSON:
        return self.evaluator(binding, values)(self.base)

    def evaluator(self, binding: Binding | None, values: Values) -> _Evaluate:
        """Look the fetched values up once, not once per item: there may be 100,000 of them."""
        match binding:
            case None:
                return lambda _: None
            case Literal(value):
                return lambda _: value
            case Output(name):
                return self._node_evaluator(self.graph.node(name), values)
            case Param(name):
                return self._param_evaluator(name, values)
            case ListOf(parts):
                evaluators = [self.evaluator(part, values) for part in parts]
                return lambda at: [evaluate(at) for evaluate in evaluators]
            case DictOf(entries):
                fields = {key: self.evaluator(entry, values) for key, entry in entries}
                return lambda at: _object({key: make(at) for key, make in fields.items()})

    def _node_evaluator(self, node: StepNode | EachNode, values: Values) -> _Evaluate:
        if isinstance(node, StepNode):
            found = values[self._output(node.name)]
            return found.__getitem__ if self.path else lambda _: found
        name = node.name
        counts = values[CountsOf(name, self.base, self.path)]
        of_item = self.below(name).evaluator(node.body.result, values)
        return lambda at: [of_item(scopes.child(at, name, index)) for index in range(counts[at])]

    def _param_evaluator(self, name: str, values: Values) -> _Evaluate:
        if self._at_top:
            given = values[InputOf(name)]
            return lambda _: given
        node, place = self.outer()
        if name != node.item:
            of_outer = place.evaluator(_shared(node, name), values)
            if not self.path:
                return lambda _: of_outer(place.base)
            return lambda at: of_outer(_parent(at)[0])
        if not self.path:
            item = values[_item(self.base)]
            return lambda _: item
        lists = values[ItemsOf(node.name, self.base, place.path)]

        def of_item(at: str) -> JSON:
            outer, _, index = _parent(at)
            found: JSON = lists[outer][index]
            return found

        return of_item

    @property
    def _at_top(self) -> bool:
        return not self.base and not self.path

    def _output(self, name: str) -> OutputOf | OutputsOf:
        if self.path:
            return OutputsOf(name, self.base, self.path)
        return OutputOf(name, self.base)


def _item(scope: str) -> ItemOf:
    outer, each, index = _parent(scope)
    return ItemOf(each, outer, index)


def _parent(scope: str) -> tuple[str, str, int]:
    outer = scopes.parent(scope)
    if outer is None:
        raise AssertionError("the top of a flow has no outer scope")
    return outer


def _shared(node: EachNode, name: str) -> Binding:
    return dict(node.shared)[name]


def _object(fields: dict[str, JSON]) -> JSON:
    """A key that begins with ``$`` would read as a tag of the codec."""
    return {"$dict": fields} if any(key.startswith("$") for key in fields) else fields


def _described(value: JSON) -> str:
    match value:
        case None:
            return "null"
        case bool() | int() | float():
            return f"the {type(value).__name__} {value}"
        case str():
            return "text"
        case {"$type": str(address)}:
            return f"a {address}"
        case _:
            return "an object"
