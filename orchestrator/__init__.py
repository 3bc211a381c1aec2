"""Durable flows for teams that already run Celery, RabbitMQ and PostgreSQL."""

from orchestrator.client import Orchestrator
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
from orchestrator.flow.authoring import (
    Flow,
    StepError,
    build,
    call,
    choose,
    each,
    first_n,
    first_of,
    flow,
    missing,
    not_,
    otherwise,
    signal,
    sleep,
    when,
)
from orchestrator.flow.retry import Retry
from orchestrator.flow.steps import Step, step
from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime.context import ThisStep, this_step
from orchestrator.runtime.queries import ExecutionView
from orchestrator.runtime.triggers import Trigger
from orchestrator.settings import Settings

__all__ = [  # noqa: RUF022  # grouped: writing flows, running them, reading them, errors
    "Flow",
    "Retry",
    "Step",
    "StepError",
    "ThisStep",
    "build",
    "call",
    "choose",
    "each",
    "first_n",
    "first_of",
    "flow",
    "missing",
    "not_",
    "otherwise",
    "signal",
    "sleep",
    "step",
    "this_step",
    "when",
    # running
    "Handle",
    "Orchestrator",
    "Settings",
    "Trigger",
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
