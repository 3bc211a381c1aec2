"""Statuses of executions and steps and their legal moves, as data.

The CHECK constraints of the schema list the same words (a test reads them back from PostgreSQL),
and the diagrams of docs/guarantees.md are drawn from ``EXECUTION_MOVES`` and ``STEP_MOVES``.
Whether an execution waits and which steps are active is derived when it is read; neither is a
status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ExecutionStatus(StrEnum):
    """Where an execution stands. ``paused`` is a flag beside ``running``, not a status."""

    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    """Where a step run stands.

    ``waiting`` is a join that misses arrivals or a fan-out whose items are open; ``skipped`` is a
    step whose condition was false, or whose value nobody wants any more; ``superseded`` is a row
    that a re-run replaced: it is kept for its payload and leaves both counters.
    """

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


_E, _S = ExecutionStatus, StepStatus

#: From each status those that may follow; terminal ones move only by an operator's retry or re-run.
EXECUTION_MOVES: Mapping[ExecutionStatus, frozenset[ExecutionStatus]] = {
    _E.RUNNING: frozenset({_E.SUCCEEDED, _E.FAILING, _E.FAILED, _E.CANCELLING, _E.CANCELLED}),
    _E.FAILING: frozenset({_E.FAILED}),
    _E.CANCELLING: frozenset({_E.CANCELLED}),
    _E.SUCCEEDED: frozenset({_E.RUNNING}),
    _E.FAILED: frozenset({_E.RUNNING}),
    _E.CANCELLED: frozenset({_E.RUNNING}),
}

STEP_MOVES: Mapping[StepStatus, frozenset[StepStatus]] = {
    _S.WAITING: frozenset({_S.READY, _S.RUNNING, _S.CANCELLED, _S.SUPERSEDED}),
    _S.READY: frozenset({_S.RUNNING, _S.CANCELLED, _S.SUPERSEDED}),
    _S.RUNNING: frozenset(
        {_S.RUNNING, _S.READY, _S.WAITING, _S.SUCCEEDED, _S.SKIPPED, _S.FAILED, _S.CANCELLED}
    ),
    _S.SUCCEEDED: frozenset({_S.SUPERSEDED}),
    _S.SKIPPED: frozenset({_S.SUPERSEDED}),
    _S.FAILED: frozenset({_S.READY, _S.SUPERSEDED}),
    _S.CANCELLED: frozenset({_S.WAITING, _S.READY, _S.SUPERSEDED}),
    _S.SUPERSEDED: frozenset(),
}

TERMINAL_EXECUTION = frozenset({_E.SUCCEEDED, _E.FAILED, _E.CANCELLED})
CLOSING_EXECUTION = frozenset({_E.FAILING, _E.CANCELLING})
#: Ended step runs are counted in ``finished``.
ENDED_STEP = frozenset({_S.SUCCEEDED, _S.SKIPPED, _S.FAILED, _S.CANCELLED})
