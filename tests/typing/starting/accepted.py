"""What type checkers must accept and infer of starts. Checked, never run."""

from dataclasses import dataclass
from typing import Any, assert_type
from uuid import UUID

import psycopg
from celery import Celery
from sqlalchemy import Connection
from sqlalchemy.orm import Session, scoped_session

from orchestrator import Handle, Orchestrator, flow, step


@dataclass
class Purchase:
    total: int


@step
def count(number: int) -> int:
    return number


@flow
def nothing() -> int:
    return count(1)


@flow
def checkout(purchase: Purchase) -> str:
    raise NotImplementedError


@flow
def pair(first: int, second: str = "x") -> list[int]:
    return [count(first)]


@flow
def keyed(key: str, session: int) -> int:
    return count(session)


@flow
def four(a: int, b: str, c: int, d: float) -> int:
    return count(a)


@flow
def five(a: int, b: str, c: int, d: float, e: bytes) -> int:
    return count(a)


def starts(flows: Orchestrator, purchase: Purchase) -> None:
    assert_type(flows.start(nothing), Handle[int])
    assert_type(flows.start(nothing, key="x"), Handle[int])
    assert_type(flows.start(checkout, purchase), Handle[str])
    assert_type(flows.start(checkout, purchase, key="k"), Handle[str])
    assert_type(flows.start(checkout, purchase=purchase), Handle[str])
    assert_type(flows.start(pair, 1), Handle[list[int]])
    assert_type(flows.start(pair, 1, key="k"), Handle[list[int]])
    assert_type(flows.start(pair, 1, "b", key="k"), Handle[list[int]])
    assert_type(flows.start(pair, 1, second="b"), Handle[list[int]])
    assert_type(flows.start(keyed, "mine", 1, key="ours"), Handle[int])
    assert_type(flows.start(four, 1, "b", 3, 4.0, key="k"), Handle[int])
    assert_type(flows.start(five, 1, "b", 3, 4.0, b""), Handle[int])
    assert_type(flows.start("pair", 1, second="b", key="k"), Handle[Any])
    assert_type(flows.start(checkout, purchase).result(), str)


def many(flows: Orchestrator, purchase: Purchase) -> None:
    assert_type(flows.start_many(checkout, [purchase], keys=["a"]), list[Handle[str]])
    assert_type(flows.start_many(checkout, (p for p in [purchase])), list[Handle[str]])
    assert_type(flows.start_many(pair, [1, 2]), list[Handle[list[int]]])
    assert_type(flows.start_many(four, [(1, "b", 3, 4.0)]), list[Handle[int]])
    assert_type(flows.start_many("pair", [1]), list[Handle[Any]])


def in_transactions(
    flows: Orchestrator,
    purchase: Purchase,
    *,
    session: Session,
    scoped: scoped_session[Session],
    core: Connection,
    raw: psycopg.Connection[dict[str, Any]],
    django: Any,
) -> None:
    assert_type(flows.start(checkout, purchase, session=session), Handle[str])
    assert_type(flows.start(checkout, purchase, session=scoped), Handle[str])
    assert_type(flows.start(checkout, purchase, session=core), Handle[str])
    assert_type(flows.start(checkout, purchase, session=raw, key="k"), Handle[str])
    assert_type(flows.start(checkout, purchase, session=django), Handle[str])
    assert_type(flows.start_many(checkout, [purchase], session=raw), list[Handle[str]])


def references(flows: Orchestrator, handle: Handle[str], identity: UUID) -> None:
    assert_type(flows.wait(handle), str)
    assert_type(flows.wait(identity, 3), Any)
    assert_type(flows.wait((checkout, "k")), Any)
    flows.cancel(handle)
    flows.cancel("01a201bc-d6d8-7154-9118-fa57f6bbdfcb")
    flows.retry(("checkout", "k"))
    flows.get((checkout, "k"))


app = Celery("team")


@app.task
def reserve(sku: str) -> str:
    return sku


# Celery's tasks are not typed by their functions: neither is the step.
adopted = step(reserve)


@flow
def reserving(sku: str) -> Any:
    return adopted(sku)
