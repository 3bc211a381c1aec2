"""What type checkers must accept. This file is checked by mypy and pyright, never run."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_type

from sqlalchemy import Connection

from orchestrator import (
    Flow,
    Retry,
    Step,
    StepError,
    build,
    call,
    choose,
    each,
    first_n,
    first_of,
    flow,
    missing,
    not_,
    otherwise,
    signal,
    sleep,
    step,
    when,
)


@dataclass
class Purchase:
    lines: list[str]
    total: int = 0
    note: str | None = None


@dataclass
class Parcel:
    purchase: Purchase
    receipt: int


@dataclass
class Approval:
    ok: bool
    until: datetime


@step
def split(purchase: Purchase) -> list[str]:
    return purchase.lines


@step(retry=Retry(attempts=3, on=(OSError,)), timeout="30s", queue="payments", inline=False)
def charge(purchase: Purchase, *, currency: str = "EUR") -> int:
    return len(purchase.lines) + len(currency)


@step
async def ship(line: str, receipt: int, *, fast: bool = False) -> float:
    return receipt if fast else len(line)


@step(max_deaths=2)
async def note(text: str) -> None:
    print(text)


@step
def deliver(parcel: Parcel) -> str:
    return parcel.purchase.lines[0]


@step
def bill(error: StepError) -> int:
    return error.attempts


@step
async def bill_later(error: StepError) -> int:
    return error.attempts


@step(transactional=True)
def book(tx: Connection, purchase: Purchase, receipt: int) -> str:
    return str(tx.execute) + purchase.lines[receipt]


@step(transactional=False)
def count(texts: list[str | None]) -> int:
    return len(texts)


@flow
def pack(line: str, receipt: int) -> float:
    return ship(line, receipt, fast=True)


@flow(version="3", name="checkout")
def checkout(purchase: Purchase) -> tuple[int, list[float], list[float]]:
    receipt = charge(purchase, currency="USD")
    assert_type(receipt, int)
    lines = split.options(after=receipt)(purchase)
    assert_type(lines, list[str])
    shipped = each(lines, ship.options(window=50), receipt, fast=True)
    assert_type(shipped, list[float])
    packed = each(lines, pack.options(name="packing"), receipt)
    assert_type(packed, list[float])
    nested = each(each(lines, split_line), total)
    assert_type(nested, list[int])
    assert_type(each((1, 2), square), list[int])
    return receipt, shipped, packed


@flow
def branching(purchase: Purchase) -> str | int | float:
    booking = book(purchase, charge.options(on_error=bill)(purchase))
    assert_type(booking, str)
    with when(purchase.total > 1000):
        approval = signal("manager_ok", Approval, within="3d")
        assert_type(approval, Approval)
    with when((purchase.total <= 1000) | approval.ok & not_(missing(purchase.note))):
        sleep(until=approval.until)
        packed = pack("a", 1)
        assert_type(packed, float)
    with otherwise():
        late = charge.options(on_error=bill_later, after=[booking, sleep("3d")])(purchase)
    chosen = choose(purchase.total > 1, lambda: deliver(parcel(purchase)), lambda: late)
    assert_type(chosen, str | int)
    assert_type(first_of(packed, late), float | int)
    assert_type(first_of([booking, booking], others="leave"), str)
    assert_type(first_n(2, [booking, booking]), list[str])
    assert_type(signal("maybe", str, within="1h", default=None), str | None)
    assert_type(signal("anything"), Any)
    assert_type(call("branching", purchase=purchase), Any)
    return first_of(chosen, packed, late)


def parcel(purchase: Purchase) -> Parcel:
    made = build(Parcel, purchase, receipt=charge(purchase))
    assert_type(made, Parcel)
    return made


@flow
def tolerant(purchase: Purchase) -> int:
    some = each(split(purchase), deliver_line.options(accept=0.9))
    assert_type(some, list[str | None])
    every = each(split(purchase), deliver_line.options(accept="all"))
    assert_type(every, list[str])
    packed = each(split(purchase), pack.options(accept="any"), 1)
    assert_type(packed, list[float | None])
    return count(some)


@step
def deliver_line(line: str) -> str:
    return line


@step
def split_line(line: str) -> list[str]:
    return line.split()


@step
def total(words: Iterable[str]) -> int:
    return len(list(words))


@step
def square(number: int) -> int:
    return number * number


the_flow: Flow[[Purchase], tuple[int, list[float], list[float]]] = checkout
the_step: Step[[str], None] = note.options(retry=Retry(attempts=2), timeout=3)
graph: dict[str, Any] = checkout.graph()
loaded: Flow[[Any], dict[str, Any]] = Flow.from_graph({}, components={("a", "b"): split})
