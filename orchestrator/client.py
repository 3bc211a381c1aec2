"""The face of the product for programs: start executions, wait for them, operate them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput, TimedOut
from orchestrator.flow.authoring import Flow
from orchestrator.records import StepMessage
from orchestrator.runtime import by_hand, operate, places, queries, start
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.queries import ExecutionView
from orchestrator.runtime.search import check_text
from orchestrator.settings import Settings
from orchestrator.store import moves
from orchestrator.store.database import Database

R = TypeVar("R")

_MARK_EVERY = 0.2  # seconds between marks of confirmed messages while starting many
# While waiting: a look after each tenth of the time waited so far, within these seconds.
_POLL_FIRST, _POLL_LAST, _POLL_SHARE = 0.002, 0.25, 0.1


class Handle(Generic[R]):
    """An execution that was started or found.

    Attributes:
        id: the execution's id.
        created: False when the key was there already.
    """

    def __init__(
        self, orchestrator: Orchestrator, execution_id: UUID, hints: Any, *, created: bool
    ) -> None:
        self._orchestrator = orchestrator
        self._annotation = hints
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
        """
        value: R = self._orchestrator.wait(self.execution_id, timeout, annotation=self._annotation)
        return value

    def view(self) -> ExecutionView:
        """Return status, steps and history as they are now."""
        return self._orchestrator.get(self.execution_id)


