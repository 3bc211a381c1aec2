"""What an annotation says of a value that is not there yet: fields, items, whether it may be None.

A flow body reads fields of promises. The value will be encoded when it is read, so only what the
codec writes can be read: fields of dataclasses, pydantic models and named tuples, keys of dicts,
items of lists. `Any`, `object` and what cannot be read here refuse nothing.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel

_UNIONS = (typing.Union, types.UnionType)
_WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)
_IN_A_STEP = "read it in a step"


class NotReadable(Exception):
    """A field or item that no value of the annotation has: what is wrong, and the cure."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem, cure)
        self.problem = problem
        self.cure = cure


def attribute(annotation: Any, name: str) -> Any:
    """Return the annotation of a field; raise NotReadable where no value has it."""
    return _of_any_member(annotation, lambda member: (name, _attribute(member, name)))[1]


def item(annotation: Any, key: object) -> tuple[str | int, Any]:
    """Return the key under which an item is stored, and its annotation; raise NotReadable."""
    if isinstance(key, slice):
        raise NotReadable("cannot be sliced yet", "slice it in a step")
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise NotReadable(
            f"has no item {key!r}", "read an item by a name or a whole number, or compute in a step"
        )
    return _of_any_member(annotation, lambda member: _item(member, key))


def admits_none(annotation: Any) -> bool:
    """Return whether None is a value of the annotation."""
    return any(member in (Any, object, types.NoneType) for member in _members(annotation))


def is_list(annotation: Any) -> bool:
    """Return whether some value of the annotation is stored as a list; None counts as none."""
    return any(
        kind in (Any, object)
        or not isinstance(origin := typing.get_origin(kind) or kind, type)
        or (
            issubclass(origin, collections.abc.Iterable | RootModel)
            and not issubclass(origin, str | bytes | collections.abc.Mapping)
            and field_types(kind) is None
        )
        for kind in _members(annotation)
    )


def element(annotation: Any) -> Any:
    """Return the annotation of the members of a list, tuple or set; Any where it is not known."""
    found = [_element(member) for member in _members(annotation) if member is not types.NoneType]
    return union(found)


def entry(annotation: Any, name: str) -> Any:
    """Return the annotation of a field or key that a value is put together from, else Any."""
    for read in (item, attribute):
        try:
            found = read(annotation, name)
        except NotReadable:
            continue
        return found[1] if read is item else found
    return Any


def union(annotations: Iterable[Any]) -> Any:
    """Return the annotation of a value that is of one of several; Any if one of them is."""
    distinct: list[Any] = []
    for annotation in annotations:
        if annotation is Any:
            return Any
        if annotation not in distinct:
            distinct.append(types.NoneType if annotation is None else annotation)
    return typing.cast("Any", typing.Union)[tuple(distinct)] if distinct else Any


def enum_of(annotation: Any) -> type[Enum] | None:
    """Return the enum of an annotation that admits its members and None only."""
    members = [member for member in _members(annotation) if member is not types.NoneType]
    if len(members) == 1 and isinstance(members[0], type) and issubclass(members[0], Enum):
        return members[0]
    return None


def example_member(kind: type[Enum]) -> str:
    """Return a member of an enum as it is written."""
    return f"{kind.__name__}.{next(iter(kind.__members__), 'MEMBER')}"


def has_order(annotation: Any) -> bool:
    """Return whether some value of the annotation is smaller than another as it is stored."""
    members = [member for member in _members(annotation) if member is not types.NoneType]
    return not members or any(
        field_types(member) is None
        and not (isinstance(member, type) and issubclass(member, Enum | RootModel | dict))
        for member in members
    )


def label(annotation: Any) -> str:
    """Name an annotation as it is written."""
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__.rpartition(">.")[2]
    if typing.get_origin(annotation) in _UNIONS:
        return " | ".join(label(member) for member in typing.get_args(annotation))
    return str(annotation).replace("typing.", "")


