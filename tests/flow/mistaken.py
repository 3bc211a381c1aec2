"""What the tests of mistakes share: values, steps, and flows that make one mistake each.

The line of a mistake is marked with ``<-`` in the flow that makes it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import StepError, flow, step


class Status(Enum):
    OPEN = 1
    PAID = 2


class Line(NamedTuple):
    sku: str
    count: int


class Approval(BaseModel):
    ok: bool
    when: datetime | None = None
    data: Any = None


@dataclass
class Order:
    total: int
    status: Status
    lines: list[Line]
    labels: dict[str, str]
    note: str | None = None

    @property
    def is_large(self) -> bool:
        return self.total > 1000

    def pay(self) -> None: ...


@dataclass
class Parcel:
    order: Order
    weight: int = 1


@step
def charge(order: Any) -> int:
    return 1


@step
def tell(text: str, note: str | None = None) -> str:
    return text


@step
def sorry(error: StepError) -> int:
    return 0


@step
def rich(error: StepError, more: int) -> int:
    return more


@flow
def child(order: Any, fast: bool = False) -> int:
    return charge(order)


@step
def join(texts: list[str]) -> str:
    return "".join(texts)


@step
def listed() -> list[int]:
    return []


def print_it(error: object) -> None: ...


class Mistakes:
    """Flow bodies that make one mistake each, and what its refusal says."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __call__(self, *told: str) -> Callable[[Callable[..., Any]], None]:
        def keep(body: Callable[..., Any]) -> None:
            self.kept.append(pytest.param(body, told, id=body.__name__))

        return keep


def check(body: Callable[..., Any], told: tuple[str, ...]) -> None:
    """The refusal names the marked line, and no other, and says what it is to say."""
    file = body.__code__.co_filename
    lines, first = inspect.getsourcelines(body)
    marked = [first + number for number, line in enumerate(lines) if "  # <-" in line]

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    message = str(refused.value)
    assert marked
    for line in marked:
        assert f"{file}:{line}: " in message
    for part in told:
        assert part in message
    assert message.count(file) == len(marked) or "condition of" in message
