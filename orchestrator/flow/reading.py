"""What the body of a step needs, and how its arguments are put together from it.

A binding is turned into *reads*, which the runtime fetches in one go, and into a function over the
values fetched. All values are encoded JSON; nothing here decodes them.

Inside an item, a parameter is either the item (``ItemOf``) or a shared binding of the outer graph,
which is followed outwards. The value of an each is the list of its body's results: the reads of
that result hold for all items at once, so they carry a ``path``, the eaches to walk down from
``scope``. Their values are mappings by scope text, with one entry for every scope
``scope/path0[i]/path1[j]/...`` (with an empty path: for ``scope`` itself). How many items there
were is never guessed from the outputs found: ``CountsOf`` says it.

A value may be missing, and is None then: that of a step that was skipped, or of an item that an
each with ``accept`` could do without. Where a failed node has a handler, the handler's value stands
for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.codec import JSON
from orchestrator.errors import NotAList, NotFound
from orchestrator.flow import expressions, planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
    DictOf,
    Failure,
    Field,
    ListOf,
    Literal,
    Missing,
    Not,
    Output,
    Param,
    parts,
)
from orchestrator.flow.graph import CallNode, EachNode, Graph, MergeNode, Node, SleepNode, StepNode
from orchestrator.flow.reads import (
    CountsOf,
    EndedOf,
    ErrorOf,
    InputOf,
    IsDecided,
    IsLost,
    ItemOf,
    ItemsOf,
    LostOf,
    OutputOf,
    OutputsOf,
    Read,
    Values,
)

#: The class that a handler is given, as the codec addresses it.
STEP_ERROR = "orchestrator.flow.failures:StepError"

#: What gives the value of a binding at one concrete scope.
_Evaluate: TypeAlias = Callable[[str], JSON]


def gates(graph: Graph, name: str, scope: str) -> frozenset[Read]:
    """Return what to fetch to know whether a node that is ordered is to run; mostly nothing."""
    return frozenset(
        {
            *_condition_reads(graph, name, scope),
            *merge_reads(graph, name, scope),
            *_loss_reads(graph, name, scope),
        }
    )


def merge_reads(graph: Graph, name: str, scope: str) -> tuple[IsDecided, ...]:
    """Return what to fetch to know whether a node has lost; the innermost merge first."""
    return tuple(IsDecided(*merge) for merge in planning.merges_over(graph, name, scope))


def idle_reads(graph: Graph, following: planning.Succession) -> dict[str, tuple[EndedOf, ...]]:
    """Return, by join or merge that follows, what to fetch to know whether nobody needs it.

    Then something of it may have been cancelled, so that it would wait for ever; what waits for
    nothing else finds out when it is claimed. A merge that has what it wanted and is not recorded
    yet has cancelled nothing, and perhaps it never does.
    """
    found = {
        order.name: tuple(
            EndedOf((merge,), scope)
            for merge, scope in planning.merges_over(graph, order.name, order.scope)
        )
        for order in following.orders
        if not order.plain
    }
    return {name: reads for name, reads in found.items() if reads}


def _condition_reads(graph: Graph, name: str, scope: str) -> Iterator[Read]:
    place = _Place(graph, scope)
    for condition in planning.level(graph, scope).node(name).conditions:
        yield from place.reads(condition)


def _loss_reads(graph: Graph, name: str, scope: str) -> Iterator[IsLost]:
    """Whatever fails in an item that consists of one step is this step."""
    for item in planning.accepting_items(graph, scope):
        outer, each, _ = _parent(item)
        body = planning.level(graph, outer).each(each).body
        is_all = item == scope and len(body.nodes) == 1
        if not is_all or isinstance(body.node(name), EachNode):
            yield IsLost(item, body.names)


def refusal(graph: Graph, name: str, scope: str, values: Values) -> str | None:
    """Return why a node is not to run, None if it is; ``values`` are those of its `gates`."""
    place = _Place(graph, scope)
    if any(values[loss] for loss in _loss_reads(graph, name, scope)):
        return "another step of this item failed"
    for decided in merge_reads(graph, name, scope):
        if values[decided]:
            return f"{decided.merge} has what it wanted"
    for condition in planning.level(graph, scope).node(name).conditions:
        if not expressions.is_true(place.value(condition, values)):
            return "its condition is false"
    return None


def reads(graph: Graph, name: str, scope: str) -> frozenset[Read]:
    """Return what to fetch for ``name`` in ``scope``: arguments, items, a moment, or who ended."""
    node = planning.level(graph, scope).node(name)
    place = _Place(graph, scope)
    match node:
        case EachNode():
            return frozenset(place.reads(node.items))
        case MergeNode():
            return frozenset({_race(planning.level(graph, scope), node, scope)})
    return frozenset(read for binding in node.bindings for read in place.reads(binding))


def output_reads(graph: Graph, name: str, scope: str) -> frozenset[Read]:
    """Return what to fetch for the value of the node ``name`` of ``scope``."""
    return frozenset(_Place(graph, scope).reads(Output(name)))


def output(graph: Graph, name: str, scope: str, values: Values) -> JSON:
    """Return the encoded value of the node ``name`` of ``scope``."""
    return _Place(graph, scope).value(Output(name), values)


def arguments(graph: Graph, name: str, scope: str, values: Values) -> dict[str, JSON]:
    """Return the encoded arguments of a step, or of a call, by parameter name."""
    node = planning.level(graph, scope).node(name)
    if not isinstance(node, StepNode | CallNode):
        raise NotFound(f"{name!r} is no step: it has no arguments")
    place = _Place(graph, scope)
    return {param: place.value(binding, values) for param, binding in node.arguments}


def winners(graph: Graph, name: str, scope: str, values: Values) -> list[str]:
    """Return the nodes whose values a merge takes, first come first; fewer if there are no more."""
    here = planning.level(graph, scope)
    node = here.node(name)
    if not isinstance(node, MergeNode):
        raise NotFound(f"{name!r} is no merge: nobody wins it")
    handled = {here.handler(given): given for given in node.inputs}
    ended = values[_race(here, node, scope)]
    return [handled.get(winner, winner) for winner in ended][: node.wanted]


def moment(graph: Graph, node: SleepNode, scope: str, values: Values) -> JSON:
    """Return the encoded moment until which a node sleeps."""
    return _Place(graph, scope).value(node.until, values)


def gather_reads(node: EachNode, scope: str) -> frozenset[Read]:
    """Return what to fetch to know how many items of an each were lost."""
    return frozenset({_lost(node, scope)})


def lost_items(node: EachNode, scope: str, values: Values) -> int:
    """Return how many items of an each were lost; ``values`` are those of `gather_reads`."""
    return len(values[_lost(node, scope)].get(scope, ()))


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
                yield from self._node_reads(self.graph.node(name))
            case Failure(name):
                yield ErrorOf(name, self.base)
                for part in self.graph.node(name).bindings:
                    yield from self.reads(part)
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
            case None:
                return
            case _:
                for part in parts(binding):
                    yield from self.reads(part)

    def _node_reads(self, node: Node) -> Iterator[Read]:
        if isinstance(node, EachNode):
            yield CountsOf(node.name, self.base, self.path)
            yield from self.below(node.name).reads(node.body.result)
            if node.accept < 1:
                yield _lost(node, self.base, self.path)
        else:
            yield self._output(node.name)
        handler = self.graph.handler(node.name)
        if handler is not None:
            yield self._output(handler)

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
            case Failure(name):
                return self._failure_evaluator(name, values)
            case ListOf(items):
                evaluators = [self.evaluator(item, values) for item in items]
                return lambda at: [evaluate(at) for evaluate in evaluators]
            case DictOf(entries):
                fields = self._fields(entries, values)
                return lambda at: _object({key: make(at) for key, make in fields.items()})
            case Build(address, entries):
                fields = self._fields(entries, values)
                return lambda at: {
                    "$type": address,
                    "value": {key: make(at) for key, make in fields.items()},
                }
            case Field(of, key):
                owner = self.evaluator(of, values)
                return lambda at: expressions.field(owner(at), key)
            case Missing(of):
                looked_for = self.evaluator(of, values)
                return lambda at: looked_for(at) is None
            case Compare(operation, left, Literal(None)):
                compared = self.evaluator(left, values)
                return lambda at: expressions.is_none(operation, compared(at))
            case Compare(operation, left, right):
                one, other = self.evaluator(left, values), self.evaluator(right, values)
                return lambda at: expressions.compare(operation, one(at), other(at))
            case AllOf(conditions):
                needed = [self.evaluator(part, values) for part in conditions]
                return lambda at: all(expressions.is_true(part(at)) for part in needed)
            case AnyOf(conditions):
                enough = [self.evaluator(part, values) for part in conditions]
                return lambda at: any(expressions.is_true(part(at)) for part in enough)
            case Not(part):
                denied = self.evaluator(part, values)
                return lambda at: not expressions.is_true(denied(at))

    def _fields(
        self, entries: tuple[tuple[str, Binding], ...], values: Values
    ) -> dict[str, _Evaluate]:
        return {key: self.evaluator(entry, values) for key, entry in entries}

    def _node_evaluator(self, node: Node, values: Values) -> _Evaluate:
        own = self._own_evaluator(node, values)
        handler = self.graph.handler(node.name)
        if handler is None:
            return own
        handled = self._row_evaluator(handler, values)

        def either(at: str) -> JSON:
            found = own(at)
            return handled(at) if found is None else found

        return either

    def _row_evaluator(self, name: str, values: Values) -> _Evaluate:
        found = values[self._output(name)]
        return found.get if self.path else lambda _: found

    def _own_evaluator(self, node: Node, values: Values) -> _Evaluate:
        if not isinstance(node, EachNode):
            return self._row_evaluator(node.name, values)
        name = node.name
        counts = values[CountsOf(name, self.base, self.path)]
        lost = values[_lost(node, self.base, self.path)] if node.accept < 1 else {}
        of_item = self.below(name).evaluator(node.body.result, values)

        def results(at: str) -> JSON:
            count = counts.get(at)
            if count is None:  # it was skipped, or it failed and its handler has the value
                return None
            gone = lost.get(at, ())
            within = (scopes.child(at, name, index) for index in range(count))
            return [None if inner in gone else of_item(inner) for inner in within]

        return results

    def _failure_evaluator(self, name: str, values: Values) -> _Evaluate:
        """The StepError of a node of this level; handlers stand in no spread."""
        node = self.graph.node(name)
        error = values[ErrorOf(name, self.base)] or {}
        given: dict[str, JSON] = {}
        if isinstance(node, StepNode | CallNode):
            given = {param: self.value(binding, values) for param, binding in node.arguments}
        told = {
            "step": scopes.options_path(name, self.base),
            "kind": error.get("kind"),
            "message": error.get("message"),
            "attempts": error.get("attempt"),
            "input": _object(given),
        }
        return lambda _: {"$type": STEP_ERROR, "value": told}

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


def _race(here: Graph, node: MergeNode, scope: str) -> EndedOf:
    handlers = (here.handler(given) for given in node.inputs)
    return EndedOf((*node.inputs, *(name for name in handlers if name is not None)), scope)


def _lost(node: EachNode, scope: str, path: tuple[str, ...] = ()) -> LostOf:
    return LostOf(node.name, scope, path, node.body.names)


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
