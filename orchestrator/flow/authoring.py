"""Writing flows in Python: ``step``, ``flow`` and ``each``.

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

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import functions, inputs, reading, recording
from orchestrator.flow.definition import Definition, StepOptions
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    Literal,
    Output,
    Param,
    StepNode,
)
from orchestrator.flow.promises import Promise, location
from orchestrator.flow.recording import Recording
from orchestrator.flow.steps import Authored, Step, Use, bind, settled, step

__all__ = ["Flow", "Step", "each", "flow", "step"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Flow(Authored[P, R]):
    """A recorded flow. It is started, or used as the body of an ``each``; it is never called.

    Attributes:
        definition: what is stored of it.
        functions: its steps by function key, those of nested bodies included.
    """

    def __init__(self, function: FunctionType, *, name: str | None, version: str | None) -> None:
        super().__init__(function, Use(name or function.__name__))
        recorded = _record_twice(self.name, function)
        self.functions: Mapping[str, Step[..., Any]] = dict(recorded.functions)
        self.definition = _defined(self, recorded, version)

    def __call__(self, *_: P.args, **__: P.kwargs) -> R:
        """Refuse: a flow is started, or stands in an ``each``."""
        active = recording.current()
        if active is not None:
            raise DefinitionError(
                f"{location()}: flow {self.name!r} is called inside flow {active.flow!r}: use"
                f" each(items, {self.name}), or make it a step"
            )
        raise DefinitionError(
            f"{location()}: flow {self.name!r} is called like a function: start it with"
            f" Orchestrator.start({self.name}, ...)"
        )

    def __repr__(self) -> str:
        return f"<flow {self.name} version {self.definition.version}>"

    def options(
        self, *, name: str | None = None, after: object = None, window: int | None = None
    ) -> Flow[P, R]:
        """Return the same flow with options for its use in an ``each``, as those of a step."""
        settings = settled(self.use.settings, window=window)
        return self.used(self.use.changed(name, after, settings))

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
def flow(*, version: str | None = None, name: str | None = None) -> FlowDecorator: ...
def flow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    version: str | None = None,
    name: str | None = None,
) -> Any:
    """Record a function as a flow: ``@flow``, or ``@flow(version="3")``."""

    def decorate(decorated: Callable[..., Any]) -> Flow[..., Any]:
        checked = functions.checked(decorated, "flow")
        if inspect.iscoroutinefunction(checked):
            raise DefinitionError(
                f"{functions.place(checked)}: flow {checked.__name__!r} is a coroutine: write it"
                " with plain def, its steps may be coroutines"
            )
        if version is not None and not (isinstance(version, str) and version):
            raise DefinitionError(
                f"{functions.place(checked)}: version={version!r} is not text: write version='3'"
            )
        return Flow(checked, name=name, version=version)

    return decorate if function is None else decorate(function)


def each(
    items: Iterable[T],
    over: Authored[Concatenate[T, P], R],
    /,
    *shared: P.args,
    **named: P.kwargs,
) -> list[R]:
    """Run a step or a flow once per item; the value is the list of results, in item order.

    The item is its first argument, ``shared`` and ``named`` are the others, the same for every
    item.
    """
    active = recording.current()
    if active is None:
        raise DefinitionError(f"{location()}: each(...) stands in a flow body only")
    match over:
        case Step():
            return cast("list[R]", _record_each_step(active, items, over, shared, named))
        case Flow():
            return cast("list[R]", _record_each_flow(active, items, over, shared, named))
    raise DefinitionError(
        f"{location()}: each(items, ...) takes a step or a flow, not a {type(over).__qualname__}:"
        " decorate the function with @step"
    )


def _record_each_step(
    active: Recording, items: Any, used: Step[..., Any], args: Any, kwargs: Any
) -> Promise:
    item, shared = _shared(active, used.name, used.signature, args, kwargs)
    params = (item, *(name for name, _ in shared))
    inner = StepNode(used.name, used.function, tuple((name, Param(name)) for name in params))
    active.keep(used)
    return _add_each(
        active,
        items,
        used.use,
        body=Graph(params, (inner,), Output(inner.name)),
        item=item,
        shared=shared,
        options={inner.name: dataclasses.replace(used.settings, window=None)},
    )


def _record_each_flow(
    active: Recording, items: Any, used: Flow[..., Any], args: Any, kwargs: Any
) -> Promise:
    item, given = _shared(active, used.name, used.signature, args, kwargs)
    bound = {item, *(name for name, _ in given)}
    # A flow's body binds every parameter, so the defaults it is used with are part of this graph.
    defaults = used.definition.defaults.items()
    omitted = tuple((name, Literal(value)) for name, value in defaults if name not in bound)
    for inner in used.functions.values():
        active.keep(inner)
    return _add_each(
        active,
        items,
        used.use,
        body=used.definition.graph,
        item=item,
        shared=(*given, *omitted),
        options=used.definition.options,
    )


def _add_each(
    active: Recording,
    items: Any,
    use: Use,
    *,
    body: Graph,
    item: str,
    shared: tuple[tuple[str, Binding], ...],
    options: Mapping[str, StepOptions],
) -> Promise:
    what = f"the items of each {use.name!r}"
    listed = active.binding(items, what)
    if isinstance(listed, DictOf) or (
        isinstance(listed, Literal) and reading.as_list(listed.value) is None
    ):
        raise DefinitionError(
            f"{location()}: {what} are a {type(items).__qualname__}, not a list: write list(...)"
        )
    name = active.name(use.name, fixed=use.fixed)
    active.options[name] = StepOptions(window=use.settings.window, queue=use.settings.queue)
    active.options.update({f"{name}/{path}": inner for path, inner in options.items()})
    after = active.after(use.after)
    return active.add(EachNode(name, listed, item, body, shared, after=after))


def _shared(
    active: Recording, name: str, signature: inspect.Signature, args: Any, kwargs: Any
) -> tuple[str, tuple[tuple[str, Binding], ...]]:
    """The parameter that takes the item, and the others with their bindings."""
    if not signature.parameters:
        raise DefinitionError(
            f"{location()}: {name!r} stands in an each, but has no parameter to take the item"
        )
    bound = bind(f"each {name!r}", signature, (_ITEM, *args), kwargs)
    item = next(param for param, value in bound.items() if value is _ITEM)
    what = f"each {name!r}, argument"
    shared = (
        (param, active.binding(value, f"{what} {param!r}"))
        for param, value in bound.items()
        if param != item
    )
    return item, tuple(shared)


_ITEM = object()


def _record_twice(name: str, function: FunctionType) -> Recording:
    one, two = _record(name, function), _record(name, function)
    differs = recording.difference(one, two)
    if differs:
        raise DefinitionError(
            f"{functions.place(function)}: flow {name!r} is not the same each time it is recorded:"
            f" {differs}. Clocks, random numbers and new ids belong in steps or in the input"
        )
    return one


def _record(name: str, function: FunctionType) -> Recording:
    recorded = Recording(name, tuple(inspect.signature(function).parameters))
    with recorded() as promises:
        value = function(**promises)
        if value is not None:
            recorded.result = recorded.binding(value, f"the result of flow {name!r}")
    return recorded


def _defined(flow: Flow[..., Any], recorded: Recording, version: str | None) -> Definition:
    place = functions.place(cast("FunctionType", flow.body))
    try:
        defaults = {
            name: codec.encode(parameter.default, where=f"the default of {name!r}")
            for name, parameter in flow.signature.parameters.items()
            if parameter.default is not inspect.Parameter.empty
        }
        return Definition.of(
            name=flow.name,
            version=version,
            graph=recorded.graph,
            options=recorded.options,
            defaults=defaults,
        )
    except (DefinitionError, InvalidInput) as error:
        raise DefinitionError(f"{place}: {error}") from error
