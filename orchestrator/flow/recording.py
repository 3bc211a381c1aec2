"""Recording: a flow's function is called once with promises, and what it calls becomes nodes.

A recording knows names, bindings, blocks and places in the user's files; it knows no decorator.
What is wrong is kept with its place, and recording goes on as far as it can, so that all problems
of a flow are told at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from orchestrator import codec
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import documents, presence, shapes, validation
from orchestrator.flow.bindings import Binding, DictOf, ListOf, Literal, Output, Param
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.graph import Graph, Node
from orchestrator.flow.places import Problem, location
from orchestrator.flow.promises import Promise, described, told

if TYPE_CHECKING:
    from orchestrator.flow.authoring import Flow
    from orchestrator.flow.steps import Step

_current: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current() -> Recording | None:
    """Return the recording under way in this context, if any."""
    return _current.get()


def active(construct: str) -> Recording:
    """Return the recording under way; refuse ``construct`` outside of a flow body."""
    found = _current.get()
    if found is None:
        raise DefinitionError(f"{location()}: {construct} stands in a flow body only")
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A ``with when(...):`` around what is being recorded, and the line it was opened at."""

    condition: Binding
    place: str


@dataclasses.dataclass(frozen=True, slots=True)
class Closed:
    """The block that was left last, how deep it lay, and how many nodes there were then."""

    block: Block
    depth: int
    nodes: int


