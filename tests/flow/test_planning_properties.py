"""Laws of the planner, over random graphs, item counts and orders of completion."""

from random import Random

import pytest
from hypothesis import given

from orchestrator.flow import planning
from orchestrator.flow.graph import Graph
from orchestrator.flow.validation import problems
from orchestrator.lifecycle import StepStatus
from tests.flow.simulator import Counts, Simulator, all_places, counted_graphs, law, seeds, windows


@law
@given(counted_graphs)
def test_the_random_graphs_are_valid(counted: tuple[Graph, Counts]) -> None:
    graph, _ = counted
    found = list(problems(graph))

    assert not found


@pytest.mark.req("E8")
@law
@given(counted_graphs, seeds, windows)
def test_every_step_runs_once_whatever_the_order_of_completion(
    counted: tuple[Graph, Counts], random: Random, window: int
) -> None:
    graph, counts = counted
    execution = Simulator(graph, counts, random, window)

    execution.start()
    execution.run_to_the_end()

    assert all_places(graph, counts) == set(execution.current())
    assert {StepStatus.SUCCEEDED} == {row.status for row in execution.rows}
    assert {1} == {row.run for row in execution.rows}
    assert execution.started == execution.finished == len(execution.rows)


@law
@given(counted_graphs, seeds, windows)
def test_a_step_is_ordered_when_all_it_depends_on_has_ended_and_not_before(
    counted: tuple[Graph, Counts], random: Random, window: int
) -> None:
    graph, counts = counted
    execution = Simulator(graph, counts, random, window)
    execution.start()

    while execution.move():
        rows = execution.current()
        for (name, scope), row in rows.items():
            inputs = planning.level(graph, scope).dependencies(name)
            ended = [
                other in {(n, s) for (n, s), r in rows.items() if r.status is StepStatus.SUCCEEDED}
                for other in ((dependency, scope) for dependency in inputs)
            ]
            expected = all(ended)

            due = row.status is not StepStatus.WAITING or row.items is not None
            assert expected == due


@law
@given(counted_graphs, seeds, windows)
def test_no_more_items_are_open_than_the_window_has(
    counted: tuple[Graph, Counts], random: Random, window: int
) -> None:
    graph, counts = counted
    execution = Simulator(graph, counts, random, window)
    execution.start()

    while execution.move():
        for row in execution.rows:
            if row.items is not None and row.status is StepStatus.WAITING:
                arrivals = planning.arrivals_per_item(graph, row.name, row.scope)
                complete = row.live // arrivals

                assert min(row.next, row.items) - complete <= window
