"""What steps and flows have in common: a function of the user's, and the options of one use."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast

from orchestrator.errors import DefinitionError
from orchestrator.flow import functions
from orchestrator.flow.definition import DEFAULT_OPTIONS, StepOptions
from orchestrator.flow.places import location
from orchestrator.flow.promises import Promise
from orchestrator.flow.recording import Recording

if TYPE_CHECKING:
    from orchestrator.flow.steps import Step

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What ``.options`` says of one use of a step or a flow.

    Attributes:
        name: what its nodes are called.
        fixed: the name was given for this use and is not to be numbered.
        after: what must have ended before.
        accept: of an each, the share of items that must succeed; 0 is at least one.
        on_error: the step that takes a failure.
        settings: how it runs.
    """

    name: str
    fixed: bool = False
    after: tuple[Promise, ...] = ()
    accept: float | None = None
    on_error: Step[..., Any] | None = None
    settings: StepOptions = DEFAULT_OPTIONS

    def changed(
        self,
        *,
        name: str | None,
        after: object,
        accept: object,
        on_error: object,
        settings: StepOptions,
    ) -> Use:
        """Return this use with what was given; None leaves a part as it is."""
        return replace(
            self,
            name=self.name if name is None else name,
            fixed=self.fixed or name is not None,
            after=self.after if after is None else promises(after),
            accept=self.accept if accept is None else share(accept),
            on_error=self.on_error if on_error is None else handler(on_error),
            settings=settings,
        )


class Authored(Generic[P, R_co]):
    """A function of the user's and the options of its use: a step or a flow, so what an each runs.

    Attributes:
        body: the function itself, for unit tests of coroutine and transactional steps.
        use: its name and options.
        signature: its parameters, those that a call gives.
    """

    def __init__(self, function: FunctionType, use: Use) -> None:
        functools.update_wrapper(cast("Any", self), function)
        self.body: Callable[..., Any] = function
        self.use = use
        self.signature = inspect.signature(function)
        self._namespace = functions.namespace(function)

    @functools.cached_property
    def hints(self) -> Mapping[str, Any]:
        """The annotations as types, the result's as ``return``."""
        return functions.hints(cast("FunctionType", self.body), self._namespace)

    def annotation(self, name: str) -> Any:
        """Return the annotation of a parameter or ``return``; Any where none can be read."""
        try:
            return self.hints.get(name, Any)
        except DefinitionError:
            return Any

    @property
    def name(self) -> str:
        """What its nodes are called, numbered when it is used more than once."""
        return self.use.name

    def used(self, use: Use) -> Self:
        """Return the same function with another use."""
        other = copy.copy(self)
        other.use = use
        return other


def bind(
    active: Recording,
    what: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Return what a call in a flow body binds, by parameter name; None if it is refused."""
    try:
        bound: dict[str, Any] = functions.bind(signature, args, kwargs).arguments
    except TypeError as error:
        active.refuse(f"{what}: {error}")
        return None
    return bound


def promises(after: object) -> tuple[Promise, ...]:
    """Return the promises that ``after=...`` was given."""
    if after is None:
        return ()
    given = tuple(after) if isinstance(after, list | tuple) else (after,)
    for promise in given:
        if not isinstance(promise, Promise):
            raise DefinitionError(
                f"{location()}: after= takes what a step returned, or a list of these, not a"
                f" {type(promise).__qualname__}"
            )
    return cast("tuple[Promise, ...]", given)


def share(accept: object) -> float:
    """Return ``accept`` as the share of items that must succeed."""
    match accept:
        case "all":
            return 1.0
        case "any":
            return 0.0
        case int() | float() if not isinstance(accept, bool) and 0 < accept <= 1:
            return float(accept)
    raise DefinitionError(
        f"{location()}: accept={accept!r}: write 'all', 'any', or the share of items that must"
        " succeed, as in 0.9"
    )


def handler(given: object) -> Step[..., Any]:
    """Return the step that ``on_error=...`` was given, which takes one `StepError`."""
    from orchestrator.flow.steps import Step  # noqa: PLC0415 - steps are made of uses

    if not isinstance(given, Step):
        raise DefinitionError(
            f"{location()}: on_error= takes a step, not a {type(given).__qualname__}: decorate the"
            " function with @step"
        )
    required = [
        parameter.name
        for parameter in given.signature.parameters.values()
        if parameter.default is inspect.Parameter.empty
    ]
    if not given.signature.parameters or len(required) > 1:
        raise DefinitionError(
            f"{location()}: the handler {given.name!r} takes {len(required)} arguments: it is given"
            f" one, the error: def {given.name}(error: StepError)"
        )
    if given.use.on_error is not None or given.use.after or given.use.accept is not None:
        raise DefinitionError(
            f"{location()}: the handler {given.name!r} has on_error, after or accept of its own:"
            " it runs only when the step has failed; catch its own errors inside of it"
        )
    return given
