"""Random flows come to what a naive model of them allows, under any schedule.

A seed decides the flows, their inputs and what happens to messages and workers. RANDOM_FLOWS says
how many seeds are tried, RANDOM_FLOWS_SEED which is the first one: what a suite has no time for is
found by `RANDOM_FLOWS=500 python -m pytest -n 2 tests/simulation/test_random_flows.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from orchestrator import Flow
from orchestrator.errors import ExecutionFailed
from orchestrator.flow.scope import parent
from orchestrator.handles import Handle
from orchestrator.lifecycle import TERMINAL_EXECUTION, StepStatus
from orchestrator.records import StepAddress
from tests.runtime.lab import Crash, Lab, check_sound
from tests.simulation import random_flows
from tests.simulation.naive_model import FAILED, Place, World, worlds
from tests.simulation.plan_text import text
from tests.simulation.random_flows import flow_of
from tests.simulation.random_plans import Plan, random_plan, result_of
from tests.simulation.test_choosing_and_waiting import _disturb, _unreliable

SEEDS = int(os.environ.get("RANDOM_FLOWS", "4"))
FIRST = int(os.environ.get("RANDOM_FLOWS_SEED", "0"))
FLOWS, MOST_WORLDS = 5, 300


@dataclass
class Case:
    """One execution of a random flow, and all that may become of it."""

    plan: Plan
    flow: Flow[..., Any]
    given: tuple[Any, Any]
    worlds: list[World]
    handle: Handle[Any] | None = None

    def told(self) -> str:
        return f"{text(self.plan)}\nx, y = {self.given}"


@pytest.mark.req("E8")
@pytest.mark.req("E10")
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_random_flow_comes_to_what_the_model_allows(database_url: str, seed: int) -> None:
    chance = random.Random(seed)
    known: dict[str, Flow[..., Any]] = {}
    cases = [case(chance, f"flow{number}", known) for number in range(FLOWS)]
    lab = Lab.open(database_url, known.values(), max_deaths=1000)
    random_flows.ran.clear()
    random_flows.befall[:] = [lambda: maybe_crash(chance)]
    try:
        for each in cases:
            each.handle = lab.start(each.flow, *each.given)
        storm(lab, chance, [each.handle for each in cases if each.handle is not None])
        random_flows.befall.clear()
        finish(lab)
        problems = [told for each in cases for told in wrong(lab, each)]
    finally:
        lab.close()
    assert not problems, f"seed {seed}:\n" + "\n\n".join(problems)


def case(chance: random.Random, name: str, known: dict[str, Flow[..., Any]]) -> Case:
    """Return a flow with few enough worlds."""
    for attempt in range(100):
        plan = random_plan(chance, f"{name}_{attempt}")
        given = (result_of("x", chance.random()), result_of("y", chance.random()))
        found = worlds(plan, *given, limit=MOST_WORLDS)
        if found is not None:
            return Case(plan, flow_of(plan, known), given, found)
    raise AssertionError("every flow has too many worlds")


def maybe_crash(chance: random.Random) -> None:
    if chance.random() < 0.03:
        raise Crash


def storm(lab: Lab, chance: random.Random, handles: list[Handle[Any]]) -> None:
    crew = [_unreliable(lab.worker(), chance) for _ in range(3)]
    named = [("", 0, handle) for handle in handles]
    for _ in range(150):
        _disturb(lab, chance, crew, named)
        lab.sound(chance.choice(handles))


def finish(lab: Lab) -> None:
    """Everybody behaves from now on; time passes; nobody retries."""
    worker = lab.worker()
    statuses = "SELECT status FROM orchestrator.executions"
    for _ in range(60):
        lab.relay()
        lab.drain(worker)
        lab.advance(seconds=700)
        lab.sweep()
        rows = lab.database.hot().execute(statuses).fetchall()
        if not lab.mail and {status for (status,) in rows} <= TERMINAL_EXECUTION:
            lab.relay()
            lab.advance(hours=2)
            lab.sweep()
            return
    # What never ends is told by `wrong`, with its flow.


def wrong(lab: Lab, tried: Case) -> Iterator[str]:
    """Tell what is wrong with one execution."""
    assert tried.handle is not None
    connection = lab.database.hot()
    for told in lawless(lab, tried.handle.execution_id):
        yield f"{told}\n{tried.told()}"
    facts = tried.handle.facts()
    if facts.status not in TERMINAL_EXECUTION:
        yield f"it does not end\n{tried.told()}\n{rows_of(lab, tried)}"
        return
    try:
        result = tried.handle.result(0)
    except ExecutionFailed:
        result = None
    rows = dict(rows_below(connection, tried.handle.execution_id, ()))
    found: dict[str, None] = {}
    for world in tried.worlds:
        problem = differs(world, str(facts.status), result, rows)
        if problem is None:
            return
        found.setdefault(problem)
    listed = "\n".join(list(found)[:8])
    yield f"in no world:\n{listed}\n{tried.told()}\n{rows_of(lab, tried)}"


@dataclass
class Row:
    status: StepStatus
    output: Any
    ran: bool
    why: str


def rows_below(connection: Any, execution: UUID, at: Place) -> Iterator[tuple[Place, Row]]:
    """Yield every step run of an execution and of its children by its place."""
    rows = connection.execute(
        "SELECT name, scope, run, status, output, child, concat_ws(', ', closed_by, absorbed_by,"
        " error ->> 'message') FROM orchestrator.steps WHERE execution_id = %s ORDER BY ended_no",
        (execution,),
    ).fetchall()
    for name, scope, run, status, output, child, why in rows:
        place = (*at, *path(scope), name)
        ran = StepAddress(execution, name, scope, run) in random_flows.ran
        yield place, Row(StepStatus(status), output, ran, why)
        if child is not None:
            yield from rows_below(connection, child, (*place, ">"))


def path(scope: str) -> Place:
    outer = parent(scope)
    return () if outer is None else (*path(outer[0]), outer[1], outer[2])


def differs(world: World, status: str, result: Any, rows: dict[Place, Row]) -> str | None:
    """Tell how an execution differs from a world."""
    if (status, result) != (world.status, world.result):
        return f"it {status} with {result}, not {world.status} with {world.result}"
    for place, came in world.runs.items():
        expected = StepStatus.FAILED if came.without == FAILED else StepStatus.SUCCEEDED
        row = rows.get(place)
        if place not in world.optional and (row is None or row.status is not expected):
            return f"{place} is {row and row.status}, not {expected}"
        if row is not None and row.status is StepStatus.SUCCEEDED:
            if came.without == FAILED:
                return f"{place} succeeded, but fails"
            if row.output is not None and row.output != came.value:
                return f"{place} has {row.output}, not {came.value}"
    for place, row in rows.items():
        if place not in world.runs and (row.ran or row.status in {"succeeded", "failed"}):
            return f"{place} is {row.status}, but is not to run"
    if status == "failed" and all(row.status != "failed" for row in rows.values()):
        return "nothing failed"
    return None


def lawless(lab: Lab, root: UUID) -> Iterator[str]:
    """Tell what no execution may leave behind."""
    connection = lab.database.hot()
    executions = [root]
    for execution in executions:
        try:
            check_sound(connection, execution)
        except AssertionError as error:
            yield f"unsound: {error}"
        left = connection.execute(
            "SELECT name, scope, status FROM orchestrator.steps WHERE execution_id = %s"
            " AND (attend_at IS NOT NULL OR status IN ('ready', 'running', 'waiting')"
            " OR NOT counter_updated OR NOT message_sent)",
            (execution,),
        ).fetchall()
        if left:
            yield f"left behind: {left}"
        children = "SELECT child FROM orchestrator.steps WHERE execution_id = %s"
        found = connection.execute(f"{children} AND child IS NOT NULL", (execution,)).fetchall()
        executions += [child for (child,) in found]


def rows_of(lab: Lab, tried: Case) -> str:
    """The rows of an execution, for people."""
    assert tried.handle is not None
    rows = rows_below(lab.database.hot(), tried.handle.execution_id, ())
    return "\n".join(f"{place}: {row.status} {row.output} {row.why}" for place, row in rows)