class Orchestrator:
    """Starts and operates executions.

    Args:
        database: the connections of this process.
        publish: sends messages without waiting for their confirms.
        collect: returns the messages confirmed so far, waiting at most the given seconds for
            outstanding ones.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        catalogue: Catalogue,
        *,
        publish: Callable[[Sequence[StepMessage]], None],
        collect: Callable[[float], list[StepMessage]],
    ) -> None:
        self.database = database
        self.settings = settings
        self.catalogue = catalogue
        self._publish = publish
        self._collect = collect
        self._confirmed: list[StepMessage] = []
        self._marked_at = time.monotonic()

    def start(
        self, flow: Flow[..., R], *args: Any, key: str | None = None, **kwargs: Any
    ) -> Handle[R]:
        """Start an execution of ``flow``, or return the one that has the key.

        The execution is stored when this returns; its first messages are on their way, and are sent
        again by the sweeps if they do not arrive.

        Args:
            args, kwargs: the flow's input, validated against its annotations.
            key: your own id of this work; the same key again is the same execution.

        Raises:
            InvalidInput: the input does not fit the flow's parameters; nothing was stored.
            Conflict: the key belongs to an execution with another input.
            Unavailable: the database cannot be reached.
        """
        document = flow.validate_input(args, kwargs)
        self.catalogue.add(flow)
        return self._start(flow, document, key)

    def start_document(
        self, flow: Flow[..., R], document: Mapping[str, Any], *, key: str | None = None
    ) -> Handle[R]:
        """Start an execution from a JSON document, an object by parameter name."""
        self.catalogue.add(flow)
        return self._start(flow, flow.validate_document(document), key)

    def get(self, execution: UUID | str) -> ExecutionView:
        """Return an execution with its steps and history.

        Raises:
            NotFound: no such execution.
        """
        return queries.view(self.database, _uuid(execution))

    def find(self, flow: str, key: str) -> UUID:
        """Return the id of the execution that has a key.

        Raises:
            NotFound: none has it.
        """
        return queries.execution_of_key(self.database, flow, key)

    def wait(
        self,
        execution: UUID | str,
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
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        began = time.monotonic()
        until = None if seconds is None else began + seconds
        self.flush()
        known = _uuid(execution)
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

    def cancel(self, execution: UUID | str, *, actor: str = "api") -> bool:
        """Cancel an execution; False when it has ended or is ending already."""
        return self.database.run(
            operate.cancel, _uuid(execution), self.settings, actor=_actor(actor), act=start.new_id()
        )

    def pause(self, execution: UUID | str, *, actor: str = "api") -> bool:
        """Pause an execution; False when it is paused already."""
        return self.database.run(
            operate.pause, _uuid(execution), actor=_actor(actor), act=start.new_id()
        )

    def resume(self, execution: UUID | str, *, actor: str = "api") -> bool:
        """Resume a paused execution and send its ready steps; False when it is not paused."""
        messages = self.database.run(
            operate.resume,
            self.catalogue,
            _uuid(execution),
            self.settings,
            actor=_actor(actor),
            act=start.new_id(),
        )
        self._send(messages or ())
        return messages is not None

    def retry(
        self,
        execution: UUID | str,
        *,
        from_steps: Sequence[str | tuple[str, str]] = (),
        input: Mapping[str, Any] | None = None,  # noqa: A002 - as in `start`, the flow's input
        actor: str = "api",
    ) -> None:
        """Retry a failed execution from its failed steps, or run chosen steps and what follows.

        Args:
            from_steps: step names, places as in ``lines[3]/reserve``, or (name, scope); empty: the
                failed steps.
            input: new values of parameters of the flow's input, as JSON. The steps run again, the
                failed ones if none is chosen, get new idempotency keys; what had succeeded keeps
                what it made of the old values.

        Raises:
            Conflict: it has not failed (without ``from_steps``), or an affected step is running.
            NotFound: no such execution or step.
            InvalidInput: ``input`` does not fit the flow's parameters.
        """
        if isinstance(from_steps, str):
            from_steps = [from_steps]
        chosen = [places.read(step) if isinstance(step, str) else step for step in from_steps]
        who, act = _actor(actor), start.new_id()
        if chosen or input is not None:
            messages = self.database.run(
                operate.rerun,
                self.catalogue,
                _uuid(execution),
                chosen,
                self.settings,
                actor=who,
                changes=input,
                act=act,
            )
        else:
            messages = self.database.run(
                operate.retry, self.catalogue, _uuid(execution), self.settings, actor=who, act=act
            )
        self._send(messages)

    def complete(
        self, execution: UUID | str, *steps: str, output: Any = None, actor: str = "api"
    ) -> None:
        """End steps by hand as succeeded with this output; a failed execution goes on with it.

        Args:
            steps: names, or places as in ``lines[3]/reserve``.
            output: what stands for their result, as JSON.

        Raises:
            Conflict: a step has succeeded already or waits for others, or the execution is closing.
            NotFound: no such execution or step.
            InvalidInput: the output does not fit the step's result.
        """
        self._complete("complete", execution, steps, output, actor)

    def skip(
        self, execution: UUID | str, *steps: str, output: Any = None, actor: str = "api"
    ) -> None:
        """As `complete`, for steps whose work nobody did; their result is None if not given."""
        self._complete("skip", execution, steps, output, actor)

    def fail(
        self, execution: UUID | str, step: str, *, reason: str = "", actor: str = "api"
    ) -> None:
        """End a step that is ready or running as failed, without another attempt.

        Raises:
            Conflict: the step has ended or waits for others, or the execution is not running.
            NotFound: no such execution or step.
        """
        who = _actor(actor)
        messages = self.database.run(
            by_hand.fail,
            self.catalogue,
            _uuid(execution),
            places.read(step),
            self.settings,
            reason=reason or f"failed by hand by {who}",
            actor=who,
            act=start.new_id(),
        )
        self._send(messages)

    def flush(self, timeout: float = 0.5) -> None:
        """Wait up to ``timeout`` seconds for confirms and mark them; others are sent again."""
        self._confirmed += self._collect(timeout)
        self._mark()

    def close(self) -> None:
        """Flush and close this process's connections."""
        self.flush()
        self.database.close()

    def _start(
        self, flow: Flow[..., R], document: Mapping[str, codec.JSON], key: str | None
    ) -> Handle[R]:
        registered = self.database.run(self.catalogue.registered, flow.name)
        started, messages = self.database.run(
            start.start,
            registered,
            document,
            self.settings,
            execution_id=start.new_id(),
            key=key,
            actor="api",
        )
        self._send(messages)
        return Handle(self, started.execution_id, flow.hints.get("return"), created=started.created)

    def _complete(
        self, kind: str, execution: UUID | str, steps: Sequence[str], output: Any, actor: str
    ) -> None:
        messages = self.database.run(
            by_hand.complete,
            self.catalogue,
            _uuid(execution),
            [places.read(step) for step in steps],
            self.settings,
            output=output,
            actor=_actor(actor),
            kind=kind,
            act=start.new_id(),
        )
        self._send(messages)

    def _send(self, messages: Sequence[StepMessage]) -> None:
        if messages:
            self._publish(messages)
        self._confirmed += self._collect(0)
        if self._confirmed and time.monotonic() - self._marked_at > _MARK_EVERY:
            self._mark()

    def _watch(self, execution: UUID, began: float, until: float | None) -> None:
        """Return when an execution has ended or the time is over."""
        while until is None or time.monotonic() < until:
            waited = time.monotonic() - began
            time.sleep(min(max(_POLL_FIRST, waited * _POLL_SHARE), _POLL_LAST))
            if queries.has_ended(self.database, execution):
                return

    def _mark(self) -> None:
        confirmed, self._confirmed = self._confirmed, []
        self._marked_at = time.monotonic()
        if confirmed:
            self.database.run(moves.mark_sent, confirmed)


def _uuid(execution: UUID | str) -> UUID:
    if isinstance(execution, UUID):
        return execution
    try:
        return UUID(execution)
    except ValueError:
        raise InvalidInput(f"{execution!r} is not an execution id") from None


def _actor(actor: str) -> str:
    check_text(actor, "the actor")
    return actor
