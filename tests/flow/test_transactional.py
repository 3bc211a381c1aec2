"""Transactional steps: their first parameter is given by the engine, and no part of a call."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow.authoring import each, flow, step
from orchestrator.flow.bindings import Param
from orchestrator.flow.definition import StepOptions


class OurSession(Session):
    pass


@step(transactional=True)
def book(tx: Connection, order: str, *, fast: bool = False) -> str:
    return f"{order} {fast}"


@step(transactional=True, queue="books")
def store(tx: Session, order: str) -> str:
    return order


@step(transactional=True)
def store_ours(tx: OurSession) -> None: ...


@step(transactional=True)
def copy_in(tx: psycopg.Connection[Any], order: str) -> str:
    return order


@step
def plain(order: str) -> str:
    return order


def test_the_kind_of_transaction_is_read_from_the_annotation() -> None:
    kinds = [s.transaction_kind for s in (book, store, store_ours, copy_in, plain)]

    assert kinds == ["core", "session", "session", "psycopg", None]
    assert book.settings.transactional
    assert not plain.settings.transactional


def test_the_transaction_is_no_part_of_a_call_in_a_flow() -> None:
    @flow
    def booking(orders: list[str], order: str) -> Any:
        book(order, fast=True)
        return each(orders, book)

    assert list(book.signature.parameters) == ["order", "fast"]
    node: Any = booking.definition.graph.node("book")
    assert dict(node.arguments)["order"] == Param("order")
    assert booking.definition.graph.each("book_2").item == "order"
    assert booking.definition.options["book"].transactional
    assert booking.definition.options["book_2/book"].transactional
    read = type(booking.definition).from_json(booking.definition.to_json())
    assert read.options["book"].transactional


def test_outside_of_a_flow_only_the_body_is_called_with_a_connection() -> None:
    connection: Any = None

    assert book.body(connection, "a") == "a False"
    with pytest.raises(DefinitionError, match=r"book.body\(connection, ...\)"):
        book("a")


def unannotated(tx, order): ...  # type: ignore[no-untyped-def]
def of_another_kind(tx: int, order: str) -> None: ...
def without_parameters() -> None: ...
async def coroutine(tx: Connection) -> None: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (unannotated, "annotate its first parameter with sqlalchemy.Connection"),
        (of_another_kind, "has the first parameter 'tx': annotate its first parameter"),
        (without_parameters, "takes no transaction: annotate its first parameter"),
        (coroutine, "is a coroutine: its transaction belongs to one thread; write it with def"),
    ],
)
def test_what_can_take_no_transaction_is_refused_where_it_is_defined(
    function: Any, told: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        step(transactional=True)(function)

    assert str(refused.value).startswith(f"{__file__}:{function.__code__.co_firstlineno}: ")
    assert told in str(refused.value)


def test_whether_a_step_is_transactional_is_true_or_false() -> None:
    with pytest.raises(InvalidInput, match="transactional='yes': write True or False"):
        StepOptions(transactional="yes")  # type: ignore[arg-type]
