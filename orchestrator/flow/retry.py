"""Retry policies: whether a failed attempt is tried again, and how long that waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput
from orchestrator.flow import durations
from orchestrator.flow.durations import Duration

_REJECT = "orchestrator.errors.Reject"

ErrorTypes = type[BaseException] | str | Iterable[type[BaseException] | str]


def error_types(error: type[BaseException]) -> tuple[str, ...]:
    """Return the names of an error's type and all its bases, nearest first, for ``decide``."""
    return tuple(_name(base) for base in error.__mro__ if issubclass(base, BaseException))


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often and how far apart a step is tried.

    A try that ended with its worker, was handed back or taken over is no failure: it does not
    count.

    Attributes:
        attempts: how many tries in all; 1 means that nothing is tried again.
        first: the wait after the first failure.
        factor: what each further wait is multiplied by.
        cap: the longest wait.
        jitter: whether a wait is shortened at random, to between half of it and all of it.
        on: names of the error types that are tried again, subclasses included.
        not_on: names of those that are not, though ``on`` has them.

    >>> Retry(attempts=3, first="1s", jitter=False).delay(2)
    datetime.timedelta(seconds=2)
    """

    attempts: int
    first: timedelta
    factor: float
    cap: timedelta
    jitter: bool
    on: tuple[str, ...]
    not_on: tuple[str, ...]

    def __init__(
        self,
        attempts: int = 1,
        *,
        first: Duration = "1s",
        factor: float = 2,
        cap: Duration = "1m",
        jitter: bool = True,
        on: ErrorTypes = (Exception,),
        not_on: ErrorTypes = (),
    ) -> None:
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise InvalidInput(f"attempts={attempts!r}: a step is tried at least once")
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor < 1e9:
            raise InvalidInput(f"factor={factor!r}: write a number from 1 on, waits never shrink")
        if not isinstance(jitter, bool):
            raise InvalidInput(f"jitter={jitter!r}: write True or False")
        values: Mapping[str, object] = {
            "attempts": attempts,
            "first": durations.parse(first),
            "factor": float(factor),
            "cap": durations.parse(cap),
            "jitter": jitter,
            "on": _names("on", on),
            "not_on": _names("not_on", not_on),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def decide(self, error_types: tuple[str, ...], attempt: int) -> bool:
        """Return whether another attempt follows failure number ``attempt`` (from 1).

        ``error_types`` are the names of the error's type and its bases, as :func:`error_types`
        gives them.
        """
        if attempt >= self.attempts or _REJECT in error_types:
            return False
        raised = set(error_types)
        return not raised.isdisjoint(self.on) and raised.isdisjoint(self.not_on)

    def delay(self, attempt: int, fraction: float = 1.0) -> timedelta:
        """Return the wait after failure number ``attempt`` (from 1).

        ``fraction`` is the random part, in [0, 1): it is handed in so that the policy stays pure.
        With jitter the wait lies between half of the computed one (0) and all of it (1).
        """
        try:
            seconds = self.first.total_seconds() * self.factor ** (attempt - 1)
        except OverflowError:
            seconds = float("inf") if self.first else 0.0
        wait = self.cap if seconds >= self.cap.total_seconds() else timedelta(seconds=seconds)
        return wait * (0.5 + fraction / 2) if self.jitter else wait

    def to_json(self) -> dict[str, JSON]:
        """Return the policy as it is stored: durations and error types as text."""
        return {
            "attempts": self.attempts,
            "first": durations.text(self.first),
            "factor": self.factor,
            "cap": durations.text(self.cap),
            "jitter": self.jitter,
            "on": list(self.on),
            "not_on": list(self.not_on),
        }

    @classmethod
    def from_json(cls, document: JSON) -> Retry:
        """Return the policy that ``to_json`` wrote; a field that is not there has its default."""
        if not isinstance(document, dict):
            raise InvalidInput(f"retry={document!r}: expected an object")
        unknown = sorted(document.keys() - set(cls.__slots__))
        if unknown:
            raise InvalidInput(f"retry: unknown field {unknown[0]!r}")
        try:
            return cls(**cast("Mapping[str, object]", document))  # type: ignore[arg-type]
        except TypeError as error:
            raise InvalidInput(f"retry: {error}") from error


def _names(field: str, types: ErrorTypes) -> tuple[str, ...]:
    given = (types,) if isinstance(types, str | type) else tuple(types)
    names = []
    for item in given:
        if isinstance(item, str) and item:
            names.append(item)
        elif isinstance(item, type) and issubclass(item, BaseException):
            names.append(_name(item))
        else:
            raise InvalidInput(f"{field}={item!r}: write an exception type, or 'module.Name'")
    return tuple(dict.fromkeys(names))


def _name(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"


#: What a step has that says nothing.
NO_RETRY = Retry(attempts=1)
