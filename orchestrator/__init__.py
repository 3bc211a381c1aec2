"""Durable flows for teams that already run Celery, RabbitMQ and PostgreSQL."""

from orchestrator.client import Handle, Orchestrator
from orchestrator.errors import (
    Conflict,
    DefinitionError,
    ExecutionFailed,
    InvalidInput,
    LeaseLost,
    NotFound,
    OrchestratorError,
    Reject,
    RetryAfter,
    StepFailed,
    TimedOut,
    Unavailable,
)
from orchestrator.flow.authoring import Flow, each, flow
from orchestrator.flow.retry import Retry
from orchestrator.flow.steps import Step, step
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime.context import ThisStep, this_step
from orchestrator.runtime.queries import ExecutionView
from orchestrator.settings import Settings

__all__ = [  # noqa: RUF022  # grouped: writing flows, running them, reading them, errors
    "Flow",
    "Retry",
    "Step",
    "ThisStep",
    "each",
    "flow",
    "step",
    "this_step",
    # running
    "Handle",
    "Orchestrator",
    "Settings",
    # reading
    "ExecutionStatus",
    "ExecutionView",
    "StepStatus",
    # errors
    "Conflict",
    "DefinitionError",
    "ExecutionFailed",
    "InvalidInput",
    "LeaseLost",
    "NotFound",
    "OrchestratorError",
    "Reject",
    "RetryAfter",
    "StepFailed",
    "TimedOut",
    "Unavailable",
]
