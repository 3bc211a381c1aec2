"""Looking closely at one execution: its steps, its values, and why it stands where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestrator import masking
from orchestrator.codec import JSON
from orchestrator.errors import Conflict, NotFound, OrchestratorError
from orchestrator.flow import scope as scopes
from orchestrator.flow.functions import near_miss
from orchestrator.flow.graph import Graph
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import explaining, places, queries, standing, step_answers
from orchestrator.runtime.answers import Situation
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.explaining import Explanation
from orchestrator.runtime.standing import Standing
from orchestrator.store import events, search
from orchestrator.store import situation as store
from orchestrator.store.database import Database
from orchestrator.store.situation import StepSituation, StepTally

#: Step runs that are explained one by one.
_EXPLAINED = 100
_OPEN_OR_FAILED = frozenset(
    {StepStatus.WAITING, StepStatus.READY, StepStatus.RUNNING, StepStatus.FAILED}
)
_CURRENT = frozenset(StepStatus) - {StepStatus.SUPERSEDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Portrait:
    """An execution as it is shown.

    Attributes:
        input: encoded, by parameter name.
        result: encoded; None until it has succeeded.
        deadline: when an open execution will fail if it has not ended.
        passed_deadline: the one by which it failed; None if it did not fail so.
        nodes: its rows summed by node.
        steps: its current step runs, the urgent ones first, at most as many as were asked for.
    """

    facts: ExecutionFacts
    seconds: float
    input: dict[str, JSON]
    result: JSON
    deadline: datetime | None
    passed_deadline: str | None
    nodes: tuple[StepTally, ...]
    steps: tuple[Standing, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPortrait:
    """A step run with its output, and the earlier runs of the same place."""

    step: Standing
    output: JSON
    earlier: tuple[Standing, ...]


def portrait(
    database: Database, catalogue: Catalogue, execution_id: UUID, *, limit: int
) -> Portrait:
    """Return an execution with its values and at most ``limit`` of its step runs.

    Raises:
        NotFound: no such execution.
    """
    facts = queries.facts(database, execution_id)
    result = None
    if facts.status is ExecutionStatus.SUCCEEDED:
        try:
            result = database.run(queries.result, catalogue, facts)
        except Conflict:  # it was opened again, or has expired, meanwhile
            facts = queries.facts(database, execution_id)
    now = database.run_calm(store.now)
    graph = graph_of(database, catalogue, facts)
    rows = database.run_calm(store.steps, execution_id, statuses=_CURRENT, limit=limit)
    return Portrait(
        facts=facts,
        seconds=max(0.0, ((facts.finished_at or now) - facts.created_at).total_seconds()),
        input=database.run_calm(store.input_of, execution_id) or {},
        result=result,
        deadline=database.run(events.deadline, execution_id) if facts.finished_at is None else None,
        passed_deadline=_passed_deadline(database, facts),
        nodes=tuple(
            node if standing.has_body(node.path, graph) else replace(node, attempts=0)
            for node in database.run_calm(store.tally, execution_id)
        ),
        steps=tuple(standing.standing(row, graph, now) for row in rows),
    )


def step_portrait(
    database: Database, catalogue: Catalogue, execution_id: UUID, place: str
) -> StepPortrait:
    """Return the newest run of a step with its output.

    Raises:
        NotFound: no such execution or step.
        InvalidInput: ``place`` is no place of a step.
    """
    facts = queries.facts(database, execution_id)
    where = places.read(place)
    runs = database.run_calm(
        store.steps, execution_id, statuses=frozenset(StepStatus), limit=1000, places=[where]
    )
    if not runs:
        raise _no_step(database, execution_id, place)
    runs.sort(key=lambda row: row.address.run, reverse=True)
    graph, now = graph_of(database, catalogue, facts), database.run_calm(store.now)
    newest, *earlier = (standing.standing(row, graph, now) for row in runs)
    output: Any = database.run_calm(store.output_of, newest.row.address)
    return StepPortrait(step=newest, output=output, earlier=tuple(earlier))


def history(
    database: Database, catalogue: Catalogue, execution_id: UUID
) -> tuple[ExecutionFacts, list[dict[str, Any]]]:
    """Return an execution with what happened to it, in order; its attempts are runs of a body.

    Raises:
        NotFound: no such execution.
    """
    facts, lines = queries.history(database, execution_id)
    graph = graph_of(database, catalogue, facts)
    deaths = database.run_calm(store.deaths, execution_id)
    return facts, [_with_deaths(_with_runs(line, graph), deaths) for line in lines]


def explain(
    database: Database, catalogue: Catalogue, execution_id: UUID, *, masked: Iterable[str] = ()
) -> Explanation:
    """Answer why an execution does not move and what moves it next.

    Args:
        masked: names of what is secret in what steps tell of their progress.

    Raises:
        NotFound: no such execution.
    """
    return explaining.explain(_situation(database, catalogue, execution_id, masked))


def graph_of(database: Database, catalogue: Catalogue, facts: ExecutionFacts) -> Graph | None:
    """Return the graph of an execution; None if this release cannot read it."""
    registered = _registered(database, catalogue, facts)
    return None if registered is None else registered.graph


def flow_names(database: Database) -> list[str]:
    """Return the names of all flows that were ever registered."""
    return database.run_calm(search.flow_names)


def stored_graph(database: Database, flow: str, version: str | None = None) -> Graph | None:
    """Return a stored flow's graph, by default of its newest version; None if there is none."""
    for known, named in database.run_calm(search.versions_of, flow):
        if version in {None, named}:
            return database.run(Catalogue().definition, known).graph
    return None


