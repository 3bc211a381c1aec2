"""Writing flows in Python: ``step``, ``flow`` and what stands in a flow body.

    @step(retry=Retry(attempts=3), timeout="30s")
    def charge(purchase: Purchase) -> Receipt: ...

    @flow(version="1")
    def checkout(purchase: Purchase) -> list[Label]:
        receipt = charge(purchase)
        return each(split(purchase), pack.options(window=50), receipt)

Inside a flow body a call of a step is declared to return the step's value although it returns a
promise, so that type checkers see the flow as the plain program it looks like.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from types import FunctionType
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import (
    calls,
    drawing,
    durations,
    functions,
    inputs,
    integration,
    mishaps,
    recording,
    steadiness,
    syntax,
    validation,
)
from orchestrator.flow.building import build
from orchestrator.flow.calls import call
from orchestrator.flow.conditions import choose, otherwise, when
from orchestrator.flow.definition import Definition
from orchestrator.flow.durations import Duration
from orchestrator.flow.failures import StepError
from orchestrator.flow.fanout import each
from orchestrator.flow.joins import first_n, first_of
from orchestrator.flow.places import Problem, listed, location
from orchestrator.flow.promises import missing, not_
from orchestrator.flow.recording import Recording
from orchestrator.flow.steps import Step, settled, step
from orchestrator.flow.uses import Authored, R_co, Use
from orchestrator.flow.waits import signal, sleep

__all__ = [
    "Flow",
    "Step",
    "StepError",
    "build",
    "call",
    "choose",
    "each",
    "first_n",
    "first_of",
    "flow",
    "missing",
    "not_",
    "otherwise",
    "signal",
    "sleep",
    "step",
    "when",
]

P = ParamSpec("P")
R = TypeVar("R")


class Flow(Authored[P, R_co]):
    """A recorded flow. It is started, called in another flow, or the body of an ``each``.

    Attributes:
        definition: what is stored of it.
        functions: its steps by function key, those of nested bodies included.
        calls: the flows that it calls as child executions, by name.
        signals: the annotation of what each of its signals brings, by node path.
    """

    def __init__(
        self,
        function: FunctionType,
        *,
        name: str | None,
        version: str | None,
        source: Mapping[str, JSON] | None = None,
        deadline: timedelta | None = None,
    ) -> None:
        super().__init__(function, Use(name or function.__name__))
        recorded = _recorded(self)
        self.functions: Mapping[str, Step[..., Any]] = dict(recorded.functions)
        self.calls: Mapping[str, Flow[..., Any]] = dict(recorded.calls)
        self.signals: Mapping[str, Any] = dict(recorded.signals)
        self.definition = _defined(self, recorded, version, source, deadline)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Record a child execution if a flow is being recorded; elsewhere refuse."""
        active = recording.current()
        if active is not None:
            return cast("R_co", calls.record_flow(active, self, args, kwargs))
        raise DefinitionError(
            f"{location()}: flow {self.name!r} is called like a function: start it with"
            f" Orchestrator.start({self.name}, ...)"
        )

    @staticmethod
    def from_graph(
        document: Mapping[str, Any],
        *,
        components: integration.Components,
        name: str | None = None,
        version: str | None = None,
    ) -> Flow[[Any], dict[str, Any]]:
        """Return the flow of a graph document of an integration platform.

        ``components`` has the step of each (component id, function). The name is by default the
        document's ``name``, else its ``title``. The flow takes the input ``message``, which its
        first node is given; its result has the results of its last nodes by name.

        Raises DefinitionError naming all unknown components, and all else that is wrong.
        """
        called = name or integration.name_of(document)
        try:
            function = integration.function_of(document, components, called)
        except DefinitionError as error:
            raise DefinitionError(f"{location()}: {error}") from error
        return Flow(function, name=called, version=version, source=document)

    def graph(self) -> dict[str, Any]:
        """Return its nodes and edges as plain data, each with its path."""
        about = {"name": self.name, "version": self.definition.version}
        return about | drawing.plain(self.definition.graph)

    def mermaid(self, states: Mapping[str, str] | None = None) -> str:
        """Return its graph as a Mermaid flowchart; ``states`` are statuses by node path."""
        return drawing.mermaid(self.definition.graph, states, title=self.name)

    def dot(self, states: Mapping[str, str] | None = None) -> str:
        """Return its graph as a Graphviz digraph; ``states`` are statuses by node path."""
        return drawing.dot(self.definition.graph, states, title=self.name)

    def __repr__(self) -> str:
        known = vars(self).get("definition")  # a flow that is refused has none
        return f"<flow {self.name} version {known.version}>" if known else f"<flow {self.name}>"

    @overload
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], R_co] | None = None,
        window: int | None = None,
        accept: Literal["all"] | None = None,
    ) -> Flow[P, R_co]: ...
    @overload
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], R_co] | None = None,
        window: int | None = None,
        accept: Literal["any"] | float,
    ) -> Flow[P, R_co | None]: ...
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], Any] | None = None,
        window: int | None = None,
        accept: Literal["all", "any"] | float | None = None,
    ) -> Any:
        """Return the same flow with options for its use in another flow, as those of a step."""
        settings = settled(self.use.settings, window=window)
        return self.used(
            self.use.changed(
                name=name, after=after, accept=accept, on_error=on_error, settings=settings
            )
        )

    def as_defined(self) -> Flow[P, R_co]:
        """Return the flow without the options of its use."""
        return self.used(Use(self.definition.name))

    @property
    def schema(self) -> Mapping[str, JSON]:
        """The JSON schema of its input document."""
        return self.definition.schema

    def validate_input(
        self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> dict[str, JSON]:
        """Return the encoded input document of a start from Python, defaults included.

        Raises InvalidInput naming flow, parameter and field.
        """
        try:
            bound = functions.bind(self.signature, args, kwargs or {})
        except TypeError as error:
            raise InvalidInput(f"flow {self.name!r}: {error}") from None
        checked = inputs.from_python(self.name, bound.arguments, self.hints)
        return {**self.definition.defaults, **checked}

    def validate_document(self, document: Mapping[str, Any]) -> dict[str, JSON]:
        """Return the encoded input of a JSON document by parameter name, defaults included."""
        inputs.check_names(self.name, document, self.signature)
        checked = inputs.from_document(self.name, document, self.hints)
        return {**self.definition.defaults, **checked}


class FlowDecorator(Protocol):
    """What ``flow(...)`` with options returns."""

    def __call__(self, function: Callable[P, R], /) -> Flow[P, R]:
        """Record the function."""


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *, version: str | None = None, name: str | None = None, deadline: Duration | None = None
) -> FlowDecorator: ...
def flow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: str | None = None,
    name: str | None = None,
    deadline: Duration | None = None,
) -> Any:
    """Record a function as a flow: ``@flow``, or ``@flow(version="3", deadline="2d")``.

    An execution that has not ended ``deadline`` after its start fails.
    """

    def decorate(decorated: Callable[..., Any]) -> Flow[..., Any]:
        checked = functions.checked(decorated, "flow")
        functions.refuse_method(checked, "flow")
        if version is not None and not (isinstance(version, str) and version):
            raise DefinitionError(
                f"{functions.place(checked)}: version={version!r} is not text: write version='3'"
            )
        try:
            until = None if deadline is None else durations.parse(deadline)
        except InvalidInput as error:
            raise DefinitionError(f"{functions.place(checked)}: deadline: {error}") from error
        return Flow(checked, name=name, version=version, deadline=until)

    return decorate if function is None else decorate(function)


