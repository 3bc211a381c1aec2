"""Typed JSON: what goes into the database and comes out again with its type, readable with psql.

Plain JSON stays plain; everything else is a *tagged object*, whose key begins with ``$``::

    {"$date": "2026-01-01"}   {"$tuple": [1, 2]}   {"$decimal": "1.10"}   {"$bytes": "aGk="}
    {"$type": "shop.models:Order", "value": {"id": 7}}        dataclass, pydantic model, named tuple
    {"$type": "shop.models:Status", "name": "PAID"}           enum member ("value" for flags)
    {"$dict": {"$ref": 1}}   {"$dict": [[1, "one"]]}          keys with "$", keys that are no text
    {"$text": "a\\\\x00b"}   {"$float": "nan"}                  what PostgreSQL or JSON cannot hold

Rules: a subclass of a supported type (``Counter``, a user's ``str``) comes back as that type; the
order of keys and of set members is not kept (jsonb keeps none either); private attributes of a
model are not stored. Reading creates instances of classes that this process has *already imported*
and that are dataclasses, models, enums or named tuples: it imports and calls nothing else.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import inspect
import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PurePath
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from orchestrator import moments
from orchestrator.errors import InvalidInput

JSON: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

MAX_DEPTH = 100
"""Levels of nesting that are stored; a deeper value, or one that contains itself, is refused."""

_WIDE_INT = 10_000
"""Bits from which on an int is stored as hexadecimal text: json refuses more than 4,300 digits."""

_WIDE_FLOAT = 1e16
"""From here on ``repr`` writes an exponent, which jsonb turns into an integer."""

_CURE = "return its id or path instead, or plain values, a dataclass or a pydantic model of them"

_compact = functools.partial(
    json.JSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":")
)
_write = _compact().encode
_write_sorted = _compact(sort_keys=True).encode


def encode(value: object, *, where: str = "value") -> JSON:
    """Return ``value`` as JSON; raise `InvalidInput` naming the part that cannot be stored.

    ``where`` is what messages call the whole value ("result", "input").
    """
    try:
        return _encode(value, 0)
    except _RefusedError as refused:
        raise InvalidInput(refused.sentence(where)) from refused.__cause__


def decode(data: JSON, annotation: Any = None, *, where: str = "value") -> Any:
    """Return the value that `encode` was given.

    With ``annotation``, data that is not a tagged object is validated and converted by pydantic, so
    that a JSON document written by hand becomes what the annotation says.
    """
    try:
        value = _decode(data, 0)
    except _RefusedError as refused:
        raise InvalidInput(refused.sentence(where)) from refused.__cause__
    if annotation is None or annotation is Any or _tag(data) is not None:
        return value
    return _validated(value, annotation, where)


def dumps(value: object, *, limit_bytes: int | None = None, where: str = "value") -> str:
    """Return ``value`` as compact JSON text of at most ``limit_bytes`` (UTF-8)."""
    return stored(value, limit_bytes=limit_bytes, where=where)[1]


def stored(
    value: object, *, limit_bytes: int | None = None, where: str = "value"
) -> tuple[JSON, str]:
    """Return what `encode` and `dumps` return, encoding once."""
    encoded = encode(value, where=where)
    text = _write(encoded)
    if limit_bytes is not None and (size := len(text.encode())) > limit_bytes:
        message = f"{where} is {size:,} bytes, the limit is {limit_bytes:,}; "
        raise InvalidInput(message + "store it elsewhere and pass its id or path")
    return encoded, text


def loads(text: str | bytes, annotation: Any = None, *, where: str = "value") -> Any:
    """Return the value whose JSON text this is; see `decode`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is not JSON: {error}") from error
    return decode(data, annotation, where=where)


def plain(data: JSON) -> JSON:
    """Return stored JSON as a person reads it, without its tags; what it was is not to be had back.

    Goes by the form alone: no class is needed, and nothing is refused.
    """
    if isinstance(data, list):
        return [plain(item) for item in data]
    if not isinstance(data, dict):
        return data
    tag = _tag(data)
    if tag is None:
        return {key: plain(value) for key, value in data.items()}
    if tag == "$type":
        return data["name"] if "name" in data else plain(data.get("value"))
    body = data[tag]
    if tag == "$dict" and isinstance(body, list):
        return {
            pair[0] if isinstance(pair[0], str) else str(plain(pair[0])): plain(pair[1])
            for pair in body
        }
    if tag == "$dict" and isinstance(body, dict):
        return {key: plain(value) for key, value in body.items()}
    return plain(body)