def drawn(
    database: Database, catalogue: Catalogue, execution_id: UUID
) -> tuple[Graph, str, dict[str, str]]:
    """Return an execution's graph, a title, and by path the status that stands for its runs.

    Raises:
        NotFound: no such execution, or its graph is of a later release.
    """
    facts = queries.facts(database, execution_id)
    graph = graph_of(database, catalogue, facts)
    if graph is None:
        raise NotFound(f"the graph of execution {execution_id} was stored by a later release")
    states = {
        node.path: next(status for status in store.BY_URGENCY if status in node.states)
        for node in database.run_calm(store.tally, execution_id)
        if node.counts.keys() != {str(StepStatus.SUPERSEDED)}
    }
    key = f" {facts.key}" if facts.key is not None else ""
    return graph, f"{facts.flow}{key}: {facts.status}", states


def _situation(
    database: Database, catalogue: Catalogue, execution_id: UUID, masked: Iterable[str]
) -> Situation:
    facts = queries.facts(database, execution_id)
    graph = graph_of(database, catalogue, facts)
    rows = database.run_calm(
        store.steps, execution_id, statuses=_OPEN_OR_FAILED, limit=_EXPLAINED + 1
    )
    nodes, now = database.run_calm(store.tally, execution_id), database.run_calm(store.now)
    total = sum(node.counts.get(str(status), 0) for node in nodes for status in _OPEN_OR_FAILED)
    return Situation(
        facts=facts,
        now=now,
        steps=tuple(
            replace(row, progress=masking.masked(row.progress, masked)) for row in rows[:_EXPLAINED]
        ),
        more=max(0, total - _EXPLAINED),
        arrived=_arrived(database, rows[:_EXPLAINED], graph, now),
        workers=tuple(database.run_calm(store.living)),
        quarantined=database.run_calm(store.quarantined, execution_id),
        graph=graph,
        deadline=_passed_deadline(database, facts),
    )


def _passed_deadline(database: Database, facts: ExecutionFacts) -> str | None:
    if facts.status is not ExecutionStatus.FAILED:
        return None
    return database.run(events.passed_deadline, facts.id)


def _arrived(
    database: Database, rows: list[StepSituation], graph: Graph | None, now: datetime
) -> dict[tuple[str, str], str]:
    """Return where the nodes stand that the joins among these rows wait for."""
    joins = [row for row in rows if row.status is StepStatus.WAITING and row.items is None]
    wanted = {
        (name, row.address.scope) for row in joins for name in step_answers.waited_for(row, graph)
    }
    if not wanted:
        return {}
    found = database.run_calm(
        store.steps,
        joins[0].address.execution_id,
        statuses=_CURRENT,
        limit=len(wanted),
        places=sorted(wanted),
    )
    seen = [standing.standing(row, graph, now) for row in found]
    return {
        (one.row.address.name, one.row.address.scope): one.state
        if one.wait is None
        else f"{one.state} {one.wait.words}"
        for one in seen
    }


def _registered(
    database: Database, catalogue: Catalogue, facts: ExecutionFacts
) -> Registered | None:
    try:
        return database.run(catalogue.definition, facts.definition_id)
    except OrchestratorError:  # a later release wrote it
        return None


def _with_runs(line: dict[str, Any], graph: Graph | None) -> dict[str, Any]:
    """Return a line of history in which a claim that ran no body counts as no attempt."""
    data = line["data"]
    if not isinstance(data, dict) or "attempt" not in data:
        return line
    attempt = data["attempt"] - (line["kind"] == f"step {StepStatus.SKIPPED}")
    name, scope = line["name"] or data.get("name"), line["scope"] or data.get("scope") or ""
    if name is not None and not standing.has_body(scopes.options_path(name, scope), graph):
        attempt = 0
    return {**line, "data": {**data, "attempt": max(0, attempt)}}


def _with_deaths(
    line: dict[str, Any], deaths: Mapping[tuple[str, str, int], int]
) -> dict[str, Any]:
    """Return a line of history that tells how often the step was taken over from a dead worker."""
    count = deaths.get((line["name"], line["scope"], line["run"])) if line["name"] else None
    return line if count is None else {**line, "data": {**line["data"], "deaths": count}}


def _no_step(database: Database, execution_id: UUID, place: str) -> NotFound:
    known = [node.path for node in database.run_calm(store.tally, execution_id)]
    hint = near_miss(place, known) or f"; it has {', '.join(known) or 'none'}"
    return NotFound(f"execution {execution_id} has no step {place!r}{hint}")
