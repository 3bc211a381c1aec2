"""Bindings as a reader writes them: ``purchase.total > 1000``, for messages and diagrams."""

from __future__ import annotations

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
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

_LONGEST = 40


def text(binding: Binding) -> str:
    """Return a binding as it is written in a flow body, with the names of its steps."""
    match binding:
        case Param(name) | Output(name):
            return name
        case Failure(name):
            return f"error of {name}"
        case Literal(value):
            return _literal(value)
        case Field(of, key):
            return f"{text(of)}.{key}" if isinstance(key, str) else f"{text(of)}[{key}]"
        case Compare(operator, left, right):
            return f"{_part(left)} {operator} {_part(right)}"
        case AllOf(parts):
            return " & ".join(map(_part, parts))
        case AnyOf(parts):
            return " | ".join(map(_part, parts))
        case Not(part):
            return f"not {_part(part)}"
        case Missing(of):
            return f"missing({text(of)})"
        case ListOf(items):
            return f"[{', '.join(map(text, items))}]"
        case DictOf(entries):
            return f"{{{', '.join(f'{key}: {text(entry)}' for key, entry in entries)}}}"
        case Build(address, entries):
            fields = ", ".join(f"{key}={text(entry)}" for key, entry in entries)
            return f"{address.rpartition(':')[2]}({fields})"


def _part(binding: Binding) -> str:
    inner = text(binding)
    return f"({inner})" if isinstance(binding, Compare | AllOf | AnyOf | Not) else inner


def _literal(value: JSON) -> str:
    match value:
        case {"$type": str(address), "name": str(name)}:
            return f"{address.rpartition(':')[2]}.{name}"
        case dict() if len(value) == 1 and next(iter(value)).startswith("$"):
            return _literal(next(iter(value.values())))
        case None | True | False:
            return repr(value)
    written = codec.canonical(value)
    return written if len(written) <= _LONGEST else f"{written[: _LONGEST - 1]}…"
