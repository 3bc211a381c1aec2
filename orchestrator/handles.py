"""What a program holds of an execution: its handle, and the other ways to name one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from orchestrator.errors import InvalidInput
from orchestrator.flow.authoring import Flow
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import ExecutionFacts
from orchestrator.runtime.queries import ExecutionView

R = TypeVar("R")


class Executions(Protocol):
    """What a handle asks its Orchestrator."""

    def wait(self, execution: UUID, timeout: float | timedelta | None, *, annotation: Any) -> Any:
        """Wait for the end; return the result."""
        ...

    def get(self, execution: UUID) -> ExecutionView:
        """Return an execution with its steps and history."""
        ...

    def facts(self, execution: UUID) -> ExecutionFacts:
        """Return an execution's own row."""
        ...


class Handle(Generic[R]):
    """An execution that was started or found.

    Attributes:
        execution_id: the execution's id.
        created: False when the key was there already.
    """

    def __init__(
        self, executions: Executions, execution_id: UUID, annotation: Any, *, created: bool
    ) -> None:
        self._executions = executions
        self.annotation = annotation
        self.execution_id = execution_id
        self.created = created

    def __repr__(self) -> str:
        return f"<execution {self.execution_id}>"

    @property
    def id(self) -> str:
        """The execution's id as text."""
        return str(self.execution_id)

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the end and return the flow's result.

        Args:
            timeout: seconds, or a timedelta; None waits for ever.

        Raises:
            ExecutionFailed: it failed or was cancelled.
            TimedOut: it has not ended within ``timeout``; it goes on.
            NotFound: it was started in a transaction that is not committed, or it has expired.
        """
        value: R = self._executions.wait(self.execution_id, timeout, annotation=self.annotation)
        return value

    def facts(self) -> ExecutionFacts:
        """Return the execution's own row as it is now: status, counters, times."""
        return self._executions.facts(self.execution_id)

    def status(self) -> ExecutionStatus:
        """Return the status as it is now."""
        return self.facts().status

    def view(self) -> ExecutionView:
        """Return facts, steps and history as they are now."""
        return self._executions.get(self.execution_id)


#: How a program names an execution: its handle, its id, or its flow and key.
Reference: TypeAlias = Handle[Any] | UUID | str | tuple[Flow[..., Any] | str, str]


def id_of(reference: Handle[Any] | UUID | str) -> UUID:
    """Return the id that a reference holds.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(reference, Handle):
        return reference.execution_id
    if isinstance(reference, UUID):
        return reference
    try:
        return UUID(reference)
    except (ValueError, TypeError, AttributeError):
        raise InvalidInput(
            f"{reference!r} is no execution: give its handle, its id, or (flow, key)"
        ) from None
