"""The part of an Orchestrator that reads executions, and waits for them."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta
from typing import Any, TypeVar, overload
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, TimedOut
from orchestrator.flow.authoring import Flow
from orchestrator.handles import Handle, Reference, id_of
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import queries
from orchestrator.runtime.queries import ExecutionView
from orchestrator.starting import Starting

R = TypeVar("R")

# While waiting: a look after each tenth of the time waited so far, within these seconds.
_POLL_FIRST, _POLL_LAST, _POLL_SHARE = 0.002, 0.25, 0.1


class Reading(Starting):
    """See the module's text."""

    def get(self, execution: Reference) -> ExecutionView:
        """Return an execution with its steps and history.

        Raises:
            NotFound: no such execution.
        """
        return queries.view(self.database, self._id(execution))

    def facts(self, execution: Reference) -> ExecutionFacts:
        """Return an execution's own row: status, counters, times.

        Raises:
            NotFound: no such execution.
        """
        return queries.facts(self.database, self._id(execution))

    def find(self, flow: str, key: str) -> UUID:
        """Return the id of the execution that has a key.

        Raises:
            NotFound: none has it.
        """
        return queries.execution_of_key(self.database, flow, key)

    @overload
    def wait(
        self,
        execution: Handle[R],
        timeout: float | timedelta | None = None,
        *,
        annotation: Any = None,
    ) -> R: ...
    @overload
    def wait(
        self,
        execution: Reference,
        timeout: float | timedelta | None = None,
        *,
        annotation: Any = None,
    ) -> Any: ...
    def wait(
        self,
        execution: Reference,
        timeout: float | timedelta | None = None,
        *,
        annotation: Any = None,
    ) -> Any:
        """Wait for the end of an execution and return its result.

        Raises:
            ExecutionFailed: it failed or was cancelled.
            TimedOut: it has not ended within ``timeout`` (seconds or timedelta); it goes on.
            NotFound: no such execution.
        """
        if annotation is None:
            annotation = _annotation_of(execution)
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        began = time.monotonic()
        until = None if seconds is None else began + seconds
        self.flush()
        known = self._id(execution)
        while True:
            found = queries.facts(self.database, known)
            if found.finished_at is not None:
                with contextlib.suppress(Conflict):  # opened again: it goes on
                    encoded = self.database.run(queries.result, self.catalogue, found)
                    return codec.decode(encoded, annotation, where=f"result of {found.flow!r}")
            if until is not None and time.monotonic() >= until:
                raise TimedOut(
                    f"execution {found.id} of flow {found.flow!r} is {found.status} "
                    f"after {seconds:g} s "
                    f"({found.finished} of {found.started} steps ended); it goes on"
                )
            self._watch(known, began, until)

    def _watch(self, execution: UUID, began: float, until: float | None) -> None:
        """Return when an execution has ended or the time is over."""
        while until is None or time.monotonic() < until:
            waited = time.monotonic() - began
            time.sleep(min(max(_POLL_FIRST, waited * _POLL_SHARE), _POLL_LAST))
            if queries.has_ended(self.database, execution):
                return

    def _id(self, execution: Reference) -> UUID:
        """Return the id of what a program calls an execution."""
        if isinstance(execution, tuple):
            flow, key = execution
            return self.find(flow if isinstance(flow, str) else flow.name, key)
        return id_of(execution)


def _annotation_of(execution: Reference) -> Any:
    """Return the declared type of the result, where what names the execution tells it."""
    match execution:
        case Handle():
            return execution.annotation
        case (Flow() as flow, _):
            return flow.hints.get("return")
    return None
