"""What type checkers must accept. This file is checked by mypy, never run."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_type

from orchestrator.flow.authoring import Flow, Step, each, flow, step
from orchestrator.flow.retry import Retry


@dataclass
class Purchase:
    lines: list[str]


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
