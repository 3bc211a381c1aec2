"""``build``: a dataclass or model that is put together when the flow runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from pydantic import BaseModel

from orchestrator import codec
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import functions, recording, shapes
from orchestrator.flow.bindings import Build, DictOf
from orchestrator.flow.places import location
from orchestrator.flow.promises import Promise
from orchestrator.flow.recording import Recording

P = ParamSpec("P")
T = TypeVar("T")


def build(kind: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return a dataclass, model, named tuple or typed dict whose fields are promises.

    ``build(Parcel, receipt=receipt)`` stands for ``Parcel(receipt=receipt)``, which would need the
    receipt now. The object is made, and a model validated, where it is used.
    """
    active = recording.active("build(...)")
    fields = shapes.field_types(kind)
    if not isinstance(kind, type) or fields is None:
        raise DefinitionError(
            f"{location()}: build({getattr(kind, '__name__', kind)}, ...) makes dataclasses,"
            " pydantic models, named tuples and typed dicts: let a step make anything else"
        )
    return cast("T", _record(active, kind, fields, args, kwargs))


def _record(
    active: Recording,
    kind: type,
    fields: typing.Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Promise:
    what = f"build({kind.__name__})"
    given = _named(active, kind, what, fields=fields, args=args, kwargs=kwargs)
    if given is None:
        return active.unknown()
    entries = tuple(
        (name, active.argument(value, f"{what}, field {name!r}", fields[name], name))
        for name, value in given.items()
    )
    if typing.is_typeddict(kind):
        return Promise(DictOf(entries), active, kind)
    try:
        address = codec.address(kind, where=what)
    except InvalidInput as error:
        return active.refused(str(error))
    return Promise(Build(address, entries), active, kind)


def _named(
    active: Recording,
    kind: type,
    what: str,
    *,
    fields: typing.Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any] | None:
    """The values by the name of their field; None if the object could not be made of them."""
    required: frozenset[str]
    if typing.is_typeddict(kind):
        required, by_name = getattr(kind, "__required_keys__", frozenset()), kwargs
    elif issubclass(kind, BaseModel):
        names = {field.alias or name: name for name, field in kind.model_fields.items()}
        by_name = {names.get(name, name): value for name, value in kwargs.items()}
        required = frozenset(n for n, field in kind.model_fields.items() if field.is_required())
    else:
        try:
            bound = functions.bind(inspect.signature(kind), args, kwargs)
        except TypeError as error:
            active.refuse(f"{what}: {error}")
            return None
        return dict(bound.arguments)
    more = isinstance(kind, type) and getattr(kind, "model_config", {}).get("extra") == "allow"
    problems = [f"{len(args)} values without a name: give them by name"] if args else []
    problems.extend(
        f"there is no field {name!r}{shapes.near_miss(name, fields)}"
        for name in by_name
        if name not in fields and not more
    )
    problems.extend(f"the field {n!r} is missing" for n in sorted(required - by_name.keys()))
    for problem in problems:
        active.refuse(f"{what}: {problem}")
    return None if problems else by_name
