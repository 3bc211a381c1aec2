"""Steps: functions that run durably, and how they run."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar, cast, overload

from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import adoption, calls, durations, functions, recording
from orchestrator.flow.adoption import CeleryTask
from orchestrator.flow.definition import DEFAULT_OPTIONS, Priority, StepOptions
from orchestrator.flow.durations import Duration
from orchestrator.flow.failures import StepError
from orchestrator.flow.places import location
from orchestrator.flow.retry import Retry
from orchestrator.flow.uses import Authored, R_co, Use

P = ParamSpec("P")
R = TypeVar("R")


class Step(Authored[P, R_co]):
    """A function that runs durably when a flow calls it; outside a flow it is the plain function.

    Attributes:
        function: its key, ``module:qualname``.
        task: the Celery task that was made a step, None of a function.
        transaction_kind: what a transactional step is given as its first argument, which is no
            part of its signature: ``core``, ``session`` or ``psycopg``; None of any other.
    """

    def __init__(
        self, function: FunctionType, *, name: str | None = None, settings: StepOptions
    ) -> None:
        super().__init__(function, Use(name or function.__name__, settings=settings))
        self.function = functions.key(function)
        self.task: CeleryTask | None = None
        self.transaction_kind: str | None = None
        if settings.transactional:
            self.transaction_kind = functions.transaction_kind(function, self._namespace)
            parameters = list(self.signature.parameters.values())
            self.signature = self.signature.replace(parameters=parameters[1:])

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Record the step if a flow is being recorded, else call the function.

        In a flow the declared result stands for a promise; elsewhere a coroutine function gives its
        coroutine.
        """
        active = recording.current()
        if active is not None:
            return cast("R_co", calls.record_step(active, self, args, kwargs))
        if recording.holds_promise((*args, *kwargs.values())):
            raise DefinitionError(
                f"{location()}: step {self.name!r} was given a promise outside of a flow body"
            )
        if self.transaction_kind is not None:
            raise DefinitionError(
                f"{location()}: the transactional step {self.name!r} is called outside of a flow:"
                f" give it a connection yourself with {self.name}.body(connection, ...)"
            )
        call = self.body if self.task is None else self.task
        return cast("R_co", call(*args, **kwargs))

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

    @overload
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], R_co] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        queue: str | None = None,
        priority: Priority | None = None,
        inline: bool | None = None,
        window: int | None = None,
        accept: Literal["all"] | None = None,
        max_deaths: int | None = None,
    ) -> Step[P, R_co]: ...
    @overload
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], R_co] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        queue: str | None = None,
        priority: Priority | None = None,
        inline: bool | None = None,
        window: int | None = None,
        accept: Literal["any"] | float,
        max_deaths: int | None = None,
    ) -> Step[P, R_co | None]: ...
    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], Any] | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        deadline: Duration | None = None,
        queue: str | None = None,
        priority: Priority | None = None,
        inline: bool | None = None,
        window: int | None = None,
        accept: Literal["all", "any"] | float | None = None,
        max_deaths: int | None = None,
    ) -> Any:
        """Return the same step with other options; None leaves an option as it is.

        ``after`` takes a promise or a list of promises that must have ended before, though their
        values are not used. ``on_error`` takes a step: it is given the `StepError` when this one
        has failed for good, and what it returns takes the place of the result. ``window`` and
        ``accept`` count in ``each`` only: how many items are open at once, and how many must
        succeed, "all", "any" or a share. A ``name`` given here is taken as it is: using it twice
        in a flow is an error.
        """
        settings = settled(
            self.settings,
            retry=retry,
            timeout=timeout,
            deadline=deadline,
            queue=queue,
            priority=priority,
            inline=inline,
            window=window,
            max_deaths=max_deaths,
        )
        return self.used(
            self.use.changed(
                name=name, after=after, accept=accept, on_error=on_error, settings=settings
            )
        )


class StepDecorator(Protocol):
    """What ``step(...)`` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


class TransactionalDecorator(Protocol):
    """What ``step(transactional=True)`` returns: its first parameter is no part of a call."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Step[P, R]:
        """Make the function a step."""


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
    deadline: Duration | None = None,
    queue: str | None = None,
    priority: Priority = "normal",
    inline: bool = True,
    window: int | None = None,
    max_deaths: int | None = None,
    transactional: Literal[False] = False,
) -> StepDecorator: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    deadline: Duration | None = None,
    queue: str | None = None,
    priority: Priority = "normal",
    inline: bool = True,
    window: int | None = None,
    max_deaths: int | None = None,
    transactional: Literal[True],
) -> TransactionalDecorator: ...
def step(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
) -> Any:
    """Make a function a step: ``@step``, or ``@step(retry=Retry(attempts=3), timeout="30s")``.

    With ``transactional=True`` its first parameter is a connection to the database of the flows,
    of the kind it is annotated with; what it writes there and its result are stored by one commit.
    """

    def decorate(decorated: Callable[..., Any]) -> Step[..., Any]:
        task = adoption.task_of(decorated)
        if task is not None:
            return _adopted(task, name, options)
        checked = functions.checked(decorated, "step")
        functions.refuse_method(checked, "step")
        return Step(checked, name=name, settings=settled(DEFAULT_OPTIONS, **options))

    return decorate if function is None else decorate(function)


def _adopted(task: CeleryTask, name: str | None, options: dict[str, Any]) -> Step[..., Any]:
    """Return a Celery task as a step; calls of its own by others stay what they are."""
    if options.get("transactional"):
        raise DefinitionError(f"{location()}: a Celery task takes no transaction: write a step")
    function = adoption.function_of(task)
    own = adoption.options_of(task)
    made: Step[..., Any] = Step(
        function,
        name=name or task.__name__,
        settings=settled(settled(DEFAULT_OPTIONS, **own), **options),
    )
    made.task = task
    made.signature = inspect.signature(adoption.run_of(task))  # without self
    return made


def settled(settings: StepOptions, **given: Any) -> StepOptions:
    """Return options changed by those that are not None; refuse at the line that wrote them."""
    changed = {name: value for name, value in given.items() if value is not None}
    known = [option.name for option in dataclasses.fields(StepOptions)]
    for name in changed:
        if name not in known:
            hint = functions.near_miss(name, known)
            raise DefinitionError(f"{location()}: there is no option {name!r}{hint}")
    try:
        for name in changed.keys() & {"timeout", "deadline"}:
            changed[name] = durations.parse(changed[name])
        return dataclasses.replace(settings, **changed)
    except InvalidInput as error:
        raise DefinitionError(f"{location()}: {error}") from error
