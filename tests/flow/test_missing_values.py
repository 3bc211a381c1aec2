"""Where a value may be used that is missing if its step was skipped, and where not."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import (
    first_of,
    flow,
    missing,
    not_,
    otherwise,
    signal,
    step,
    when,
)


class Approval(BaseModel):
    ok: bool
    by: str = ""


@dataclass
class Order:
    total: int
    note: str | None = None


@step
def charge(order: Order) -> int:
    return order.total


@step
def ask(text: str, note: str | None = None) -> str:
    return text


@step
def take(value: Any) -> Any:
    return value


def test_a_value_may_be_used_in_its_block_in_a_narrower_one_and_in_one_of_the_same_condition() -> (
    None
):
    @flow
    def using(order: Order) -> None:
        with when(order.total > 10):
            paid = charge(order)
            take_int(paid)
            with when(order.note == "x"):
                take_int(paid)
        with when((order.total > 10) & (order.note == "x")):
            take_int(paid)

    assert len(using.definition.graph.nodes) == 4


def test_a_value_may_be_used_where_none_is_admitted_merged_or_asked_for() -> None:
    @flow
    def using(order: Order) -> int | str:
        with when(order.total > 10):
            paid, asked = charge(order), signal("ok", Approval)
        ask("a", note=asked.by)
        take([paid, {"a": paid}])
        take_some([paid, 1])
        take_int(paid == 3)
        ask.options(after=paid)("b")
        with when(missing(paid) | asked.ok):
            other = ask("c")
        return first_of(paid, other)

    assert using.definition.graph.node("ask_2").after == ("charge",)


def test_a_block_that_could_not_be_open_without_a_value_has_it() -> None:
    @flow
    def using(order: Order) -> None:
        with when(order.total > 10):
            asked = signal("ok", Approval)
            paid = charge(order)
        with when(asked.ok):
            ask(asked.by)
            take_int(paid)
        with when(missing(asked)):
            ask("nobody was asked")
        with otherwise():
            ask(asked.by)
        with when((paid != None) & (order.note == "x")):  # noqa: E711
            take_int(paid)
        with when(not_((asked.by == None) | (order.note == "x"))):  # noqa: E711
            ask(asked.by)
        with when((asked.ok == True) | (asked.by > "m")):  # noqa: E712
            ask(asked.by)

    assert len(using.definition.graph.nodes) == 9


@pytest.mark.parametrize(
    "condition",
    [
        lambda _, asked: missing(asked),
        lambda _, asked: asked.by == None,  # noqa: E711
        lambda _, asked: not_(asked.ok),
        lambda order, asked: asked.ok | (order.note == "x"),
        lambda order, asked: not_(missing(asked) & (order.note == "x")),
    ],
)
def test_a_block_that_could_be_open_without_a_value_has_none(condition: Any) -> None:
    def using(order: Order) -> None:
        with when(order.total > 10):
            asked = signal("ok", Approval)
        with when(condition(order, asked)):
            ask(asked.by)

    with pytest.raises(DefinitionError, match="result of step 'ok' may be missing here"):
        flow(using)


@step
def take_int(number: int) -> int:
    return number


@step
def take_some(numbers: list[int | None]) -> None: ...
