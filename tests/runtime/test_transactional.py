"""Transactional steps: what the body writes and its outcome are one commit, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from orchestrator import Retry, flow, step, this_step
from orchestrator.errors import ExecutionFailed
from orchestrator.lifecycle import StepStatus
from orchestrator.runtime.incarnations import DeathWatch
from tests.runtime import flows
from tests.runtime.lab import Lab

INSERT = "INSERT INTO ledger (id, amount) VALUES ('{}', {})"


@step(transactional=True, retry=Retry(attempts=2, first="1s", jitter=False))
def by_core(tx: Connection, amount: int) -> int:
    tx.execute(text(INSERT.format(this_step().id, amount)))
    flows._run("by_core", tx)
    return amount + 1


@step(transactional=True)
def by_session(tx: Session, amount: int) -> int:
    tx.execute(text(INSERT.format(this_step().id, amount)))
    flows._run("by_session", tx)
    return amount + 1


@step(transactional=True)
def by_psycopg(tx: psycopg.Connection[tuple[object, ...]], amount: int) -> int:
    tx.execute("INSERT INTO ledger (id, amount) VALUES (%s, %s)", [this_step().id, amount])
    flows._run("by_psycopg", tx)
    return amount + 1


@flow
def booked(amount: int) -> int:
    return flows.second(by_core(amount))


@flow
def in_three_ways(amount: int) -> int:
    return by_psycopg(by_session(by_core(amount)))


@pytest.fixture
def ledger(lab: Lab) -> Callable[[], list[int]]:
    """A table of the user's; what is in it."""
    lab.catalogue.add(booked)
    lab.catalogue.add(in_three_ways)
    lab.database.hot().execute(
        "CREATE TABLE ledger (id text, amount integer NOT NULL CHECK (amount < 1000))"
    )

    def amounts() -> list[int]:
        rows = lab.database.hot().execute("SELECT amount FROM ledger ORDER BY amount").fetchall()
        return [row[0] for row in rows]

    return amounts


def tx_of(name: str) -> object:
    return next(value for ran, value in reversed(flows.ran) if ran == name)


def test_what_bodies_write_is_there_with_their_outcome(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    handle = lab.start(in_three_ways, 1)
    lab.drain()
    assert handle.result(0) == 4
    assert ledger() == [1, 2, 3]
    lab.sound(handle)


def test_an_error_rolls_back_what_was_written_and_is_retried(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    def fail_once() -> None:
        if len(flows.ran) == 1:
            raise ValueError("after the write")

    flows.behave["by_core"] = fail_once
    handle = lab.start(booked, 1)
    lab.drain()
    assert ledger() == []
    assert lab.row(handle, "by_core")["status"] == StepStatus.READY
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == 4
    assert ledger() == [1]
    lab.sound(handle)


def test_a_worker_that_lost_its_lease_has_written_nothing(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    handle = lab.start(booked, 1)
    message = lab.mail.popleft()

    def be_taken_over() -> None:
        if len(flows.ran) > 1:
            return
        DeathWatch().declare(lab.database.hot(), slow.id, "mistaken for dead")
        lab.worker().deliver(message, redelivered=True)

    flows.behave["by_core"] = be_taken_over
    slow = lab.worker()
    slow.deliver(message)
    lab.drain()
    assert handle.result(0) == 4
    assert [name for name, _ in flows.ran].count("by_core") == 2
    assert ledger() == [1]
    lab.sound(handle)


def test_a_lost_connection_runs_the_whole_transaction_again(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    def break_the_connection_once() -> None:
        if len(flows.ran) == 1:
            tx = tx_of("by_core")
            assert isinstance(tx, Connection)
            pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
            lab.database.hot().execute("SELECT pg_terminate_backend(%s)", [pid])
            tx.execute(text("SELECT 1"))

    flows.behave["by_core"] = break_the_connection_once
    handle = lab.start(booked, 1)
    lab.drain()
    assert handle.result(0) == 4
    assert lab.row(handle, "by_core")["attempt"] == 1
    assert ledger() == [1]


def test_a_commit_whose_answer_was_lost_is_found_and_the_body_is_not_run_again(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    def lose_the_answer_of_the_commit() -> None:
        tx = tx_of("by_core")
        assert isinstance(tx, Connection)
        driver: Any = tx.connection.driver_connection
        commit = driver.commit

        def commit_and_lose_the_answer() -> None:
            commit()
            driver.close()
            raise psycopg.OperationalError("the connection was lost while the answer was awaited")

        driver.commit = commit_and_lose_the_answer

    flows.behave["by_core"] = lose_the_answer_of_the_commit
    handle = lab.start(booked, 1)
    lab.drain()
    assert handle.result(0) == 4
    assert [name for name, _ in flows.ran] == ["by_core", "second"]
    assert ledger() == [1]
    lab.sound(handle)


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("commit", "committed or rolled back the transaction"),
        ("rollback", "committed or rolled back the transaction"),
        ("swallow", "caught an error of the database"),
    ],
)
def test_a_body_that_ends_or_breaks_its_transaction_fails(
    lab: Lab, ledger: Callable[[], list[int]], deed: str, message: str
) -> None:
    def misbehave() -> None:
        tx = tx_of("by_psycopg")
        assert isinstance(tx, psycopg.Connection)
        if deed == "swallow":
            with pytest.raises(psycopg.Error):
                tx.execute("SELECT 1 / 0")
        else:
            getattr(tx, deed)()

    flows.behave["by_psycopg"] = misbehave
    handle = lab.start(in_three_ways, 1)
    lab.drain()
    with pytest.raises(ExecutionFailed, match=message):
        handle.result(0)
    assert 3 not in ledger() or deed == "commit"
    lab.sound(handle)


def test_a_result_that_cannot_be_stored_rolls_back_what_was_written(
    lab: Lab, ledger: Callable[[], list[int]]
) -> None:
    handle = lab.start(booked, 5000)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()
    lab.drain()
    with pytest.raises(ExecutionFailed, match="ledger_amount_check"):
        handle.result(0)
    assert ledger() == []
    lab.sound(handle)
