"""Laws of a re-run, at any moment of any execution."""

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.errors import Conflict
from orchestrator.flow.graph import Graph
from orchestrator.flow.rerun import Place
from orchestrator.lifecycle import StepStatus
from tests.flow.simulator import (
    Counts,
    Simulator,
    affected_places,
    all_places,
    counted_graphs,
    law,
    seeds,
    windows,
)

shares = st.floats(0, 1, exclude_max=True)


def chosen_from(execution: Simulator, random: Random) -> set[Place]:
    ran = {StepStatus.SUCCEEDED, StepStatus.FAILED}
    ended = [p for p, row in execution.current().items() if row.status in ran]
    assume(ended)
    return set(random.sample(sorted(ended), min(len(ended), random.choice((1, 1, 2, 3)))))


def assert_complete(execution: Simulator) -> None:
    execution.run_to_the_end()

    assert all_places(execution.graph, execution.counts) == set(execution.current())
    assert {StepStatus.SUCCEEDED} == {row.status for row in execution.current().values()}
    assert execution.started == execution.finished == len(execution.current())


@law
@given(counted_graphs, seeds, windows, shares)
def test_a_rerun_in_the_middle_runs_all_that_is_after_it_and_nothing_else(
    counted: tuple[Graph, Counts], random: Random, window: int, share: float
) -> None:
    graph, counts = counted
    execution = Simulator(graph, counts, random, window).started_and_moved(share)
    before = {place: (row.run, row.status) for place, row in execution.current().items()}
    chosen = chosen_from(execution, random)
    affected = affected_places(graph, counts, chosen)

    try:
        plan = execution.rerun(chosen)
    except Conflict:
        running = {p for p, (_, status) in before.items() if status is StepStatus.RUNNING}
        assert running & affected
        return

    assert affected & set(before) == {(name, scope) for name, scope, _ in plan.superseded}
    ordered = {(order.name, order.scope): order.run for order in plan.orders}
    next_runs = {**ordered, **plan.runs}
    assert {place: run + 1 for place, (run, _) in before.items() if place in affected} == next_runs
    assert_complete(execution)
    runs = {place: row.run for place, row in execution.current().items()}
    assert {p: run + (p in affected) for p, (run, _) in before.items()} == {
        p: runs[p] for p in before
    }


@pytest.mark.req("E3")
@law
@given(counted_graphs, seeds, windows, shares)
def test_a_failed_execution_ends_after_a_rerun_of_its_failed_steps(
    counted: tuple[Graph, Counts], random: Random, window: int, share: float
) -> None:
    graph, counts = counted
    execution = closed_by_a_failure(graph, counts, random, window, share)
    failed = {p for p, r in execution.current().items() if r.status is StepStatus.FAILED}

    execution.rerun(failed | (chosen_from(execution, random) if random.random() < 0.5 else set()))

    assert_complete(execution)


@pytest.mark.req("E3")
@law
@given(counted_graphs, seeds, windows, shares)
def test_a_failed_step_made_ready_again_keeps_its_run_and_what_had_succeeded_never_runs_again(
    counted: tuple[Graph, Counts], random: Random, window: int, share: float
) -> None:
    graph, counts = counted
    execution = closed_by_a_failure(graph, counts, random, window, share)
    before = execution.current()
    kept = {p: r.run for p, r in before.items() if r.status is not StepStatus.CANCELLED}
    for row in before.values():
        if row.status is StepStatus.FAILED:
            row.status = StepStatus.READY
            execution.finished -= 1

    execution.rerun(set())

    assert_complete(execution)
    assert kept == {place: row.run for place, row in execution.current().items() if place in kept}


def closed_by_a_failure(
    graph: Graph, counts: Counts, random: Random, window: int, share: float
) -> Simulator:
    execution = Simulator(graph, counts, random, window).started_and_moved(share)
    execution.fail_one()
    while execution.move():
        pass
    return execution
