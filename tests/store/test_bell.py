"""The bell ends a wait when the database has something to send, and survives what it listens to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from orchestrator.store.bell import Bell
from orchestrator.store.database import Database


@pytest.fixture
def bell(database_url: str) -> Iterator[Bell]:
    database = Database(database_url)
    made = Bell(database)
    yield made
    made.close()
    database.close()


@pytest.fixture
def ringer(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def test_a_wait_ends_with_the_commit_that_rings(bell: Bell, ringer: psycopg.Connection) -> None:
    assert bell.wait(10), "having begun to listen it looks once"
    assert not bell.wait(0.01)

    ringer.execute("NOTIFY orchestrator_ready")
    assert bell.wait(10)
    with ringer.transaction():
        ringer.execute("NOTIFY orchestrator_ready")
        assert not bell.wait(0.05), "not committed yet"
    assert bell.wait(10)
    assert not bell.wait(0.01), "once is once"


def test_any_thread_may_end_a_wait(bell: Bell) -> None:
    bell.wait(0)
    ended = threading.Event()

    def wait() -> None:
        assert bell.wait(30)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    bell.ring()
    thread.join(10)
    assert ended.is_set()


def test_rings_before_a_wait_end_it_at_once(bell: Bell) -> None:
    bell.wait(0)
    for _ in range(100_000):
        bell.ring()  # more than any buffer holds
    assert bell.wait(30)


def test_a_lost_connection_is_made_again(bell: Bell, ringer: psycopg.Connection) -> None:
    bell.wait(0)
    assert bell._connection is not None
    ringer.execute("SELECT pg_terminate_backend(%s)", [bell._connection.info.backend_pid])
    until = time.monotonic() + 20
    while time.monotonic() < until and (bell._connection is not None or not bell.wait(0.1)):
        bell.wait(0.1)

    ringer.execute("NOTIFY orchestrator_ready")
    assert bell.wait(10)


def test_a_bell_without_a_database_only_waits() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    bell = Bell(database)
    began = time.monotonic()
    assert not bell.wait(0.05)
    assert not bell.wait(0.05)
    assert time.monotonic() - began >= 0.1
    bell.ring()
    assert bell.wait(30)
    bell.close()
    bell.ring()  # harmless
    database.close()
