"""Where the messages of steps go, and when a worker goes on without one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.flow.authoring import flow
from orchestrator.flow.definition import Priority, StepOptions
from orchestrator.runtime.queues import queue_of, queues_of, to_ask_for, unconsumed
from orchestrator.settings import Settings
from tests.runtime.flows import first, second, third
from tests.runtime.lab import Lab

LONG = timedelta(hours=2)


@flow
def hurrying(n: int) -> int:
    return third(second.options(priority="high")(first(n)))


@flow
def reporting(n: int) -> int:
    return first.options(queue="reports", priority="high")(n)


@pytest.mark.parametrize(
    ("queue", "timeout", "priority", "expected"),
    [
        (None, None, "normal", "orchestrator"),
        (None, LONG, "normal", "orchestrator.long"),
        ("reports", None, "normal", "reports"),
        ("reports", LONG, "normal", "reports"),
        (None, None, "high", "orchestrator.high"),
        (None, LONG, "high", "orchestrator.high"),
        ("reports", None, "high", "reports.high"),
    ],
)
def test_queue_time_and_priority_say_where_messages_go(
    queue: str | None, timeout: timedelta | None, priority: Priority, expected: str
) -> None:
    options = StepOptions(queue=queue, timeout=timeout or timedelta(minutes=1), priority=priority)

    assert queue_of(options, Settings()) == expected


def test_the_queues_of_flows_are_those_of_their_steps_and_the_common_ones() -> None:
    assert queues_of([hurrying, reporting], Settings()) == {
        *("orchestrator", "orchestrator.long", "orchestrator.high"),
        *("reports", "reports.high"),
    }


@pytest.mark.parametrize(
    ("consumed", "missing"),
    [
        ({"legacy"}, ["orchestrator", "reports"]),
        ({"orchestrator", "orchestrator.high", "reports.high"}, []),
        ({"orchestrator", "reports.high"}, ["orchestrator.high"]),
    ],
)
def test_queues_that_nobody_consumes_are_told_by_the_name_to_ask_for(
    consumed: set[str], missing: list[str]
) -> None:
    assert unconsumed([hurrying, reporting], Settings(), consumed) == missing
    assert to_ask_for(("orchestrator", "orchestrator.high", "orchestrator.long"), Settings()) == [
        "orchestrator"
    ]


def test_a_worker_goes_on_with_an_urgent_step_but_not_from_it_with_an_ordinary_one(
    lab: Lab,
) -> None:
    handle = lab.start(hurrying, 1)

    lab.worker().deliver()

    rows = {name: lab.row(handle, name) for name in ("first", "second", "third")}
    assert [row["queue"] for row in rows.values()] == [
        *("orchestrator", "orchestrator.high", "orchestrator"),
    ]
    assert [row["dispatch"] for row in rows.values()] == [1, 0, 1]
    assert rows["third"]["status"] == "ready"
    lab.drain()
    assert handle.view().facts.status == "succeeded"
    lab.sound(handle)
