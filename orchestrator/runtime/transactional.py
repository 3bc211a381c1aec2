"""Transactional steps: what the body writes and its outcome share one commit (protocol.md 4).

The whole transaction is run again while its errors are transient, body included: what it had
written is gone then. When the answer to a commit was lost, the nonce of the record tells whether it
was stored, and the body is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from orchestrator.codec import JSON
from orchestrator.errors import LeaseLost, StepFailed
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.steps import Step
from orchestrator.records import Recorded
from orchestrator.runtime import bodies, record
from orchestrator.runtime.context import ThisStep
from orchestrator.runtime.outcomes import Failed, Outcome, Succeeded
from orchestrator.runtime.record import Attempt
from orchestrator.settings import Settings
from orchestrator.store import moves
from orchestrator.store.database import Database, is_refusal
from orchestrator.store.lent import Kind, Lender, lend


@dataclass(frozen=True, slots=True)
class Stored:
    """An outcome that was recorded together with what its body wrote."""

    outcome: Outcome
    answer: Recorded


class _NotStoredError(Exception):
    """The body did not succeed: its transaction is rolled back, its outcome recorded apart."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


def run(
    database: Database,
    step: Step[..., Any],
    arguments: Mapping[str, JSON],
    this: ThisStep,
    *,
    options: StepOptions,
    settings: Settings,
    attempt_of: Callable[[Outcome], Attempt],
) -> Stored | Outcome:
    """Run a body in a transaction and store its success in it.

    Returns:
        What was stored, or an outcome that is still to be recorded: nothing was stored then.

    Raises:
        LeaseLost: the token is old; what the body wrote was rolled back.
        Unavailable: the database stayed away.
    """
    kind = cast("Kind", step.transaction_kind)
    attempts: list[Attempt] = []

    def once(core: Lender) -> Stored:
        lent = lend(core, kind, options.timeout)
        for earlier in attempts:  # its commit may have gone through though its answer was lost
            recalled = moves.recall(lent.to_record, earlier.claimed, earlier.nonce)
            if recalled is not None:
                return Stored(earlier.outcome, recalled)
        outcome = bodies.run(
            step,
            arguments,
            this,
            options,
            limit_bytes=settings.max_result_bytes,
            transaction=lent.to_body,
        )
        if not isinstance(outcome, Succeeded):
            raise _NotStoredError(outcome)
        try:
            lent.take_back(step.name)
        except StepFailed as error:
            raise _NotStoredError(Failed(bodies.describe(error, this.attempt))) from error
        attempt = attempt_of(outcome)
        attempts.append(attempt)
        answer = record.record(lent.to_record, attempt, settings)
        if answer.kind == "full":
            _, answer = record.record_full(lent.to_record, attempt, settings)
        if answer.kind == "fenced":
            raise LeaseLost(
                f"step {attempt.claimed.address} is no longer held with token"
                f" {attempt.claimed.token}: what it wrote was rolled back"
            )
        return Stored(outcome, answer)

    try:
        return database.run_calm(once)
    except _NotStoredError as error:
        return error.outcome
    except Exception as error:
        if not is_refusal(error):
            raise
        # the outcome, or what the body left to be written at the end, can be held by no database
        return Failed(bodies.describe(error, this.attempt))


__all__ = ["Stored", "run"]