class Recording:
    """One pass over a flow's function.

    Attributes:
        calls: the flows it calls, by name.
        signals: the annotations of the signals it waits for, by node path.
        blocks: the conditions around what is being recorded, outermost first.
        closed: the block that an ``otherwise`` may follow.
        unopened: blocks that were made and not yet put into a ``with``: their place and name.
    """

    def __init__(self, flow: str, params: Mapping[str, Any]) -> None:
        self.flow = flow
        self.params = dict(params)
        self.nodes: list[Node] = []
        self.options: dict[str, StepOptions] = {}
        self.functions: dict[str, Step[..., Any]] = {}
        self.calls: dict[str, Flow[..., Any]] = {}
        self.signals: dict[str, Any] = {}
        self.places: dict[str, str] = {}
        self.result: Binding | None = None
        self.problems: list[Problem] = []
        self.blocks: list[Block] = []
        self.closed: Closed | None = None
        self.unopened: dict[object, tuple[str, str]] = {}
        self._origins: dict[str, tuple[Block, ...]] = {}
        self._conditions: dict[str, tuple[Binding, ...]] = {}

    @contextlib.contextmanager
    def __call__(self) -> Iterator[dict[str, Promise]]:
        """Make this the current recording and hand out the promises of the parameters."""
        token = _current.set(self)
        try:
            yield {name: Promise(Param(name), self, kind) for name, kind in self.params.items()}
        finally:
            _current.reset(token)

    @property
    def graph(self) -> Graph:
        """What was recorded."""
        return Graph(tuple(self.params), tuple(self.nodes), self.result)

    def refuse(self, message: str, at: str | None = None) -> None:
        """Keep a problem of the line under way, if it is a new one.

        Raises DefinitionError when this is no longer the recording under way.
        """
        problem = Problem(at or location(), message)
        if _current.get() is not self:
            raise DefinitionError(str(problem))
        if problem not in self.problems:
            self.problems.append(problem)

    def refused_here(self) -> bool:
        """Return whether the line under way has a problem already."""
        place = location()
        return any(problem.place == place for problem in self.problems)

    def refused(self, message: str) -> Promise:
        """Keep a problem; return a promise that takes whatever follows."""
        self.refuse(message)
        return self.unknown()

    def unknown(self) -> Promise:
        """Return what stands for a value that was refused."""
        return Promise(None, self)

    def add(self, node: Node, annotation: Any = Any) -> Promise:
        """Add a node under the conditions around it; return the promise of its value."""
        conditions = tuple(dict.fromkeys(map(_Same, (block.condition for block in self.blocks))))
        placed = dataclasses.replace(node, conditions=tuple(same.binding for same in conditions))
        self.nodes.append(placed)
        self._origins[node.name] = tuple(self.blocks)
        self._conditions[node.name] = placed.conditions
        self.places.setdefault(node.name, location())
        return Promise(Output(node.name), self, annotation)

    def add_handler(self, node: Node) -> None:
        """Add a node that handles another; it is ordered by the failure alone."""
        self.nodes.append(node)
        self._origins[node.name] = ()
        self.places.setdefault(node.name, location())

    def keep(self, step: Step[..., Any]) -> None:
        """Remember a step's function; one key must not mean two functions."""
        known = self.functions.setdefault(step.function, step)
        if known.body is not step.body:
            self.refuse(
                f"flow {self.flow!r} uses two functions under the key {step.function!r}: a worker"
                " could not tell them apart; give them different names"
            )

    def keep_call(self, flow: Flow[..., Any]) -> None:
        """Remember a flow that is called; one name must not mean two flows."""
        name = flow.definition.name
        known = self.calls.setdefault(name, flow.as_defined())
        if known.body is not flow.body:
            self.refuse(
                f"flow {self.flow!r} calls two flows of the name {name!r}: give one of them"
                " another name with flow(name=...)"
            )

    def is_outside(self, node: str) -> bool:
        """Return whether a node may run although the blocks around what is recorded do not."""
        own = set(map(_Same, self._conditions.get(node, ())))
        return any(_Same(block.condition) not in own for block in self.blocks)

    def name(self, base: str, *, fixed: bool = False) -> str:
        """Return the name of the next node: a fixed one as it is, others numbered from 2 on."""
        problem = validation.name_problem(base)
        if problem is None and base not in self.places:
            self.places[base] = location()
            return base
        if problem is None and fixed:
            problem = f"the name {base!r} was given at {self.places[base]} already"
        number = 2
        while f"{base}_{number}" in self.places:
            number += 1
        numbered = f"{base}_{number}"
        problem = problem or validation.name_problem(numbered)
        if problem is not None:
            self.refuse(f"{problem}; choose one with .options(name=...)")
        self.places[numbered] = location()
        return numbered

    def after(self, promises: Sequence[Promise]) -> tuple[str, ...]:
        """Return the names of the nodes that ``.options(after=...)`` was given."""
        names = []
        for promise in promises:
            match self.own(promise):
                case Output(node):
                    names.append(node)
                case Param(name):
                    self.refuse(
                        f"after= takes results of steps; the parameter {name!r} is there from the"
                        " start"
                    )
                case Literal():  # stands for what was refused
                    pass
                case _:
                    self.refuse(
                        f"after= takes results of steps, not {described(promise)}: name the step"
                        " it comes from"
                    )
        return tuple(names)

    def argument(
        self,
        value: object,
        what: str,
        annotation: Any,
        parameter: str = "",
        at: str | None = None,
    ) -> Binding:
        """Return a value as a binding, for a place whose annotation says whether it may be None.

        ``what`` names the place in messages, ``parameter`` the parameter that could admit None;
        ``at`` is the line if it is not the one under way.
        """
        binding = self.binding(value, what)
        around = [block.condition for block in self.blocks]
        for node, condition in presence.doubtful(binding, annotation, around, self._conditions):
            self.refuse(
                f"{what}: the result of step {node!r} may be missing here: it runs only under the"
                f" condition of {self._block(node, condition)}; use it in that block, merge it"
                f" with first_of(...), or let it be None{_admitting(parameter, annotation)}",
                at,
            )
        return binding

    def binding(self, value: object, what: str, depth: int = 0) -> Binding:
        """Return a value of the flow body as a binding; ``what`` names it in messages."""
        if isinstance(value, Promise):
            return self.own(value)
        if not _holds_promise(value):
            return self._literal(value, what)
        if depth > documents.MAX_BINDING_DEPTH:
            self.refuse(
                f"{what} is nested deeper than {documents.MAX_BINDING_DEPTH} levels, or contains"
                " itself"
            )
            return Literal(None)
        if isinstance(value, dict):
            entries = []
            for key, part in value.items():
                if not isinstance(key, str):
                    self.refuse(f"{what}: the key {key!r} beside a promise is not text")
                    continue
                entries.append((key, self.binding(part, what, depth + 1)))
            return DictOf(tuple(entries))
        if isinstance(value, list) or type(value) is tuple:
            return ListOf(tuple(self.binding(part, what, depth + 1) for part in value))
        kind = type(value).__name__
        self.refuse(f"{what} is a {kind} that holds a promise: write build({kind}, ...) for it")
        return Literal(None)

    def own(self, promise: Promise) -> Binding:
        """Return the binding of a promise of this recording; refuse one of another."""
        known = told(promise)
        if known.recording is self:
            return Literal(None) if known.binding is None else known.binding
        self.refuse(
            f"{described(promise)} of flow {known.recording.flow!r} is used in another recording,"
            f" of flow {self.flow!r}: a promise belongs to the one call of its flow body; pass the"
            " value through a parameter"
        )
        return Literal(None)

    def _literal(self, value: object, what: str) -> Literal:
        try:
            return Literal(codec.encode(value, where=what))
        except InvalidInput as error:
            if isinstance(value, dict) and self.refused_here():
                return Literal(None)  # a promise as a key has been refused
            self.refuse(f"{error}. In a flow body: pass it in the input, or make it in the step")
            return Literal(None)

    def _block(self, node: str, condition: Binding) -> str:
        places = [
            b.place for b in self._origins.get(node, ()) if _Same(b.condition) == _Same(condition)
        ]
        return places[0] if places else self.places[node]


class _Same:
    """A binding that equals another if both are written alike: True is not 1 there."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self._text = codec.canonical(documents.write_binding(binding))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def holds_promise(values: Sequence[object]) -> bool:
    """Return whether promises are handed to a step outside of any recording."""
    return any(isinstance(value, Promise) for value in values)


def _admitting(parameter: str, annotation: Any) -> str:
    return f": {parameter}: {shapes.label(annotation)} | None" if parameter else ""


def _holds_promise(value: object, depth: int = 0) -> bool:
    """Whether a value must stay open; where the nesting has no end the codec says so."""
    if isinstance(value, Promise):
        return True
    if depth > documents.MAX_BINDING_DEPTH:
        return False
    if isinstance(value, dict):
        return any(_holds_promise(part, depth + 1) for part in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_promise(part, depth + 1) for part in value)
    if isinstance(value, BaseModel):
        return any(_holds_promise(part, depth + 1) for _, part in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
        return any(_holds_promise(part, depth + 1) for part in parts)
    return False
