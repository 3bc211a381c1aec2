"""Carry out one message: claim, resolve, call, classify, record, continue.

A delivery takes the step run its message names under a lease and goes on, in the same process and
without a message, with what each record makes ready (an *inline segment*) until something has to
wait, another queue is meant, or its budget of time is used up. Every database move is one call of a
runtime function in its own transaction; between two of them the process may die, and the sweeps
find what it held.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import LeaseLost, OrchestratorError, Unavailable
from orchestrator.flow import planning, reading
from orchestrator.flow.graph import StepNode
from orchestrator.flow.reads import OutputOf, Read
from orchestrator.records import Claimed, Recorded, StepAddress, StepMessage
from orchestrator.runtime import (
    bodies,
    decisions,
    events,
    incarnations,
    record,
    reports,
    transactional,
    values,
)
from orchestrator.runtime.catalogue import Catalogue, Registered, task_name
from orchestrator.runtime.context import ThisStep
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.outcomes import Failed, Outcome, Succeeded
from orchestrator.settings import Settings
from orchestrator.store import moves, sweeping
from orchestrator.store.database import Database, is_refusal

#: A segment keeps so many values that it has met, and none beside a large one (characters).
_CACHE_LIMIT, _LARGE = 256, 1 << 16
#: Raised where the arguments of a step cannot be put together: no attempt would find others.
_NO_VALUE = (OrchestratorError, ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An attempt whose body runs now: what keeps its lease and enforces its timeout.

    Attributes:
        timeout: longest time one attempt may take.
        began: reading of the monotonic clock when the body was called, seconds.
        claimed: the claim.
        flow: name of the flow.
    """

    claimed: Claimed
    flow: str
    timeout: timedelta
    began: float
    step: ThisStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt that was recorded: what operators' mirrors (Flower) are told."""

    claimed: Claimed
    task: str
    outcome: Outcome
    inline: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class _Held:
    """A claimed step run in its delivery.

    Attributes:
        head: the first row of the inline segment.
        stop_at: reading of the monotonic clock from which on nothing is continued, seconds.
    """

    registered: Registered
    claimed: Claimed
    head: StepAddress
    stop_at: float