def near_miss(name: str, known: Iterable[str]) -> str:
    """Return ``, did you mean 'x'?`` for a name that is nearly one of the known ones."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def field_types(kind: Any) -> Mapping[str, Any] | None:
    """Return the fields of a dataclass, model, named tuple or typed dict; None of anything else."""
    origin = typing.get_origin(kind) or kind
    if not isinstance(origin, type):
        return None
    if issubclass(origin, BaseModel):
        if issubclass(origin, RootModel):
            return None
        return {name: field.annotation for name, field in origin.model_fields.items()}
    if dataclasses.is_dataclass(origin):
        names = [field.name for field in dataclasses.fields(origin)]
    elif issubclass(origin, tuple) and hasattr(origin, "_fields"):
        names = list(origin._fields)
    elif typing.is_typeddict(origin):
        names = list(origin.__annotations__)
    else:
        return None
    hints = _hints(origin)
    given = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    return {name: _filled(hints.get(name, Any), given) for name in names}


def _attribute(kind: Any, name: str) -> Any:
    origin = typing.get_origin(kind) or kind
    if origin in (Any, object) or not isinstance(origin, type) or _is_protocol(origin):
        return Any
    if typing.is_typeddict(origin) or issubclass(origin, collections.abc.Mapping):
        raise NotReadable(f"has no attribute {name!r}, it is a dict", f'write ["{name}"]')
    if issubclass(origin, Enum):
        raise NotReadable(
            f"has no field {name!r}, it is a member of {origin.__name__}",
            f"compare the member itself, as in == {example_member(origin)}",
        )
    fields = field_types(kind)
    if fields is not None and name in fields:
        return fields[name]
    if fields is not None and _takes_more(origin):
        return Any
    found = inspect.getattr_static(origin, name, None)
    if found is not None:
        what = (
            "method"
            if callable(found) or isinstance(found, staticmethod | classmethod)
            else ("property")
        )
        raise NotReadable(f"has {name!r} only as a {what}, not as a field", _IN_A_STEP)
    raise NotReadable(f"has no field {name!r}: it is a {label(kind)}", _cure(name, fields))


def _item(kind: Any, key: str | int) -> tuple[str | int, Any]:
    origin = typing.get_origin(kind) or kind
    arguments = typing.get_args(kind)
    if origin in (Any, object) or not isinstance(origin, type) or _is_protocol(origin):
        return key, Any
    fields = field_types(kind)
    if typing.is_typeddict(origin):
        if isinstance(key, str) and fields is not None and key in fields:
            return key, fields[key]
        raise NotReadable(f"has no key {key!r}: it is a {label(kind)}", _cure(str(key), fields))
    if issubclass(origin, collections.abc.Mapping):
        return key, arguments[1] if len(arguments) == 2 else Any
    if fields is not None and isinstance(key, int) and issubclass(origin, tuple):
        names = list(fields)
        if -len(names) <= key < len(names):
            return names[key], fields[names[key]]
        raise NotReadable(f"has no item {key}: it is a {label(kind)}", "count from 0")
    if fields is not None:
        raise NotReadable(f"has no item {key!r}: it is a {label(kind)}", "read a field: .name")
    if isinstance(key, int) and not issubclass(origin, str | bytes):
        if issubclass(origin, tuple):
            return key, _tuple_item(kind, arguments, key)
        if issubclass(origin, collections.abc.Sequence):
            return key, arguments[0] if arguments else Any
    raise NotReadable(f"has no item {key!r}: it is a {label(kind)}", _IN_A_STEP)


def _tuple_item(kind: Any, arguments: tuple[Any, ...], key: int) -> Any:
    if not arguments:
        return Any
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[0]
    if not -len(arguments) <= key < len(arguments):
        raise NotReadable(f"has no item {key}: it is a {label(kind)}", "count from 0")
    return arguments[key]


def _element(kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if not isinstance(origin, type) or not issubclass(origin, collections.abc.Iterable):
        return Any
    if issubclass(origin, tuple) and arguments and arguments[-1] is not Ellipsis:
        return union(arguments)
    return arguments[0] if arguments else Any


def _of_any_member(annotation: Any, read: Any) -> tuple[str | int, Any]:
    """What some member of a union has, its value may have."""
    found: list[tuple[str | int, Any]] = []
    refused: list[NotReadable] = []
    for member in _members(annotation):
        if member is not types.NoneType:
            try:
                found.append(read(member))
            except NotReadable as problem:
                refused.append(problem)
    if found:
        return found[0][0], union(kind for _, kind in found)
    if refused:
        raise refused[0]
    raise NotReadable("is None", "read fields of what has some")


def _members(annotation: Any) -> Iterator[Any]:
    """The members of a union, each as a plain class, generic alias, Any or NoneType."""
    if annotation is None:
        yield types.NoneType
        return
    origin = typing.get_origin(annotation)
    if annotation is inspect.Parameter.empty or isinstance(annotation, str | typing.ForwardRef):
        yield Any
    elif origin in _UNIONS:
        for member in typing.get_args(annotation):
            yield from _members(member)
    elif origin in _WRAPPERS:
        yield from _members(typing.get_args(annotation)[0])
    elif origin is typing.Literal:
        for value in typing.get_args(annotation):
            yield type(value)
    elif isinstance(annotation, TypeVar):
        yield from _members(Any if annotation.__bound__ is None else annotation.__bound__)
    elif isinstance(annotation, typing.NewType):
        yield from _members(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":
        yield from _members(annotation.__value__)
    else:
        yield annotation


def _hints(kind: type) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError):
        return {}


def _filled(annotation: Any, given: Mapping[Any, Any]) -> Any:
    if isinstance(annotation, TypeVar):
        return given.get(annotation, annotation)
    open_ones = getattr(annotation, "__parameters__", ())
    if given and open_ones and not isinstance(annotation, type):
        return annotation[tuple(given.get(variable, Any) for variable in open_ones)]
    return annotation


def _cure(name: str, fields: Mapping[str, Any] | None) -> str:
    missed = near_miss(name, fields or ()).removeprefix(", ")
    return missed or (f"it has {', '.join(fields)}" if fields else _IN_A_STEP)


def _takes_more(kind: type) -> bool:
    return issubclass(kind, BaseModel) and kind.model_config.get("extra") == "allow"


def _is_protocol(kind: type) -> bool:
    return bool(getattr(kind, "_is_protocol", False)) and kind.__module__ != "collections.abc"
