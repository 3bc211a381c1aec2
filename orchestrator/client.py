"""The face of the product for programs: start executions, wait for them, operate them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from orchestrator.errors import Unavailable
from orchestrator.handles import Reference
from orchestrator.releasing import Releasing
from orchestrator.runtime import by_hand, events, operate, places, start
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.modules import flows_of
from orchestrator.runtime.search import check_text

#: Entry points of this group build a ready Orchestrator: the program's composition root is a matter
#: of what is installed, as this package may not know who carries its messages.
_COMPOSITION = "orchestrator.composition"


class Orchestrator(Releasing):
    """Starts and operates executions; `from_env` makes one.

    An execution is named by its handle, its id, or ``(flow, key)``.
    """

    @classmethod
    def from_env(cls, modules: Iterable[str | ModuleType] = ()) -> Orchestrator:
        """Return the Orchestrator of the ``ORCHESTRATOR_*`` settings; nothing is connected yet.

        Args:
            modules: modules, or their names, whose flows can be started by name. Flows that are
                given as objects need not be named.

        Raises:
            InvalidInput: a setting is wrong.
        """
        root = next(iter(entry_points(group=_COMPOSITION)), None)
        if root is None:
            raise Unavailable(
                "the installed metadata of celery-orchestrator is older than its code: install it"
                " again, in a checkout with `make dev` or `pip install -e .`"
            )
        compose: Callable[..., Orchestrator] = root.load()
        return compose(catalogue=Catalogue(flows_of(modules)))

    def send(
        self,
        execution: Reference,
        signal: str,
        data: Any = None,
        *,
        key: str | None = None,
        from_json: bool = False,
        actor: str = "api",
    ) -> None:
        """Send a signal to an execution; one that nobody waits for yet is kept until somebody does.

        Args:
            data: what it carries, checked against the signal's annotation if this process has the
                flow.
            key: your own id of this signal; the same key again is the same signal.
            from_json: ``data`` is a JSON value, to be read as the annotation says.

        Raises:
            NotFound: no such execution.
            InvalidInput: its flow waits for no signal of this name, the data does not fit, or the
                key cannot be one.
            Conflict: the execution has ended, or is ending.
        """
        messages = self.database.run(
            events.send,
            self.catalogue,
            self._id(execution),
            signal,
            data,
            settings=self.settings,
            from_json=from_json,
            dedupe_key=str(start.new_id()) if key is None else key,  # kept over repetitions
            actor=_actor(actor),
        )
        self._send(messages)

    def cancel(self, execution: Reference, *, actor: str = "api") -> bool:
        """Cancel an execution with its children; False when it has ended or is ending already."""
        cancelled = self.database.run(
            operate.cancel,
            self._id(execution),
            self.settings,
            actor=_actor(actor),
            act=start.new_id(),
        )
        self._send(events.deliver_all(self.database, self.catalogue, self.settings)[0])
        return cancelled

    def pause(self, execution: Reference, *, actor: str = "api") -> bool:
        """Pause an execution; False when it is paused already."""
        return self.database.run(
            operate.pause, self._id(execution), actor=_actor(actor), act=start.new_id()
        )

    def resume(self, execution: Reference, *, actor: str = "api") -> bool:
        """Resume a paused execution and send its ready steps; False when it is not paused."""
        messages = self.database.run(
            operate.resume,
            self.catalogue,
            self._id(execution),
            self.settings,
            actor=_actor(actor),
            act=start.new_id(),
        )
        self._send(messages or ())
        return messages is not None

    def retry(
        self,
        execution: Reference,
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
                self._id(execution),
                chosen,
                self.settings,
                actor=who,
                changes=input,
                act=act,
            )
        else:
            messages = self.database.run(
                operate.retry,
                self.catalogue,
                self._id(execution),
                self.settings,
                actor=who,
                act=act,
            )
        self._send(messages)

    def complete(
        self, execution: Reference, *steps: str, output: Any = None, actor: str = "api"
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
        self, execution: Reference, *steps: str, output: Any = None, actor: str = "api"
    ) -> None:
        """As `complete`, for steps whose work nobody did; their result is None if not given."""
        self._complete("skip", execution, steps, output, actor)

    def fail(
        self, execution: Reference, step: str, *, reason: str = "", actor: str = "api"
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
            self._id(execution),
            places.read(step),
            self.settings,
            reason=reason or f"failed by hand by {who}",
            actor=who,
            act=start.new_id(),
        )
        self._send(messages)
        self._send(events.deliver_all(self.database, self.catalogue, self.settings)[0])

    def _complete(
        self, kind: str, execution: Reference, steps: Sequence[str], output: Any, actor: str
    ) -> None:
        messages = self.database.run(
            by_hand.complete,
            self.catalogue,
            self._id(execution),
            [places.read(step) for step in steps],
            self.settings,
            output=output,
            actor=_actor(actor),
            kind=kind,
            act=start.new_id(),
        )
        self._send(messages)
        self._send(events.deliver_all(self.database, self.catalogue, self.settings)[0])


def _actor(actor: str) -> str:
    check_text(actor, "the actor")
    return actor
