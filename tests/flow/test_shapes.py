"""Which fields and items a promise has is read off its annotation."""

import collections.abc
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
)

import pytest
from pydantic import BaseModel, ConfigDict, RootModel, computed_field

from orchestrator.flow import shapes
from orchestrator.flow.shapes import NotReadable

T = TypeVar("T")
Bound = TypeVar("Bound", bound="Order")


class Status(Enum):
    OPEN = 1


@dataclass
class Order:
    total: int
    note: str | None = None
    next: "Order | None" = None


@dataclass
class Box(Generic[T]):
    content: T
    all: list[T]


@dataclass
class Lost:
    found: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Model(BaseModel):
    size: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return self.size * 2


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    size: int


class Crate(BaseModel, Generic[T]):
    content: T


class Many(RootModel[list[int]]):
    pass


class Point(NamedTuple):
    x: int
    y: str


class Label(TypedDict):
    colour: str
    size: NotRequired[int]


class HasTotal(Protocol):
    total: int


Money = NewType("Money", int)
Ordered = NewType("Ordered", Order)


@pytest.mark.parametrize(
    ("annotation", "name", "found"),
    [
        (Order, "total", int),
        (Order, "note", str | None),
        (Order | None, "total", int),
        (Optional[Order], "total", int),  # noqa: UP045
        (Annotated[Order, "paid"], "total", int),
        (Ordered, "total", int),
        (Bound, "total", Any),
        (Order | Model, "size", int),
        (Order | Point, "total", int),
        (Box[int], "content", int),
        (Box[int], "all", list[int]),
        (Box, "content", T),
        (Lost, "found", Any),
        (Model, "size", int),
        (Open, "anything", Any),
        (Crate[Point], "content", Point),
        (Point, "y", str),
        (HasTotal, "total", Any),
        (Any, "anything", Any),
        (object, "anything", Any),
        (T, "anything", Any),
        ("Order", "anything", Any),
    ],
)
def test_a_field_has_the_annotation_that_its_class_gives_it(
    annotation: Any, name: str, found: Any
) -> None:
    assert shapes.attribute(annotation, name) == found


@pytest.mark.parametrize(
    ("annotation", "key", "stored", "found"),
    [
        (list[int], 0, 0, int),
        (list[int], -1, -1, int),
        (list, 3, 3, Any),
        (Sequence[Order], 0, 0, Order),
        (list[Order] | None, 0, 0, Order),
        (tuple[int, str], 1, 1, str),
        (tuple[int, str], -1, -1, str),
        (tuple[int, ...], 7, 7, int),
        (tuple, 7, 7, Any),
        (Point, 1, "y", str),
        (Point, -2, "x", int),
        (Label, "colour", "colour", str),
        (Label, "size", "size", NotRequired[int]),
        (dict[str, Order], "any", "any", Order),
        (dict[int, Order], 3, 3, Order),
        (dict, "any", "any", Any),
        (collections.abc.Mapping[str, int], "any", "any", int),
        (Any, "any", "any", Any),
        (Any, 3, 3, Any),
    ],
)
def test_an_item_has_a_key_to_be_stored_by_and_an_annotation(
    annotation: Any, key: Any, stored: Any, found: Any
) -> None:
    assert shapes.item(annotation, key) == (stored, found)


@pytest.mark.parametrize(
    ("annotation", "name", "told"),
    [
        (Order, "totl", "did you mean 'total'?"),
        (Order | Model, "totl", "did you mean 'total'?"),
        (Model, "twice", "only as a property"),
        (Model, "model_dump", "only as a method"),
        (Many, "root", "no field 'root'"),
        (Money, "total", "it is a int"),
        (Literal["a"], "total", "it is a str"),
        (Status, "value", "compare the member itself, as in == Status.OPEN"),
        (Label, "colour", 'write ["colour"]'),
        (dict[str, int], "colour", 'write ["colour"]'),
        (list[int], "append", "only as a method"),
        (None, "total", "is None"),
    ],
)
def test_what_is_no_field_is_refused_with_the_cure(annotation: Any, name: str, told: str) -> None:
    with pytest.raises(NotReadable) as refused:
        shapes.attribute(annotation, name)

    assert told in f"{refused.value.problem}: {refused.value.cure}"


@pytest.mark.parametrize(
    ("annotation", "key", "told"),
    [
        (list[int], slice(1, 2), "slice it in a step"),
        (list[int], "a", "it is a list[int]"),
        (list[int], True, "no item True"),
        (str, 0, "it is a str: read it in a step"),
        (set[int], 0, "it is a set[int]"),
        (tuple[int, str], 2, "it is a tuple[int, str]: count from 0"),
        (Point, 2, "it is a Point: count from 0"),
        (Order, "total", "read a field: .name"),
        (Label, "color", "did you mean 'colour'?"),
        (Label, 3, "it has colour, size"),
        (int, 3, "it is a int"),
    ],
)
def test_what_is_no_item_is_refused_with_the_cure(annotation: Any, key: Any, told: str) -> None:
    with pytest.raises(NotReadable) as refused:
        shapes.item(annotation, key)

    assert told in f"{refused.value.problem}: {refused.value.cure}"


@pytest.mark.parametrize("annotation", [Any, object, None, int | None, Optional[int], T])  # noqa: UP045
def test_some_annotations_admit_none(annotation: Any) -> None:
    assert shapes.admits_none(annotation)


@pytest.mark.parametrize(
    "annotation", [int, list[int | None], Annotated[int, None], Money, Bound, Literal["a"]]
)
def test_others_do_not(annotation: Any) -> None:
    assert not shapes.admits_none(annotation) or annotation is Bound


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        (list[int | None], int | None),
        (list[int] | None, int),
        (tuple[int, str], int | str),
        (tuple[int, ...], int),
        (collections.abc.Iterable[int], int),
        (list, Any),
        (Any, Any),
    ],
)
def test_the_members_of_a_list_have_an_annotation(annotation: Any, found: Any) -> None:
    assert shapes.element(annotation) == found


def test_a_union_is_any_as_soon_as_a_part_is() -> None:
    assert shapes.union([int, str, int, None]) == int | str | None
    assert shapes.union([int, Any]) is Any
    assert shapes.union([]) is Any
    assert shapes.union([int]) is int


def test_annotations_are_named_as_they_are_written() -> None:
    written = [int | None, list[int], Order, dict[str, Any], None]

    assert [shapes.label(annotation) for annotation in written] == [
        *("int | None", "list[int]", "Order", "dict[str, Any]", "None"),
    ]
