"""Updates of the two busy tables stay in their page: no index is written for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from orchestrator import Flow, flow, step
from tests.runtime.lab import Lab

CHAINS = 40


@step
def grow(n: int) -> int:
    return n + 1


@flow
def ten(n: int) -> int:
    for _ in range(10):
        n = grow(n)
    return n


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    flows: list[Flow[..., Any]] = [ten]
    opened = Lab.open(database_url, flows)
    yield opened
    opened.close()


def counted(connection: psycopg.Connection[Any], table: str) -> tuple[int, int]:
    """Updates of a table, and those of them that were HOT."""
    row = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE schemaname = 'orchestrator' AND relname = %s",
        (table,),
    ).fetchone()
    assert row is not None
    return row


def test_updates_of_a_chain_are_hot_but_for_the_eye_on_its_head(lab: Lab) -> None:
    for n in range(CHAINS):
        lab.start(ten, n)
    lab.drain()
    lab.retire()
    updates = 10 * CHAINS  # one of the execution and one of the step for each end

    with psycopg.connect(lab.url, autocommit=True) as other:
        lab.database.close()  # a session tells its counts at the latest when it ends
        deadline = time.monotonic() + 10
        while counted(other, "executions")[0] < updates and time.monotonic() < deadline:
            time.sleep(0.05)
        executions, hot_executions = counted(other, "executions")
        steps, hot_steps = counted(other, "steps")

    assert executions == updates
    assert hot_executions >= 0.9 * executions
    # attend_at changes when the head is claimed, when its end prolongs the eye on the segment, and
    # when the segment ends; the ends of the other nine are HOT (protocol.md 8)
    assert steps == updates + 2 * CHAINS
    assert hot_steps >= 0.9 * (9 * CHAINS)
    assert steps - hot_steps <= 3 * CHAINS + 0.1 * updates
