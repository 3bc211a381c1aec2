"""What must be true when everything has ended, whatever happened before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

import psycopg

from tests.runtime.lab import check_sound
from tests.services.processes import wait_until

# A row is at rest when nobody has to do anything about it any more.
_RESTLESS = {
    "open": "ended_no IS NULL",
    "uncounted": "NOT counter_updated",
    "unsent": "NOT message_sent",
    "attended": "attend_at IS NOT NULL",
    "leased": "status = 'running'",
    "due": "status IN ('ready', 'waiting')",
}


class Call(Protocol):
    """What is known of one call of a body."""

    @property
    def body(self) -> str: ...
    @property
    def execution(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def check_all_at_rest(connection: psycopg.Connection[Any], *, patience: float = 10) -> None:
    """All executions have ended, their counters equal their rows, nothing is left to be done.

    The eye on the first row of an inline segment may outlive the segment by a look of the sweeps,
    so rest is waited for a moment; everything else holds at once.
    """
    restless: dict[str, int] = {}

    def at_rest() -> bool:
        restless.update(_restless(connection))
        return not any(restless.values())

    executions = [
        row[0] for row in connection.execute("SELECT id FROM orchestrator.executions").fetchall()
    ]
    for execution in executions:
        check_sound(connection, execution)
    wait_until(at_rest, timeout=patience, what=lambda: f"rest of all rows: {restless}")
    orphans = connection.execute(
        "SELECT count(*) FROM orchestrator.steps s"
        " LEFT JOIN orchestrator.executions e ON e.id = s.execution_id WHERE e.id IS NULL"
    ).fetchone()
    assert orphans == (0,)


def _restless(connection: psycopg.Connection[Any]) -> dict[str, int]:
    counted = ", ".join(f"count(*) FILTER (WHERE {what})" for what in _RESTLESS.values())
    row = connection.execute(f"SELECT {counted} FROM orchestrator.steps").fetchone()
    open_executions = connection.execute(
        "SELECT count(*) FROM orchestrator.executions WHERE finished_at IS NULL"
    ).fetchone()
    assert row is not None
    assert open_executions is not None
    return {**dict(zip(_RESTLESS, row, strict=True)), "executions": open_executions[0]}


def check_keys(calls: Iterable[Call]) -> None:
    """No two steps share an idempotency key."""
    steps_of: dict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for call in calls:
        steps_of[call.key].add((call.execution, call.body, call.scope))
    assert not [steps for steps in steps_of.values() if len(steps) > 1]


def check_attempts(calls: Iterable[Call]) -> None:
    """No attempt of a step ran twice: holds where nobody gave an attempt back or began anew."""
    times = Counter((call.key, call.attempt) for call in calls)
    assert not [attempt for attempt, count in times.items() if count > 1]