def canonical(data: JSON) -> str:
    """Return the one text of this JSON value: sorted keys, no spaces. For hashing."""
    return _write_sorted(data)


def address(kind: type, *, where: str = "value") -> str:
    """Return what `encode` writes as ``$type`` of a class; raise `InvalidInput` as it does."""
    try:
        return _public_address(kind)
    except _RefusedError as refused:
        raise InvalidInput(refused.sentence(where)) from None


class _RefusedError(Exception):
    """Carries the reason up; each container on the way adds its part of the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def sentence(self, where: str) -> str:
        return f"{where}{''.join(reversed(self.steps))} {self.reason}"


def _walk(
    visit: Callable[[Any, int], Any], items: Iterable[tuple[object, Any]], depth: int
) -> list[Any]:
    """Visit the parts of a container, given as (index or key, part), one level deeper."""
    done: list[Any] = []
    place: object = None
    try:
        for place, item in items:  # noqa: B007 - the handler below says where it was
            done.append(visit(item, depth + 1))
    except _RefusedError as refused:
        plain = isinstance(place, str) and place.isidentifier()
        refused.steps.append(f".{place}" if plain else f"[{place!r}]")
        raise
    return done


def _encode(value: Any, depth: int) -> JSON:
    kind = type(value)
    if value is None:
        return None
    if kind is bool:
        return bool(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return value if value.bit_length() < _WIDE_INT else {"$int": hex(value)}
    if kind is float:
        return _float(value)
    if depth >= MAX_DEPTH:
        raise _RefusedError(f"is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if kind is dict:
        return _mapping(value, depth)
    if kind is list:
        return _items(value, depth)
    return _encode_typed(value, depth)


def _encode_typed(value: object, depth: int) -> JSON:
    """Everything that is not exactly a type of JSON; the order of cases matters for subclasses."""
    match value:
        case type():
            raise _RefusedError(f"is the class {value.__qualname__}, not a value; {_CURE}")
        case Enum():
            return _member(value, depth)
        case BaseModel() if isinstance(value, RootModel):
            return {"$type": _public_address(type(value)), "value": _encode(value.root, depth + 1)}
        case BaseModel():
            return {"$type": _public_address(type(value)), "value": _fields(value, depth)}
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            fields = zip(names, (getattr(value, name) for name in names), strict=True)
            return {"$type": _public_address(type(value)), "value": _fields(fields, depth)}
        case tuple() if hasattr(value, "_fields"):
            fields = zip(value._fields, value, strict=True)
            return {"$type": _public_address(type(value)), "value": _fields(fields, depth)}
        case tuple():
            return {"$tuple": _items(value, depth)}
        case set() | frozenset():
            tag = "$frozenset" if isinstance(value, frozenset) else "$set"
            return {tag: sorted(_items(value, depth), key=canonical)}
        case dict():
            return _mapping(value, depth)
        case list():
            return _items(value, depth)
        case str():
            return _text(str.__str__(value))
        case int():
            return _encode(int(value), depth)
        case float():
            return _float(float(value))
        case _:
            return _scalar(value)


def _scalar(value: object) -> JSON:
    match value:
        case datetime():
            return {"$datetime": value.isoformat() + moments.zone_suffix(value)}
        case date():
            return {"$date": value.isoformat()}
        case time():
            return {"$time": value.isoformat() + moments.zone_suffix(value)}
        case timedelta():
            return {"$timedelta": moments.duration_text(value)}
        case Decimal():
            return {"$decimal": str(value)}
        case UUID():
            return {"$uuid": str(value)}
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case PurePath() if isinstance(value, type(PurePath())):
            return {"$path": _text(str(value))}
        case _:
            name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            article = "an" if name[0] in "aeiou" else "a"
            raise _RefusedError(f"is {article} {name}, which JSON cannot hold; {_CURE}")


_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(value: str) -> JSON:
    """PostgreSQL holds neither NUL nor lone surrogates in text."""
    if "\x00" not in value and (value.isascii() or not _SURROGATE.search(value)):
        return value
    return {"$text": value.encode("unicode_escape").decode("ascii")}


def _float(value: float) -> JSON:
    if abs(value) < _WIDE_FLOAT and (value or math.copysign(1.0, value) > 0):
        return value
    return {"$float": repr(value)}


def _items(values: Iterable[object], depth: int) -> list[JSON]:
    return _walk(_encode, enumerate(values), depth)


def _fields(pairs: Iterable[tuple[str, object]], depth: int) -> dict[str, JSON]:
    """The fields of a typed object: below ``$type`` no key needs an escape."""
    fields = dict(pairs)
    return dict(zip(fields, _walk(_encode, fields.items(), depth), strict=True))


def _mapping(value: Mapping[Any, object], depth: int) -> JSON:
    if all(type(key) is str and isinstance(_text(key), str) for key in value):
        plain = _fields(value.items(), depth)
        return {"$dict": plain} if any(key.startswith("$") for key in plain) else plain
    (keys,) = _walk(_encode, [("keys", list(value))], depth)  # messages then say ".keys[0]"
    pairs = zip(keys, _walk(_encode, value.items(), depth), strict=True)
    return {"$dict": sorted(map(list, pairs), key=lambda pair: canonical(pair[0]))}


def _member(value: Enum, depth: int) -> JSON:
    address = _public_address(type(value))
    if isinstance(value, Flag):
        return {"$type": address, "value": _encode(value.value, depth + 1)}
    return {"$type": address, "name": value.name}


def _decode(data: JSON, depth: int) -> Any:
    if not isinstance(data, list | dict):
        return data
    if depth > MAX_DEPTH + 1:  # a tag may stand at the last level, with a tagged text in it
        raise _RefusedError(f"is nested deeper than {MAX_DEPTH} levels")
    if isinstance(data, list):
        return _decode_items(data, depth)
    tag = _tag(data)
    if tag is None:
        return _decode_fields(data, depth)
    if tag == "$type":
        return _decode_object(data, depth)
    body = data[tag]
    if len(data) == 1 and tag in _CONTAINERS and isinstance(body, list):
        return _built(_CONTAINERS[tag], _decode_items(body, depth), tag)
    if len(data) == 1 and tag == "$dict":
        return _decode_dict(body, depth)
    if len(data) == 1 and tag in _SCALARS:
        return _built(_SCALARS[tag], _decode(body, depth + 1), tag)
    cure = f'a key of your own that begins with "$" is written {{"$dict": {{"{tag}": ...}}}}'
    raise _RefusedError(f'has the key "{tag}", which is no tag this release knows; {cure}')


def _tag(data: JSON) -> str | None:
    if not isinstance(data, dict):
        return None
    return next((key for key in data if key.startswith("$")), None)


def _decode_items(data: list[Any], depth: int) -> list[Any]:
    return _walk(_decode, enumerate(data), depth)


def _decode_fields(data: dict[str, Any], depth: int) -> dict[str, Any]:
    return dict(zip(data, _walk(_decode, data.items(), depth), strict=True))


def _decode_dict(body: JSON, depth: int) -> dict[Any, Any]:
    match body:
        case dict():
            return _decode_fields(body, depth)
        case list() if all(isinstance(pair, list) and len(pair) == 2 for pair in body):
            return dict(_built(dict, [_decode_items(pair, depth) for pair in body], "$dict"))
        case _:
            raise _RefusedError('has a "$dict" that is neither an object nor a list of pairs')


def _decode_object(data: dict[str, Any], depth: int) -> Any:
    address = data["$type"]
    kind = _resolve(address)
    rest = data.keys() - {"$type"}
    if rest == {"name"} and issubclass(kind, Enum):
        return _built(kind.__members__.__getitem__, data["name"], address)
    if rest == {"value"} and issubclass(kind, Flag | RootModel):
        make = kind.model_validate if issubclass(kind, RootModel) else kind
        return _built(make, _decode(data["value"], depth + 1), address)
    if rest != {"value"} or issubclass(kind, Enum) or not isinstance(data["value"], dict):
        raise _RefusedError(f"is marked as {address} but does not have the form of one")
    fields = _decode_fields(data["value"], depth)
    if issubclass(kind, BaseModel):
        read = functools.partial(kind.model_validate, by_name=True, by_alias=False)
        return _built(read, fields, address)
    return _built(functools.partial(_instance, kind), fields, address)


def _instance(kind: type, fields: dict[str, Any]) -> Any:
    if not dataclasses.is_dataclass(kind):
        return kind(**fields)
    late = {field.name for field in dataclasses.fields(kind) if not field.init}
    made = kind(**{name: value for name, value in fields.items() if name not in late})
    for name in late & fields.keys():
        object.__setattr__(made, name, fields[name])
    return made


def _built(make: Callable[[Any], Any], given: Any, label: str) -> Any:
    try:
        return make(given)
    except Exception as error:  # the class is the user's: whatever it raises means "not this value"
        reason = _first(error) if isinstance(error, ValidationError) else error
        raise _RefusedError(f"cannot be read as {label}: {reason}") from error


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "$datetime": moments.read_datetime,
    "$date": date.fromisoformat,
    "$time": moments.read_time,
    "$timedelta": moments.read_duration,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$path": Path,
    "$text": lambda text: text.encode("ascii").decode("unicode_escape"),
    "$int": lambda text: int(text, 16),
    "$float": float,
}

_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
}

_addresses: dict[type, str] = {}


def _public_address(kind: type) -> str:
    """The address under which another process finds this class; refuses what it would not find."""
    if kind not in _addresses:
        _addresses[kind] = _checked_address(kind)
    return _addresses[kind]


def _checked_address(kind: type) -> str:
    address = f"{kind.__module__}:{kind.__qualname__}"
    cure = "define it at the top of a module under its own name"
    if kind.__module__ == "__main__":
        reason = "is defined in the script that was started, which workers cannot import"
    elif "<locals>" in kind.__qualname__:
        reason = "is defined inside a function"
    elif _find(address) is not kind:
        reason = "is not found there"
    elif lost := _arguments_that_are_no_fields(kind):
        reason, cure = f"takes {lost[0]}, which is no field and is not kept", "make it a field"
    else:
        return address
    raise _RefusedError(f"is a {address}, but that class {reason}; {cure}")


def _arguments_that_are_no_fields(kind: type) -> list[str]:
    if not dataclasses.is_dataclass(kind):
        return []
    make: Callable[..., object] = kind
    names = {field.name for field in dataclasses.fields(kind)}
    return [name for name in inspect.signature(make).parameters if name not in names]


def _find(address: str) -> object:
    """Look the class up without importing and without running any code of the module."""
    module_name, _, qualname = address.partition(":")
    found: object = sys.modules.get(module_name)
    for name in qualname.split("."):
        if not isinstance(found, type | types.ModuleType):
            return None
        found = vars(found).get(name)
    return found


def _resolve(address: object) -> type:
    found = _find(address) if isinstance(address, str) else None
    if found is None:
        cure = "import its module where flows are defined, or keep the old name if it moved"
        raise _RefusedError(f"is a {address}, a class that is not loaded here; {cure}")
    if isinstance(found, type) and (
        issubclass(found, BaseModel | Enum)
        or dataclasses.is_dataclass(found)
        or (issubclass(found, tuple) and hasattr(found, "_fields"))
    ):
        return found
    raise _RefusedError(f"names {address}, which is no dataclass, model, enum or named tuple")


def _validated(value: Any, annotation: Any, where: str) -> Any:
    try:
        adapter = _adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed cannot be cached
        adapter = _adapter.__wrapped__(annotation)
    try:
        return adapter.validate_python(value) if adapter else value
    except PydanticUserError:  # a name in the annotation is not defined
        return value
    except ValidationError as error:
        name = annotation.__name__ if type(annotation) is type else annotation
        raise InvalidInput(f"{where} is not {name}: {_first(error)}") from error


@functools.lru_cache(maxsize=1024)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """None where pydantic has no opinion: an annotation we cannot read refuses nothing."""
    for config in (ConfigDict(arbitrary_types_allowed=True), None):  # models have their own
        with contextlib.suppress(PydanticUserError):
            return TypeAdapter(annotation, config=config)
    return None


def _first(error: ValidationError) -> str:
    first, *more = error.errors(include_url=False)
    place = ".".join(str(part) for part in first["loc"])
    also = f" (and {len(more)} more)" if more else ""
    return f"{place + ': ' if place else ''}{first['msg']}{also}"
