"""Expressions over encoded values: fields, comparisons, truth. No class of the user's is touched.

A missing value (None, a field that is not there, a step that was skipped) counts as false and makes
every comparison false, except ``== None`` and ``!= None``, which `is_none` decides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput
from orchestrator.flow.bindings import Comparison

_OPERATORS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SEQUENCES = ("$tuple", "$set", "$frozenset")


def field(value: JSON, key: str | int) -> JSON:
    """Return a field of an encoded object by name, or an item of a list; None if not there."""
    match value:
        case {"$type": str(), "value": dict(inner)}:
            return field(inner, key)
        case {"$dict": dict(inner)}:
            return inner.get(key) if isinstance(key, str) else None
        case {"$dict": list(pairs)}:
            return next((found for name, found in pairs if name == key), None)
        case {"$tuple": list(inner)}:
            return field(inner, key)
        case list() if isinstance(key, int):
            return value[key] if -len(value) <= key < len(value) else None
        case dict() if isinstance(key, str):
            return value.get(key)
    return None


def compare(operation: Comparison, left: JSON, right: JSON) -> bool:
    """Return whether the comparison holds; raise InvalidInput where the two have no order."""
    if left is None or right is None:
        return False
    try:
        return bool(_OPERATORS[operation](_comparable(left), _comparable(right)))
    except (TypeError, ArithmeticError) as error:  # a decimal that is no number has no order
        raise InvalidInput(
            f"{codec.canonical(left)[:80]} {operation} {codec.canonical(right)[:80]} cannot be"
            f" decided: {error}; compare values of one type"
        ) from error


def is_none(operation: Comparison, value: JSON) -> bool:
    """Return whether a comparison with a written None holds."""
    return {"==": value is None, "!=": value is not None}.get(operation, False)


def is_true(value: JSON) -> bool:
    """Return whether Python would call the value true."""
    match value:
        case {"$type": str(), **_rest}:
            return True
        case {"$dict": inner}:
            return bool(inner)
        case dict() if len(value) == 1 and next(iter(value)) in _SEQUENCES:
            return bool(next(iter(value.values())))
    return bool(_comparable(value))


def _comparable(value: JSON) -> Any:
    """A date, number or the like as itself, a set without its order, all else as it is stored."""
    match value:
        case {"$type": str(), **_rest}:
            return codec.canonical(value)
        case {"$set": list(inner)} | {"$frozenset": list(inner)}:
            return frozenset(codec.canonical(item) for item in inner)
        case {"$tuple": list(inner)}:
            return tuple(_comparable(item) for item in inner)
        case {"$dict": _}:
            return codec.canonical(value)
        case list():
            return [_comparable(item) for item in value]
        case dict() if len(value) == 1 and next(iter(value)).startswith("$"):
            return codec.decode(value)
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
    return value