def _ignore(_: object) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How this process carries out messages.

    Attributes:
        holder: gives this process's incarnation.
        publish: sends messages without waiting for their confirms.
        on_body: told of each body that begins, and None when it has ended.
        on_begin, on_end: told of each attempt, for Celery's events.
        on_claim: told of each claim by message, for the lost-message rule.
        draining: whether this process is about to stop: it dispatches instead of continuing.
    """

    database: Database
    catalogue: Catalogue
    settings: Settings
    holder: Callable[[], UUID]
    publish: Callable[[Sequence[StepMessage]], None]
    on_body: Callable[[Running | None], None] = field(default=_ignore)
    on_begin: Callable[[Claimed, str, bool], None] = field(default=lambda *_: None)
    on_end: Callable[[Ended], None] = field(default=_ignore)
    on_claim: Callable[[Claimed], None] = field(default=_ignore)
    draining: Callable[[], bool] = field(default=lambda: False)

    def run(self, message: StepMessage, *, redelivered: bool = False) -> int:
        """Carry out a message; return how many attempts were recorded.

        Any message may come twice, late or never.

        Raises:
            Unavailable: the database stayed away; the message must not be acknowledged.
        """
        registered = self.database.run(self.catalogue.definition, message.definition_id)
        address = message.address
        if not self.catalogue.has(registered, address.name, address.scope):
            node = planning.level(registered.graph, address.scope).node(address.name)
            assert isinstance(node, StepNode)  # noqa: S101  # `has` is true for all others
            self.database.run(incarnations.postpone, address, function=node.function)
            reports.unknown(registered.flow, address)
            return 0
        claims = self._claim(address, message.number)
        if (
            not claims
            and redelivered
            and self.database.run(incarnations.prove_dead, address, self.settings)
        ):
            claims = [
                claimed
                for found in self.database.run(sweeping.strand, address)
                if self.catalogue.has(registered, found.name, found.scope)
                for claimed in self._claim(found, 0)
            ]
        if not claims:
            reports.absorbed(registered.flow, address, "nothing to claim")
        recorded = 0
        for claimed in claims:
            # what the message says is a hint, also about the definition
            registered = self.database.run(self.catalogue.definition, claimed.definition_id)
            self.on_claim(claimed)
            reports.claimed(registered.flow, claimed, self.holder())
            recorded += self._segment(registered, claimed)
        return recorded

    def _claim(self, address: StepAddress, number: int) -> list[Claimed]:
        """Claim one step run: a claim waits for row locks, and of one row it cannot deadlock."""
        return self.database.run(
            moves.claim,
            [(address, number)],
            holder=self.holder(),
            lease=self.settings.lease,
            nonce=_nonce(),
        )

    def _segment(self, registered: Registered, first: Claimed) -> int:
        """Go on from a claimed step run until nothing is left to do in this process."""
        stop_at = time.monotonic() + self.settings.delivery_budget.total_seconds()
        cache: dict[Read, Any] = {}
        current: Claimed | None = first
        recorded = 0
        while current is not None:
            inline = current is not first
            task = task_name(registered.flow, current.address.name, current.address.scope)
            self.on_begin(current, task, inline)
            began = time.monotonic()
            held = _Held(registered, current, first.address, stop_at)
            try:
                outcome, answer = self._attempted(held, cache)
            except LeaseLost:
                reports.fenced(registered.flow, current)
                break
            recorded += 1
            seconds = time.monotonic() - began
            reports.recorded(registered.flow, current, outcome, answer, seconds)
            self.on_end(
                Ended(
                    claimed=current,
                    task=task,
                    outcome=outcome,
                    inline=inline,
                    seconds=seconds,
                )
            )
            if isinstance(outcome, Succeeded):
                if len(cache) > _CACHE_LIMIT or len(outcome.text) > _LARGE:
                    cache.clear()
                cache[OutputOf(current.address.name, current.address.scope)] = outcome.value
            self.publish(
                [
                    *of_ordered(
                        registered, [row for row in answer.ordered if not row.inline], current.key
                    ),
                    *answer.begun,
                ]
            )
            if answer.posted:
                self.publish(events.deliver_all(self.database, self.catalogue, self.settings)[0])
            current = _continuation(answer, current)
        return recorded

    def _attempted(self, held: _Held, cache: dict[Read, Any]) -> tuple[Outcome, Recorded]:
        """Find out what a claimed step run comes to, and record it.

        An outcome that the database cannot hold fails the step instead.
        """
        outcome = self._outcome(held, cache)
        if isinstance(outcome, transactional.Stored):
            return outcome.outcome, outcome.answer
        try:
            return committed(self.database, self._attempt(held, outcome), self.settings)
        except Exception as error:
            if not is_refusal(error):
                raise
            refused = Failed(bodies.describe(error, held.claimed.attempt))
            return committed(self.database, self._attempt(held, refused), self.settings)

    def _outcome(self, held: _Held, cache: dict[Read, Any]) -> Outcome | transactional.Stored:
        registered, claimed = held.registered, held.claimed
        address = claimed.address
        graph, name, scope = registered.graph, address.name, address.scope
        options = registered.options(name, scope)
        limit = options.max_deaths or self.settings.max_deaths
        if claimed.deaths >= limit:
            return _condemned(claimed)
        try:
            decided = decisions.decide(
                graph,
                claimed,
                settled=lambda reads: self._values(address, reads, cache),
                fresh=lambda reads: self.database.run(values.fetch, address.execution_id, reads),
            )
            if decided is not None:
                return decided
            found = self._values(address, reading.reads(graph, name, scope), cache)
            arguments = reading.arguments(graph, name, scope, found)
        except Unavailable:
            raise
        except Exception as error:
            if not isinstance(error, _NO_VALUE) and not is_refusal(error):
                raise
            return Failed(bodies.describe(error, claimed.attempt))
        node = planning.level(graph, scope).node(name)
        assert isinstance(node, StepNode)  # noqa: S101  # all others are decided
        if options.deadline is not None and claimed.until_at is None:
            self.database.run(moves.begin_deadline, claimed, options.deadline)
        this = ThisStep(
            address,
            attempt=claimed.attempt,
            key=claimed.key,
            beat=lambda data: self._beat(claimed, data),
            count_failed=lambda: self.database.run(moves.failed_attempts, address),
        )
        self.on_body(
            Running(
                claimed=claimed,
                flow=registered.flow,
                timeout=options.timeout,
                began=time.monotonic(),
                step=this,
            )
        )
        step = self.catalogue.step(node)
        try:
            if step.transaction_kind is not None:
                return transactional.run(
                    self.database,
                    step,
                    arguments,
                    this,
                    options=options,
                    settings=self.settings,
                    attempt_of=lambda outcome: self._attempt(held, outcome),
                )
            return bodies.run(
                step, arguments, this, options, limit_bytes=self.settings.max_result_bytes
            )
        finally:
            self.on_body(None)

    def _values(
        self, address: StepAddress, reads: frozenset[Read], cache: dict[Read, Any]
    ) -> dict[Read, Any]:
        missing = reads - cache.keys()
        if missing:
            cache.update(self.database.run(values.fetch, address.execution_id, missing))
        return cache

    def _attempt(self, held: _Held, outcome: Outcome) -> record.Attempt:
        def may_continue(name: str, scope: str) -> bool:
            # a delivery that lasts longer than its broker waits would lose its channel
            left = held.stop_at - time.monotonic()
            slack = self.settings.ack_budget - self.settings.delivery_budget
            timeout = held.registered.options(name, scope).timeout
            return (
                left > 0
                and timeout.total_seconds() <= left + slack.total_seconds()
                and not self.draining()
                and self.catalogue.has(held.registered, name, scope)
            )

        return record.Attempt(
            claimed=held.claimed,
            registered=held.registered,
            catalogue=self.catalogue,
            outcome=outcome,
            head=held.head,
            holder=self.holder(),
            nonce=_nonce(),
            may_continue=may_continue,
        )

    def _beat(self, claimed: Claimed, data: Any) -> bool:
        """Renew a running body's lease and store its progress; return whether it should stop."""
        try:
            held = self.database.run(
                moves.renew,
                [(claimed.address, claimed.token)],
                lease=self.settings.lease,
                progress=[None if data is None else codec.dumps(data, limit_bytes=65_536)],
            )
        except Unavailable:
            return False
        return not held or held[0][1]


