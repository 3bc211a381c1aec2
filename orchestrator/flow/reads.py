"""What the runtime fetches for the kernel: one record per kind of read, and the shape of its value.

Reads with a ``path`` hold for all items at once: the eaches to walk down from ``scope``. Their
values are mappings by scope text, with one entry for every scope ``scope/path0[i]/path1[j]/...``
(with an empty path: for ``scope`` itself).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class InputOf:
    """A parameter of the flow itself. Value: its encoded input."""

    param: str


@dataclass(frozen=True, slots=True)
class OutputOf:
    """The output of one step run. Value: the encoded output."""

    name: str
    scope: str


@dataclass(frozen=True, slots=True)
class OutputsOf:
    """The outputs of a step in all items below ``scope``. Value: {scope text: encoded output}."""

    name: str
    scope: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemOf:
    """One item of the list stored with an each, whose row lives in ``scope``. Value: the item."""

    each: str
    scope: str
    index: int


@dataclass(frozen=True, slots=True)
class ItemsOf:
    """The stored lists of an each, where a body's result is its item. Value: {scope text: list}."""

    each: str
    scope: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountsOf:
    """How many items an each has. Value: {scope text of the each's row: number of items}."""

    each: str
    scope: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ErrorOf:
    """The error of a step run that failed. Value: the object that its row holds, or None."""

    name: str
    scope: str


@dataclass(frozen=True, slots=True)
class LostOf:
    """The items that an each does without. Value: {scope text of the each's row: item scopes}.

    ``names`` are those of the nodes in its items, at any depth.
    """

    each: str
    scope: str
    path: tuple[str, ...]
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class EndedOf:
    """Which of some step runs of one scope succeeded. Value: their names as they ended."""

    names: tuple[str, ...]
    scope: str


@dataclass(frozen=True, slots=True)
class IsLost:
    """Whether something failed in an item that its each can do without. Value: true or false.

    ``names`` are those of the nodes in the item, at any depth.
    """

    scope: str
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class IsDecided:
    """Whether a merge has what it wanted. Value: true or false."""

    merge: str
    scope: str


Read: TypeAlias = (
    InputOf
    | OutputOf
    | OutputsOf
    | ItemOf
    | ItemsOf
    | CountsOf
    | ErrorOf
    | LostOf
    | EndedOf
    | IsLost
    | IsDecided
)
Values: TypeAlias = Mapping[Read, Any]