def _recorded(flow: Flow[..., Any]) -> Recording:
    """Record a flow twice and tell all that is wrong with it at once."""
    function = cast("FunctionType", flow.body)
    problems = list(syntax.problems(function))
    if not syntax.runs_at_once(function):
        problems = problems or [Problem(functions.place(function), syntax.LATER)]
        raise DefinitionError(listed(flow.name, problems, function.__code__.co_filename))
    one = _record(flow, function, problems)
    if not one.problems:
        problems.extend(Problem(functions.place(function), told) for told in _wrong(flow, one))
    if not problems:
        differs = steadiness.difference(one, _record(flow, function, problems))
        if differs:
            problems.append(
                Problem(
                    functions.place(function),
                    f"flow {flow.name!r} is not the same each time it is recorded: {differs}."
                    " Clocks, random numbers and new ids belong in steps or in the input",
                )
            )
    if problems:
        raise DefinitionError(listed(flow.name, problems, function.__code__.co_filename))
    return one


def _wrong(flow: Flow[..., Any], recorded: Recording) -> Iterator[str]:
    """What is wrong with a flow as a whole."""
    problem = validation.name_problem(flow.name)
    if problem is not None:
        yield f"flow {flow.name!r}: {problem}"
    for told in validation.problems(recorded.graph):
        yield f"flow {flow.name!r}: {told}"
    for name, value in _defaults(flow):
        try:
            codec.encode(value, where=f"the default of {name!r}")
        except InvalidInput as error:
            yield f"flow {flow.name!r}: {error}"


def _defaults(flow: Flow[..., Any]) -> Iterator[tuple[str, object]]:
    for name, parameter in flow.signature.parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            yield name, parameter.default


def _record(flow: Flow[..., Any], function: FunctionType, problems: list[Problem]) -> Recording:
    """Record a flow once; what is wrong is added to the problems."""
    params = {name: flow.annotation(name) for name in flow.signature.parameters}
    recorded = Recording(flow.name, params)
    with recorded() as promises:
        try:
            value = function(**promises)
            if value is not None:
                what = f"the result of flow {flow.name!r}"
                annotation = flow.annotation("return")
                at = syntax.returned_at(function)
                recorded.result = recorded.argument(value, what, annotation, at=at)
        except Exception as error:
            told = mishaps.told_by(error, function)
            if told is not None:
                recorded.refuse(told.message, at=told.place)
            elif not (recorded.problems or problems):
                raise
            # Else it is likely to follow from what stood in for a value.
        for unopened, block in recorded.unopened.values():
            recorded.refuse(f"{block} opens no block: write 'with {block}:'", at=unopened)
    problems.extend(recorded.problems)
    return recorded


def _defined(
    flow: Flow[..., Any],
    recorded: Recording,
    version: str | None,
    source: Mapping[str, JSON] | None,
    deadline: timedelta | None,
) -> Definition:
    parameters = flow.signature.parameters
    return Definition.of(
        name=flow.name,
        version=version,
        graph=recorded.graph,
        options=recorded.options,
        defaults={name: codec.encode(value) for name, value in _defaults(flow)},
        schema=inputs.schema(
            flow.name, parameters, {name: flow.annotation(name) for name in parameters}
        ),
        source=source,
        deadline=deadline,
    )