def commit(database: Database, attempt: record.Attempt, settings: Settings) -> Recorded:
    """Record an attempt; see `committed`."""
    return committed(database, attempt, settings)[1]


def committed(
    database: Database, attempt: record.Attempt, settings: Settings
) -> tuple[Outcome, Recorded]:
    """Record an attempt by the fast form, else the full one; repeated, find the first answer.

    Returns:
        What the attempt came to (of a wait it is known only now), and the answer.

    Raises:
        LeaseLost: the token is old; nothing was changed.
    """
    outcome, answer = attempt.outcome, database.run(record.record, attempt, settings)
    if answer.kind == "full":
        outcome, answer = database.run(record.record_full, attempt, settings)
    if answer.kind == "fenced":
        recalled = database.run(moves.recall, attempt.claimed, attempt.nonce)
        if recalled is None:
            raise LeaseLost(
                f"step {attempt.claimed.address} is no longer held "
                f"with token {attempt.claimed.token}: "
                "its lease ran out and it was taken over, or its execution has ended"
            )
        return outcome, recalled
    return outcome, answer


def _continuation(answer: Recorded, current: Claimed) -> Claimed | None:
    for row in answer.ordered:
        if row.inline:
            return Claimed(
                address=row.address,
                token=row.token,
                attempt=row.attempt,
                deaths=0,  # those of the step before say nothing about this one
                queue=row.queue,
                definition_id=current.definition_id,
                key=current.key,
                wanted=row.wanted,
                live=row.live,
                items=row.items,
            )
    return None


def _condemned(claimed: Claimed) -> Failed:
    reason = (
        f"{claimed.deaths} workers died while running it, the last one {claimed.taken_from}; "
        "fix what kills them, then retry the execution"
    )
    return Failed(
        {"kind": "Quarantined", "message": reason, "attempt": claimed.attempt}, quarantine=reason
    )


def _nonce() -> int:
    return secrets.randbits(63)


__all__ = ["Delivery", "Ended", "Running", "commit", "committed"]
