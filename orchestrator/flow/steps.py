"""Steps: functions that run durably, and how they run."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from types import FunctionType
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import durations, functions, recording
from orchestrator.flow.definition import DEFAULT_OPTIONS, StepOptions
from orchestrator.flow.durations import Duration
from orchestrator.flow.graph import StepNode
from orchestrator.flow.promises import Promise, location
from orchestrator.flow.recording import Recording
from orchestrator.flow.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What ``.options`` says of one use of a step or a flow.

    ``fixed`` means that the name was given for this use and is not to be numbered.
    """

    name: str
    fixed: bool = False
    after: tuple[Promise, ...] = ()
    settings: StepOptions = DEFAULT_OPTIONS

    def changed(self, name: str | None, after: object, settings: StepOptions) -> Use:
        """Return this use with what was given; None leaves name and ``after`` as they are."""
        return Use(
            name=self.name if name is None else name,
            fixed=self.fixed or name is not None,
            after=self.after if after is None else promises(after),
            settings=settings,
        )


class Authored(Generic[P, R]):
    """A function of the user's and the options of its use: a step or a flow, so what an each runs.

    Attributes:
        body: the function itself, for unit tests of coroutine steps.
        use: its name and options.
        signature: its parameters.
    """

    def __init__(self, function: FunctionType, use: Use) -> None:
        functools.update_wrapper(cast("Any", self), function)
        self.body: Callable[P, Any] = function
        self.use = use
        self.signature = inspect.signature(function)
        self._namespace = functions.namespace(function)

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The annotations as types, the result's as ``return``."""
        return functions.hints(cast("FunctionType", self.body), self._namespace)

    @property
    def name(self) -> str:
        """What its nodes are called, numbered when it is used more than once."""
        return self.use.name

    def used(self, use: Use) -> Self:
        """Return the same function with another use."""
        other = copy.copy(self)
        other.use = use
        return other


class Step(Authored[P, R]):
    """A function that runs durably when a flow calls it; outside a flow it is the plain function.

    Attributes:
        function: its key, ``module:qualname``.
    """

    def __init__(
        self, function: FunctionType, *, name: str | None = None, settings: StepOptions
    ) -> None:
        super().__init__(function, Use(name or function.__name__, settings=settings))
        self.function = functions.key(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Record the step if a flow is being recorded, else call the function.

        In a flow the declared result stands for a promise; elsewhere a coroutine function gives its
        coroutine.
        """
        active = recording.current()
        if active is not None:
            return cast("R", _record(active, self, args, kwargs))
        if recording.holds_promise((*args, *kwargs.values())):
            raise DefinitionError(
                f"{location()}: step {self.name!r} was given a promise outside of a flow body"
            )
        return cast("R", self.body(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<step {self.name} of {self.function}>"

    @property
    def settings(self) -> StepOptions:
        """How it runs."""
        return self.use.settings

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.body)

    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        queue: str | None = None,
        inline: bool | None = None,
        window: int | None = None,
        max_deaths: int | None = None,
    ) -> Step[P, R]:
        """Return the same step with other options; None leaves an option as it is.

        ``after`` takes a promise or a list of promises that must have ended before, though their
        values are not used. ``window`` counts in ``each`` only. A ``name`` given here is taken as
        it is: using it twice in a flow is an error.
        """
        given = settled(
            self.settings,
            retry=retry,
            timeout=timeout,
            queue=queue,
            inline=inline,
            window=window,
            max_deaths=max_deaths,
        )
        return self.used(self.use.changed(name, after, given))


class StepDecorator(Protocol):
    """What ``step(...)`` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    queue: str | None = None,
    inline: bool = True,
    window: int | None = None,
    max_deaths: int | None = None,
) -> StepDecorator: ...
def step(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
) -> Any:
    """Make a function a step: ``@step``, or ``@step(retry=Retry(attempts=3), timeout="30s")``."""

    def decorate(decorated: Callable[..., Any]) -> Step[..., Any]:
        checked = functions.checked(decorated, "step")
        return Step(checked, name=name, settings=settled(DEFAULT_OPTIONS, **options))

    return decorate if function is None else decorate(function)


def _record(active: Recording, used: Step[..., Any], args: Any, kwargs: Any) -> Promise:
    what = f"step {used.name!r}"
    bound = bind(what, used.signature, args, kwargs)
    arguments = tuple(
        (name, active.binding(value, f"{what}, argument {name!r}")) for name, value in bound.items()
    )
    name = active.name(used.name, fixed=used.use.fixed)
    active.keep(used)
    active.options[name] = dataclasses.replace(used.settings, window=None)
    return active.add(StepNode(name, used.function, arguments, after=active.after(used.use.after)))


def bind(
    what: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a call in a flow body binds, by parameter name."""
    try:
        bound: dict[str, Any] = functions.bind(signature, args, kwargs).arguments
    except TypeError as error:
        raise DefinitionError(f"{location()}: {what}: {error}") from None
    return bound


def settled(settings: StepOptions, **given: Any) -> StepOptions:
    """Return options changed by those that are not None; refuse at the line that wrote them."""
    changed = {name: value for name, value in given.items() if value is not None}
    known = [option.name for option in dataclasses.fields(StepOptions)]
    for name in changed:
        if name not in known:
            hint = functions.near_miss(name, known)
            raise DefinitionError(f"{location()}: there is no option {name!r}{hint}")
    try:
        if "timeout" in changed:
            changed["timeout"] = durations.parse(changed["timeout"])
        return dataclasses.replace(settings, **changed)
    except InvalidInput as error:
        raise DefinitionError(f"{location()}: {error}") from error


def promises(after: object) -> tuple[Promise, ...]:
    """Return the promises that ``.options(after=...)`` was given."""
    given = tuple(after) if isinstance(after, list | tuple) else (after,)
    for promise in given:
        if not isinstance(promise, Promise):
            raise DefinitionError(
                f"{location()}: after= takes what a step returned, or a list of these, not a"
                f" {type(promise).__qualname__}"
            )
    return cast("tuple[Promise, ...]", given)
