"""Bindings and expressions to and from JSON objects with one field each.

{"param": "x"}  {"output": "charge"}  {"failure": "charge"}  {"literal": 3}
{"list": [...]}  {"dict": {...}}  {"build": "shop:Parcel", "fields": {...}}
{"field": "total", "of": binding}  {"missing": binding}  {"not": binding}
{"all": [...]}  {"any": [...]}  {"compare": "<=", "left": binding, "right": binding}
"""

from __future__ import annotations

import math
from typing import cast, get_args

from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
    Comparison,
    DictOf,
    Failure,
    Field,
    ListOf,
    Literal,
    Missing,
    Not,
    Output,
    Param,
)

#: How deep bindings may be nested in one argument.
MAX_BINDING_DEPTH = 32

#: From here on floats are whole numbers, and PostgreSQL's jsonb gives them back as such.
_WHOLE = 1e16

#: By the field that tells the kind: the other fields it has.
_OTHERS = {"build": {"fields"}, "field": {"of"}, "compare": {"left", "right"}}
_KINDS = (
    *("param", "output", "failure", "literal", "list", "dict", "build", "field", "compare"),
    *("all", "any", "not", "missing"),
)


def write_binding(binding: Binding) -> JSON:
    """Return a binding as a JSON object."""
    match binding:
        case Param(name):
            return {"param": name}
        case Output(node):
            return {"output": node}
        case Failure(node):
            return {"failure": node}
        case Literal(value):
            return {"literal": value}
        case ListOf(items):
            return {"list": [write_binding(item) for item in items]}
        case DictOf(entries):
            return {"dict": {key: write_binding(entry) for key, entry in entries}}
        case Build(address, entries):
            return {
                "build": address,
                "fields": {key: write_binding(entry) for key, entry in entries},
            }
        case Field(of, key):
            return {"field": key, "of": write_binding(of)}
        case Compare(operator, left, right):
            return {
                "compare": operator,
                "left": write_binding(left),
                "right": write_binding(right),
            }
        case AllOf(parts):
            return {"all": [write_binding(part) for part in parts]}
        case AnyOf(parts):
            return {"any": [write_binding(part) for part in parts]}
        case Not(part):
            return {"not": write_binding(part)}
        case Missing(of):
            return {"missing": write_binding(of)}


def read_binding(document: JSON, where: str, depth: int = 0) -> Binding:
    """Return the binding of a document; refuse what is none, naming the place."""
    told = document if isinstance(document, dict) else {}
    kind = next((kind for kind in _KINDS if kind in told), None)
    if kind is None or told.keys() != {kind} | _OTHERS.get(kind, set()):
        raise DefinitionError(f"{where}: expected an object with one of {', '.join(_KINDS)}")
    if depth > MAX_BINDING_DEPTH:
        raise DefinitionError(f"{where}: bindings are nested deeper than {MAX_BINDING_DEPTH}")
    value, inner = told[kind], f"{where}.{kind}"

    def part(name: str) -> Binding:
        return read_binding(told[name], f"{where}.{name}", depth + 1)

    def several() -> tuple[Binding, ...]:
        items = checked_list(value, inner)
        return tuple(read_binding(b, f"{inner}[{i}]", depth + 1) for i, b in enumerate(items))

    def named(entries: JSON, place: str) -> tuple[tuple[str, Binding], ...]:
        if not isinstance(entries, dict):
            raise DefinitionError(f"{place}: expected an object")
        return tuple(
            (key, read_binding(b, f"{place}[{key!r}]", depth + 1)) for key, b in entries.items()
        )

    match kind:
        case "param":
            return Param(checked_text(value, inner))
        case "output":
            return Output(checked_text(value, inner))
        case "failure":
            return Failure(checked_text(value, inner))
        case "literal":
            return Literal(checked_literal(value, inner))
        case "list":
            return ListOf(several())
        case "dict":
            return DictOf(named(value, inner))
        case "build":
            return Build(checked_text(value, inner), named(told["fields"], f"{where}.fields"))
        case "field":
            if type(value) is not int and not isinstance(value, str):
                raise DefinitionError(f"{inner}: expected a name or the number of an item")
            return Field(part("of"), value)
        case "compare":
            if value not in get_args(Comparison):
                raise DefinitionError(f"{inner}: {value!r} is no comparison")
            return Compare(cast("Comparison", value), part("left"), part("right"))
        case "all":
            return AllOf(several())
        case "any":
            return AnyOf(several())
        case "not":
            return Not(part("not"))
        case _:
            return Missing(part("missing"))


def checked_list(document: JSON, where: str) -> list[JSON]:
    """Return a list, or refuse what is none."""
    if not isinstance(document, list):
        raise DefinitionError(f"{where}: expected a list")
    return document


def checked_text(document: JSON, where: str) -> str:
    """Return text, or refuse what is none."""
    if not isinstance(document, str):
        raise DefinitionError(f"{where}: expected text")
    return document


def checked_literal(value: JSON, where: str) -> JSON:
    """Return a literal with its numbers as jsonb would return them, so that fingerprints last."""
    match value:
        case float() if not math.isfinite(value):
            raise DefinitionError(f"{where}: {value} is no JSON number")
        case float() if value == 0:
            return 0.0
        case float() if abs(value) >= _WHOLE:
            return int(value)
        case list():
            return [checked_literal(item, where) for item in value]
        case dict():
            return {key: checked_literal(item, where) for key, item in value.items()}
        case _:
            return value
