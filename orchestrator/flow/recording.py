"""Recording: a flow's function is called once with promises, and what it calls becomes nodes.

A recording knows names, bindings and places in the user's files; it knows no decorator. Every flow
is recorded twice, and both graphs must be the same: that finds clocks, random numbers and ids made
in a flow body.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from orchestrator import codec
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import documents, validation
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Node,
    Output,
    Param,
    StepNode,
)
from orchestrator.flow.promises import Promise, binding_of, described, location, recording_of

if TYPE_CHECKING:
    from orchestrator.flow.steps import Step

_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current() -> Recording | None:
    """Return the recording under way in this context, if any."""
    return _current.get()


class Recording:
    """One pass over a flow's function."""

    def __init__(self, flow: str, params: Sequence[str]) -> None:
        self.flow = flow
        self.params = tuple(params)
        self.nodes: list[Node] = []
        self.options: dict[str, StepOptions] = {}
        self.functions: dict[str, Step[..., Any]] = {}
        self.places: dict[str, str] = {}
        self.result: Binding | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[dict[str, Promise]]:
        """Make this the current recording and hand out the promises of the parameters."""
        token = _current.set(self)
        try:
            yield {name: Promise(Param(name), self) for name in self.params}
        finally:
            _current.reset(token)

    @property
    def graph(self) -> Graph:
        """What was recorded."""
        return Graph(self.params, tuple(self.nodes), self.result)

    def add(self, node: Node) -> Promise:
        """Add a node and return the promise of its value."""
        self.nodes.append(node)
        self.places[node.name] = location()
        return Promise(Output(node.name), self)

    def keep(self, step: Step[..., Any]) -> None:
        """Remember a step's function; one key must not mean two functions."""
        known = self.functions.setdefault(step.function, step)
        if known.body is not step.body:
            raise DefinitionError(
                f"{location()}: flow {self.flow!r} uses two functions under the key"
                f" {step.function!r}: a worker could not tell them apart; give them different names"
            )

    def name(self, base: str, *, fixed: bool) -> str:
        """Return the name of the next node: a fixed one as it is, others numbered from 2 on."""
        problem = validation.name_problem(base)
        if problem:
            raise DefinitionError(f"{location()}: {problem}; choose one with .options(name=...)")
        if base not in self.places:
            return base
        if fixed:
            raise DefinitionError(
                f"{location()}: the name {base!r} was given at {self.places[base]} already"
            )
        number = 2
        while f"{base}_{number}" in self.places:
            number += 1
        numbered = f"{base}_{number}"
        problem = validation.name_problem(numbered)
        if problem:
            raise DefinitionError(f"{location()}: {problem}; choose one with .options(name=...)")
        return numbered

    def after(self, promises: Sequence[Promise]) -> tuple[str, ...]:
        """Return the names of the nodes that ``.options(after=...)`` was given."""
        names = []
        for promise in promises:
            match self._own(promise):
                case Output(node):
                    names.append(node)
                case Param(name):
                    raise DefinitionError(
                        f"{location()}: after= takes results of steps; the parameter {name!r} is"
                        " there from the start"
                    )
        return tuple(names)

    def binding(self, value: object, what: str, depth: int = 0) -> Binding:
        """Return a value of the flow body as a binding; ``what`` names it in messages."""
        if isinstance(value, Promise):
            return self._own(value)
        if not _holds_promise(value):
            return _literal(value, what)
        if depth > documents.MAX_BINDING_DEPTH:
            raise DefinitionError(
                f"{location()}: {what} is nested deeper than {documents.MAX_BINDING_DEPTH} levels,"
                " or contains itself"
            )
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise DefinitionError(
                        f"{location()}: {what}: the key {key!r} beside a promise is not text"
                    )
            entries = ((key, self.binding(part, what, depth + 1)) for key, part in value.items())
            return DictOf(tuple(entries))
        assert isinstance(value, list | tuple)  # noqa: S101 - _holds_promise looks into no other
        return ListOf(tuple(self.binding(part, what, depth + 1) for part in value))

    def _own(self, promise: Promise) -> Param | Output:
        origin = recording_of(promise)
        if origin is self:
            return binding_of(promise)
        other = origin.flow if isinstance(origin, Recording) else "?"
        raise DefinitionError(
            f"{location()}: {described(promise)} of flow {other!r} is used in another recording, of"
            f" flow {self.flow!r}: a promise belongs to the one call of its flow body; pass the"
            " value through a parameter"
        )


def difference(one: Recording, two: Recording) -> str | None:
    """Return what differs between two recordings of one flow, with its place, or None."""
    for first, second in zip(one.nodes, two.nodes, strict=False):
        if first.name != second.name:
            return (
                f"step {first.name!r} ({one.places[first.name]}) was recorded first, step"
                f" {second.name!r} ({two.places[second.name]}) second"
            )
        where = f"step {first.name!r} ({one.places[first.name]})"
        for part, before, now in _parts(first, second):
            if before != now:
                return f"{where}: {part} was {before} first and {now} second"
        if one.options.get(first.name) != two.options.get(first.name):
            return f"{where}: its options were not the same"
    longer = one if len(one.nodes) > len(two.nodes) else two
    for node in longer.nodes[min(len(one.nodes), len(two.nodes)) :]:
        return f"step {node.name!r} ({longer.places[node.name]}) was recorded only once"
    if _text(one.result) != _text(two.result):
        return "the value it returned"
    return None


def holds_promise(values: Sequence[object]) -> bool:
    """Return whether promises are handed to a step outside of any recording."""
    return any(isinstance(value, Promise) for value in values)


def _parts(one: Node, two: Node) -> Iterator[tuple[str, str, str]]:
    yield "what it runs", _runs(one), _runs(two)
    before, now = dict(_named(one)), dict(_named(two))
    for name in sorted(before.keys() | now.keys()):
        yield f"the argument {name!r}", _text(before.get(name)), _text(now.get(name))
    yield "after", str(one.after), str(two.after)


def _runs(node: Node) -> str:
    match node:
        case StepNode():
            return node.function
        case EachNode():
            return codec.canonical(documents.write_graph(node.body))


def _named(node: Node) -> Iterator[tuple[str, Binding]]:
    match node:
        case StepNode():
            yield from node.arguments
        case EachNode():
            yield "items", node.items
            yield from node.shared


def _text(binding: Binding | None) -> str:
    # As text, because True == 1 and 1 == 1.0.
    return "nothing" if binding is None else codec.canonical(documents.write_binding(binding))


def _holds_promise(value: object, depth: int = 0) -> bool:
    """Whether a list or dict must stay open; where the nesting has no end the codec says so."""
    if isinstance(value, Promise):
        return True
    if depth > documents.MAX_BINDING_DEPTH:
        return False
    if isinstance(value, dict):
        return any(_holds_promise(part, depth + 1) for part in value.values())
    if isinstance(value, list) or type(value) is tuple:
        return any(_holds_promise(part, depth + 1) for part in value)
    return False


def _literal(value: object, what: str) -> Literal:
    try:
        return Literal(codec.encode(value, where=what))
    except InvalidInput as error:
        raise DefinitionError(
            f"{location()}: {error}. In a flow body: pass it in the input, or make it in the step"
        ) from error
