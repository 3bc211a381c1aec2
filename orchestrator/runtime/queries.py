"""Reading executions: what they are, what their steps are, what they came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, ExecutionFailed, NotFound
from orchestrator.flow import reading
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.records import ExecutionFacts, StepFacts
from orchestrator.runtime import values
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.search import check_text
from orchestrator.store import events, executions
from orchestrator.store.database import Connection, Database


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionView:
    """An execution with its steps and its history, as they were when they were read.

    Attributes:
        facts: its own row: status, counters, times.
        steps: its step runs.
        history: what happened to it, in order.
    """

    facts: ExecutionFacts
    steps: tuple[StepFacts, ...]
    history: tuple[Mapping[str, Any], ...]

    @property
    def current_state(self) -> tuple[str, ...]:
        """Names of the steps that are ready or running."""
        active = {StepStatus.READY, StepStatus.RUNNING}
        return tuple(sorted({step.address.name for step in self.steps if step.status in active}))

    @property
    def waiting(self) -> bool:
        """Whether the execution is open and nothing of it runs now."""
        return self.facts.finished_at is None and not any(
            step.status is StepStatus.RUNNING for step in self.steps
        )


def facts(database: Database, execution_id: UUID) -> ExecutionFacts:
    """Return an execution's row.

    Raises:
        NotFound: no such execution.
    """
    found = database.run_calm(executions.find, execution_id)
    if found is None:
        raise NotFound(f"no execution {execution_id}; it may have expired")
    return found


def has_ended(database: Database, execution_id: UUID) -> bool:
    """Return whether an execution has ended, in one cheap look; one that is gone has."""
    return database.run(executions.has_ended, execution_id)


def view(database: Database, execution_id: UUID) -> ExecutionView:
    """Return an execution with steps and history.

    Raises:
        NotFound: no such execution.
    """
    return ExecutionView(
        facts=facts(database, execution_id),
        steps=tuple(database.run_calm(executions.steps_of, execution_id)),
        history=tuple(database.run_calm(executions.history_of, execution_id)),
    )


def history(database: Database, execution_id: UUID) -> tuple[ExecutionFacts, list[dict[str, Any]]]:
    """Return an execution with what happened to it, in order.

    Raises:
        NotFound: no such execution.
    """
    return facts(database, execution_id), database.run_calm(executions.history_of, execution_id)


def execution_of_key(database: Database, flow: str, key: str) -> UUID:
    """Return the execution that has a key.

    Raises:
        NotFound: none has it.
        InvalidInput: it can be no key.
    """
    check_text(key, "the key")
    found = database.run_calm(executions.find_by_key, flow, key)
    if found is None:
        raise NotFound(f"no execution of flow {flow!r} has the key {key!r}")
    return found[0]


def result(connection: Connection, catalogue: Catalogue, found: ExecutionFacts) -> codec.JSON:
    """Return the encoded result of an execution that succeeded.

    Raises:
        ExecutionFailed: it ended otherwise; the message names the step and its error.
        Conflict: it was opened again after ``found`` was read.
    """
    if found.status is not ExecutionStatus.SUCCEEDED:
        raise ExecutionFailed(
            f"execution {found.id} of flow {found.flow!r} {found.status}: "
            f"{reason(connection, found.id, found.status)}",
            execution_id=str(found.id),
            status=str(found.status),
        )
    graph = catalogue.definition(connection, found.definition_id).graph
    fetched = values.fetch(connection, found.id, reading.result_reads(graph))
    if executions.position(connection, found.id) != found.position:
        raise Conflict(f"execution {found.id} was opened again, or has expired, meanwhile")
    return reading.result(graph, fetched)


def reason(connection: Connection, execution_id: UUID, status: str) -> str:
    """Return why an execution did not succeed: its deadline, or its first failed step's error."""
    if status == ExecutionStatus.FAILED:
        deadline = events.passed_deadline(connection, execution_id)
        if deadline is not None:
            return passed(deadline)
    for step in executions.step_rows(connection, execution_id):
        if step.status is StepStatus.FAILED and step.error is not None and not step.absorbed_by:
            return (
                f"step {step.address} failed: {step.error.get('kind')}: {step.error.get('message')}"
            )
    return "it was cancelled" if status == ExecutionStatus.CANCELLED else "no step has failed"


def passed(deadline: str) -> str:
    """Return the sentence that says that an execution failed by its deadline."""
    return f"its deadline of {deadline} passed"
