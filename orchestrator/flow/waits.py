"""Waiting without a worker: for a signal from outside, for a time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, TypeVar, overload

from orchestrator.errors import InvalidInput
from orchestrator.flow import durations, recording, shapes, uses
from orchestrator.flow.bindings import Binding, Literal
from orchestrator.flow.durations import Duration
from orchestrator.flow.graph import SignalNode, SleepNode
from orchestrator.flow.promises import Promise
from orchestrator.flow.recording import Recording

T = TypeVar("T")
D = TypeVar("D")

_NO_DEFAULT: Final[Any] = object()


@overload
def signal(
    name: str, annotation: type[T], *, within: Duration | None = None, after: object = None
) -> T: ...
@overload
def signal(
    name: str, annotation: type[T], *, within: Duration, default: D, after: object = None
) -> T | D: ...
@overload
def signal(
    name: str,
    annotation: Any = ...,
    *,
    within: Duration | None = None,
    default: object = ...,
    after: object = None,
) -> Any: ...
def signal(
    name: str,
    annotation: Any = Any,
    *,
    within: Duration | None = None,
    default: Any = _NO_DEFAULT,
    after: object = None,
) -> Any:
    """Wait for an event of this name that is sent to the execution; return what it carries.

    ``annotation`` is the type of the value, ``within`` how long to wait. When the time is over the
    value is ``default``; without one the flow fails with TimedOut. An event that was sent early is
    kept. ``after`` takes what must have ended before the time begins.
    """
    active = recording.active("signal(...)")
    if type(name) is not str or not name:
        return active.refused(f"signal({name!r}): the name of an event is text, as in 'manager_ok'")
    what = f"signal({name!r})"
    if default is not _NO_DEFAULT and within is None:
        active.refuse(f"{what} has a default that never comes: give the time to wait with within=")
    literal, kind = None, annotation
    if default is not _NO_DEFAULT:
        written = active.binding(default, f"the default of {what}")
        if not isinstance(written, Literal):
            active.refuse(
                f"the default of {what} is a promise: write a value, or use first_of(...)"
            )
        literal = written if isinstance(written, Literal) else None
        kind = shapes.union((annotation, None if default is None else type(default)))
    node = SignalNode(
        active.name(slug(name) or "signal"),
        name,
        within=None if within is None else _duration(active, f"{what}, within", within),
        default=literal,
        after=active.after(uses.promises(after)),
    )
    active.signals[node.name] = annotation
    return active.add(node, kind)


def sleep(
    duration: Duration | None = None,
    *,
    until: datetime | None = None,
    after: object = None,
) -> object:
    """Wait for a time, ``sleep("3d")``, or until a moment; no worker is held meanwhile.

    The time begins when the steps of ``after`` have ended; what is to come after the wait names it
    with ``.options(after=...)``.
    """
    active = recording.active("sleep(...)")
    if (duration is None) == (until is None):
        return active.refused("sleep() takes a duration or until=, one of them: sleep('3d')")
    lasts: str | None = None
    moment: Binding | None = None
    given: object = duration  # declared as its value, but a promise it may be
    if isinstance(given, Promise):
        active.refuse(
            "sleep() was given a promise: let a step return the moment and write sleep(until=...)"
        )
    elif duration is not None:
        lasts = _duration(active, "sleep()", duration)
    elif until is not None:
        if isinstance(until, datetime) and until.tzinfo is None:
            active.refuse(f"sleep(until={until!r}) names no time zone: give it a tzinfo")
        moment = active.argument(until, "sleep(), argument 'until'", datetime, "until")
    waits = active.after(uses.promises(after))
    return active.add(SleepNode(active.name("sleep"), lasts=lasts, until=moment, after=waits))


def slug(name: str) -> str:
    """Return a name as that of a step: what is no letter, digit or ``_`` becomes ``_``."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:63]
    return f"_{plain}"[:63] if plain[:1].isdigit() else plain


def _duration(active: Recording, what: str, given: Duration) -> str:
    try:
        return durations.text(durations.parse(given))
    except InvalidInput as error:
        active.refuse(f"{what}: {error}")
        return "0s"
