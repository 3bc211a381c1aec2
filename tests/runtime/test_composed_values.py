"""Expressions and values put together in a flow body come to what plain Python would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, NamedTuple, TypedDict

import pytest
from pydantic import BaseModel, Field

from orchestrator import build, each, flow, missing, not_, sleep, step, when
from tests.runtime.lab import Lab


class Status(Enum):
    OPEN = "open"
    PAID = "paid"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int


class Label(TypedDict):
    colour: str


class Address(BaseModel):
    city: str = Field(alias="town")
    lines: list[str] = []


@dataclass(frozen=True)
class Order:
    total: Decimal
    status: Status
    level: Level
    due: datetime
    points: list[Point]
    label: Label
    pair: tuple[int, str]
    note: str | None = None


@dataclass(frozen=True)
class Parcel:
    point: Point
    address: Address
    weight: int = 3


@step
def same(value: Any) -> Any:
    return value


@step
def describe(parcel: Parcel) -> str:
    return f"{parcel.point.x} {parcel.address.city} {parcel.weight}"


@step
def paint(label: Label) -> str:
    return label["colour"]


@step
def locate(point: Point) -> int:
    return point.y


@flow
def composed(order: Order) -> Any:
    address = build(Address, town=order.label["colour"])
    return [
        describe(build(Parcel, build(Point, order.points[0].x, y=1), address)),
        paint(build(Label, colour=order.pair[1])),
        locate(order.points[-1]),
        each(order.points, locate),
        same({"first": order.points[0][0], "pair": order.pair, "literal": Point(7, 8)}),
        order.points[1].y,
    ]


@flow
def compared(order: Order, limit: Decimal, soon: datetime) -> Any:
    same(order.total)
    return {
        "total": order.total > limit,
        "literal": order.total >= Decimal("9.5"),
        "status": order.status == Status.PAID,
        "other": order.status != Status.PAID,
        "level": order.level == Level.HIGH,
        "due": order.due < soon,
        "pair": order.pair == (1, "one"),
        "point": order.points[0] == Point(1, 2),
        "none": order.note == None,  # noqa: E711
        "missing": missing(order.note),
        "not": not_(order.note),
        "both": (order.total > limit) & (order.pair[0] == 1),
        "either": (order.total > limit) | (order.pair[0] == 1),
    }


@flow
def sleepy(order: Order) -> str:
    with when(order.status == Status.OPEN):
        pause = sleep(until=order.due)
    return same.options(after=pause)(order.pair[1])  # type: ignore[no-any-return]


NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = Order(
    total=Decimal("10.00"),
    status=Status.PAID,
    level=Level.HIGH,
    due=NOW,
    points=[Point(1, 2), Point(3, 4)],
    label={"colour": "red"},
    pair=(1, "one"),
)


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    opened = Lab.open(database_url, [composed, compared, sleepy])
    yield opened
    opened.close()


def test_objects_are_put_together_from_fields_items_and_literals(lab: Lab) -> None:
    handle = lab.start(composed, ORDER)
    lab.drain()

    assert handle.result(0) == [
        *("1 red 3", "one", 4, [2, 4]),
        {"first": 1, "pair": (1, "one"), "literal": Point(7, 8)},
        4,
    ]
    lab.sound(handle)


@pytest.mark.parametrize("limit", [Decimal(9), Decimal(10), Decimal(11)])
def test_comparisons_come_to_what_python_says_of_the_values(lab: Lab, limit: Decimal) -> None:
    soon = NOW + timedelta(days=1)

    handle = lab.start(compared, ORDER, limit, soon)
    lab.drain()

    assert handle.result(0) == {
        "total": ORDER.total > limit,
        "literal": ORDER.total >= Decimal("9.5"),
        "status": ORDER.status is Status.PAID,
        "other": ORDER.status is not Status.PAID,
        "level": ORDER.level == Level.HIGH,
        "due": soon > ORDER.due,
        "pair": ORDER.pair == (1, "one"),
        "point": ORDER.points[0] == Point(1, 2),
        "none": ORDER.note is None,
        "missing": ORDER.note is None,
        "not": not ORDER.note,
        "both": ORDER.total > limit and ORDER.pair[0] == 1,
        "either": ORDER.total > limit or ORDER.pair[0] == 1,
    }


@pytest.mark.parametrize(("status", "waits"), [(Status.OPEN, True), (Status.PAID, False)])
def test_a_sleep_until_a_field_waits_for_that_moment_and_a_skipped_one_holds_nothing(
    lab: Lab, status: Status, waits: bool
) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    order = Order(Decimal(1), status, Level.LOW, due, [], {"colour": "red"}, (1, "one"))

    handle = lab.start(sleepy, order)
    lab.drain()

    assert (handle.view().facts.status == "running") == waits
    if waits:
        lab.advance(hours=1, seconds=1)
        lab.sweep()
        lab.drain()
    assert handle.result(0) == "one"
    lab.sound(handle)
