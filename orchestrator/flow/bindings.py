"""What stands for a value in a graph: bindings, and the expressions over them.

A binding says where an argument comes from; an expression computes with encoded values, by field
name and without any class of the user's. A condition of a node is a binding too: the node is
skipped if it is false. References are always to the same level of a graph.

The entries of an object are kept sorted by name: their order is no part of a flow's structure, and
it would not survive a JSON object in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias

from orchestrator.codec import JSON

Comparison: TypeAlias = OneOf["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of this graph: an input of the flow, or an item or shared parameter of a body."""

    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """The value of a node of the same level; of an each node its item results, in item order."""

    node: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a node of the same level, for the node that handles it."""

    node: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written in the flow, already encoded by the codec."""

    value: JSON


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list that is put together from bindings."""

    items: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """An object that is put together from bindings."""

    entries: tuple[tuple[str, Binding], ...]

    def __post_init__(self) -> None:
        keep_sorted(self, "entries", self.entries)


@dataclass(frozen=True, slots=True)
class Build:
    """A dataclass or model that is put together from bindings; ``type`` is its codec address."""

    type: str
    entries: tuple[tuple[str, Binding], ...]

    def __post_init__(self) -> None:
        keep_sorted(self, "entries", self.entries)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object by name, or an item of a list by its number; missing if not there."""

    of: Binding
    key: str | int


@dataclass(frozen=True, slots=True)
class Compare:
    """Two values compared; with a missing one false, except for ``== None`` and ``!= None``."""

    operator: Comparison
    left: Binding
    right: Binding


@dataclass(frozen=True, slots=True)
class AllOf:
    """True if every part is."""

    parts: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True if some part is."""

    parts: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True if the part is not."""

    part: Binding


@dataclass(frozen=True, slots=True)
class Missing:
    """True if there is no value: None, a field that is not there, or a step that was skipped."""

    of: Binding


Leaf: TypeAlias = Param | Output | Failure | Literal
Binding: TypeAlias = (
    Leaf | ListOf | DictOf | Build | Field | Compare | AllOf | AnyOf | Not | Missing
)


def parts(binding: Binding) -> tuple[Binding, ...]:
    """Return the bindings that a binding is put together from, one level down."""
    match binding:
        case ListOf(inner) | AllOf(inner) | AnyOf(inner):
            return inner
        case DictOf(entries) | Build(_, entries):
            return tuple(entry for _, entry in entries)
        case Field(of, _) | Missing(of):
            return (of,)
        case Compare(_, left, right):
            return (left, right)
        case Not(part):
            return (part,)
        case _:
            return ()


def leaves(binding: Binding | None) -> Iterator[Leaf]:
    """Yield the parameters, outputs, failures and literals inside a binding, in order."""
    match binding:
        case None:
            return
        case Param() | Output() | Failure() | Literal():
            yield binding
        case _:
            for part in parts(binding):
                yield from leaves(part)


def outputs(binding: Binding | None) -> Iterator[str]:
    """Yield the names of the nodes a binding refers to."""
    for leaf in leaves(binding):
        if isinstance(leaf, Output):
            yield leaf.node


def keep_sorted(owner: object, field: str, pairs: tuple[tuple[str, Binding], ...]) -> None:
    """Sort the named bindings of a frozen record that is being made."""
    object.__setattr__(owner, field, tuple(sorted(pairs, key=lambda pair: pair[0])))
