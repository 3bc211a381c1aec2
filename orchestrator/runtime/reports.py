"""What the runtime tells of attempts and executions, in the words of `orchestrator.telemetry`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator import telemetry
from orchestrator.records import Claimed, Recorded, StepAddress
from orchestrator.runtime.outcomes import (
    Expanded,
    Failed,
    Outcome,
    Parked,
    Retried,
    Skipped,
    Succeeded,
)


def claimed(flow: str, claim: Claimed, holder: UUID) -> None:
    """Tell of a claim, and of the worker it was taken from if there was one."""
    telemetry.emit(
        "step_claimed",
        **_step(flow, claim.address),
        attempt=claim.attempt,
        token=claim.token,
        incarnation=holder,
    )
    if claim.taken_from is not None:
        telemetry.emit(
            "step_taken_over",
            **_step(flow, claim.address),
            attempt=claim.attempt,
            previous=claim.taken_from,
            proof="death" if claim.deaths else "lease",
        )


def absorbed(flow: str, address: StepAddress, reason: str) -> None:
    """Tell of a message that asked for nothing new."""
    telemetry.emit("message_absorbed", **_step(flow, address), reason=reason)


def unknown(flow: str, address: StepAddress) -> None:
    """Tell of a step whose function this worker does not have."""
    telemetry.emit("step_unknown", **_step(flow, address))


def fenced(flow: str, claim: Claimed) -> None:
    """Tell of an outcome that was refused."""
    telemetry.emit("step_fenced", **_step(flow, claim.address), token=claim.token)


def recorded(flow: str, claim: Claimed, outcome: Outcome, answer: Recorded, seconds: float) -> None:
    """Tell of an outcome that was stored, and of the execution if it ended with it."""
    step = _step(flow, claim.address)
    match outcome:
        case Succeeded():
            word = "succeeded"
        case Expanded():
            word = "expanded"
        case Skipped():
            word = "skipped"
        case Parked():
            word = "parked"
        case Retried(delay, error):
            word = "retry"
            telemetry.emit(
                "step_retry",
                **step,
                attempt=claim.attempt,
                error=error["kind"],
                delay_s=delay.total_seconds(),
            )
        case Failed(error, quarantine):
            word = "failed"
            telemetry.emit("step_failed", **step, attempt=claim.attempt, error=error["kind"])
            if quarantine is not None:
                telemetry.emit("step_quarantined", **step, deaths=claim.deaths)
        case _:
            word = "waits"
    telemetry.emit(
        "step_recorded",
        **step,
        attempt=claim.attempt,
        outcome=word,
        duration_ms=round(seconds * 1000, 1),
    )
    if answer.kind == "settled":
        telemetry.emit(
            "execution_settled",
            execution_id=claim.address.execution_id,
            flow=flow,
            status=answer.status,
        )


def started(execution_id: UUID, flow: str, key: str | None) -> None:
    """Tell of a new execution."""
    telemetry.emit("execution_started", execution_id=execution_id, flow=flow, key=key)


def too_late(execution_id: UUID, deadline: timedelta) -> None:
    """Tell of an execution that fails by its deadline."""
    telemetry.emit(
        "deadline_passed", execution_id=execution_id, deadline_s=deadline.total_seconds()
    )


def put_off(execution_id: UUID, kind: str, error: Exception) -> None:
    """Tell of an event for an execution that could not be handled."""
    telemetry.emit("event_put_off", execution_id=execution_id, kind=kind, error=str(error))


def operated(execution_id: UUID, act: str, actor: str) -> None:
    """Tell of an operator's act."""
    telemetry.emit("operator_acted", execution_id=execution_id, act=act, actor=actor)


def _step(flow: str, address: StepAddress) -> dict[str, Any]:
    return {
        "execution_id": address.execution_id,
        "flow": flow,
        "step": address.name,
        "scope": address.scope,
        "run": address.run,
    }
