"""`this_step().seen(connection)`: effects in another database happen once."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import create_engine, text

from orchestrator import Retry, flow, step, this_step
from orchestrator.errors import ExecutionFailed
from orchestrator.store.database import parse_url
from orchestrator.store.seen import TABLE, seen
from tests.runtime import flows
from tests.runtime.lab import Lab

OTHER: list[str] = []


@step(retry=Retry(attempts=3, first="1s", jitter=False))
def credit(amount: int) -> str:
    with psycopg.connect(OTHER[0]) as connection:
        if this_step().seen(connection):
            return "seen"
        connection.execute("INSERT INTO credits VALUES (%s)", [amount])
    flows._run("credit", amount)
    return "new"


@flow
def credited(amount: int) -> str:
    return credit(amount)


@pytest.fixture
def shop(lab: Lab, database_url: str) -> psycopg.Connection[tuple[object, ...]]:
    OTHER[:] = [database_url]
    lab.catalogue.add(credited)
    lab.database.hot().execute("CREATE TABLE credits (amount integer)")
    return lab.database.hot()


def test_an_effect_made_before_a_failure_is_not_made_again(
    lab: Lab, shop: psycopg.Connection[tuple[object, ...]]
) -> None:
    def fail_once() -> None:
        if len(flows.ran) == 1:
            raise ValueError("after the commit")

    shop.execute(TABLE)
    flows.behave["credit"] = fail_once
    handle = lab.start(credited, 5)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == "seen"
    assert shop.execute("SELECT amount FROM credits").fetchall() == [(5,)]


def test_without_the_table_the_error_says_how_to_make_it(
    lab: Lab, shop: psycopg.Connection[tuple[object, ...]]
) -> None:
    handle = lab.start(credited, 5)
    for _ in range(3):
        lab.drain()
        lab.advance(seconds=5)
        lab.sweep()
    lab.drain()
    with pytest.raises(ExecutionFailed, match="CREATE TABLE orchestrator_seen"):
        handle.result(0)


def test_a_sqlalchemy_connection_serves_as_well(lab: Lab, database_url: str) -> None:
    engine = create_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(text(TABLE))
    for expected in (False, True):
        with engine.begin() as connection:
            assert seen(connection, "a") is expected
    engine.dispose()
