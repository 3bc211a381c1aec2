"""What `record_steps` does with arrays that the runtime does not send yet: bundles."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.records import StepAddress
from orchestrator.store import moves
from orchestrator.store.database import Connection, Database

LEASE = timedelta(seconds=30)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    database = Database(database_url)
    yield database.hot()
    database.close()


def start(connection: Connection, *names: str) -> UUID:
    started = moves.start_execution(
        connection,
        execution_id=uuid4(),
        flow="flow",
        definition_id=1,
        key=None,
        document="{}",
        input_hash="",
        orders=[(name, "", "queue") for name in names],
        unsent_after=LEASE,
        actor=None,
    )
    return started.execution_id


def claim(connection: Connection, execution_id: UUID, *names: str) -> None:
    wanted = [(StepAddress(execution_id, name, "", 0), 1) for name in names]
    claimed = moves.claim(connection, wanted, holder=uuid4(), lease=LEASE, nonce=1)
    assert len(claimed) == len(names)


def outcome(name: str, *, token: int = 1, status: str = "succeeded") -> dict[str, Any]:
    return {"name": name, "scope": "", "run": 0, "token": token, "status": status, "output": 1}


def ends(connection: Connection, execution_id: UUID) -> dict[str, int | None]:
    return dict(
        connection.execute(
            "SELECT name, ended_no FROM orchestrator.steps WHERE execution_id = %s", (execution_id,)
        ).fetchall()
    )


@pytest.mark.parametrize(
    "refused", [outcome("a", token=9), outcome("a", status="ready") | {"due_in": 5}]
)
def test_a_bundle_with_an_outcome_that_ends_nothing_keeps_the_order_of_ends(
    connection: Connection, refused: dict[str, Any]
) -> None:
    execution_id = start(connection, "a", "b", "c")
    claim(connection, execution_id, "a", "b", "c")
    record = {"expected": ("running", False, 0), "holder": uuid4()}

    moves.record_steps(
        connection, execution_id, nonce=2, outcomes=[refused, outcome("b")], **record
    )
    moves.record_steps(connection, execution_id, nonce=3, outcomes=[outcome("c")], **record)

    ended = ends(connection, execution_id)
    assert ended["a"] is None
    assert ended["b"] is not None
    assert ended["c"] is not None
    assert ended["b"] < ended["c"]
    row = connection.execute(
        "SELECT started, finished, position FROM orchestrator.executions WHERE id = %s",
        (execution_id,),
    ).fetchone()
    assert row is not None
    assert row[:2] == (3, 2)
    assert row[2] >= ended["c"]


def test_arrivals_at_two_eaches_in_one_call_move_both(connection: Connection) -> None:
    execution_id = start(connection, "left", "right")
    claim(connection, execution_id, "left", "right")
    record = {"expected": ("running", False, 0), "holder": uuid4()}
    opened = {"status": "waiting", "items": 3, "next": 1, "wanted": 3, "live": 0, "output": None}
    moves.record_steps(
        connection,
        execution_id,
        nonce=2,
        outcomes=[outcome("left") | opened, outcome("right") | opened],
        orders=[
            {
                "cause": None,
                "name": name,
                "scope": f"{each}[0]",
                "run": 0,
                "wanted": 1,
                "arrivals": 1,
                "queue": "queue",
            }
            for each, name in (("left", "x"), ("right", "y"))
        ],
        **record,
    )
    arrivals = [
        {
            "cause": None,
            "name": each,
            "scope": "",
            "run": 0,
            "arrivals": count,
            "per_item": 1,
            "firsts": [{"name": name, "queue": "queue"}],
        }
        for each, name, count in (("right", "y", 1), ("left", "x", 1), ("left", "x", 1))
    ]

    answer = moves.record_steps(connection, execution_id, nonce=3, arrivals=arrivals, **record)

    assert [(row.address.name, row.address.scope) for row in answer.ordered] == [
        ("x", "left[1]"),
        ("x", "left[2]"),
        ("y", "right[1]"),
    ]
    rows = connection.execute(
        "SELECT name, live, next FROM orchestrator.steps WHERE execution_id = %s"
        " AND status = 'waiting' ORDER BY name",
        (execution_id,),
    ).fetchall()
    assert rows == [("left", 2, 3), ("right", 1, 2)]
