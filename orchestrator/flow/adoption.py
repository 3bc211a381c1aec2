"""Celery tasks as steps: what is read of a task when it is adopted.

No Celery is imported here: a task is known by what it has. Its queue, its time limits and its
automatic retries become the defaults of the step; ``.options`` overrules them. How its body is run,
with its request and its hooks, is the business of `orchestrator.workers.adopted`.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any, Protocol, cast

from orchestrator.errors import DefinitionError
from orchestrator.flow import functions
from orchestrator.flow.places import location
from orchestrator.flow.retry import Retry

#: Celery's "retry for ever", in attempts.
_FOR_EVER = 1_000_000


class CeleryTask(Protocol):
    """What makes an object a Celery task."""

    name: str
    __name__: str
    request_stack: Any
    max_retries: int | None
    default_retry_delay: float

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do the task's work here and now."""
        ...

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the task's work."""
        ...

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task."""
        ...


def task_of(given: object) -> CeleryTask | None:
    """Return what is given if it is a Celery task, else None."""
    if isinstance(given, type | FunctionType):
        return None
    marks = ("run", "apply_async", "request_stack", "default_retry_delay")
    return cast("CeleryTask", given) if all(hasattr(given, mark) for mark in marks) else None


def run_of(task: CeleryTask) -> Any:
    """Return the task's work itself, without the automatic retries that Celery wraps around it."""
    return getattr(task, "_orig_run", task.run)


def function_of(task: CeleryTask) -> FunctionType:
    """Return the function that was made a task."""
    unwrapped = inspect.unwrap(run_of(task))
    function = getattr(unwrapped, "__func__", unwrapped)
    return functions.checked(inspect.unwrap(function), "step")


def options_of(task: CeleryTask) -> dict[str, Any]:
    """Return the step's options that a task brings; None where it says nothing.

    Raises:
        DefinitionError: it has a rate limit, which no step can keep.
    """
    rate = getattr(task, "rate_limit", None)
    if rate:
        raise DefinitionError(
            f"{location()}: the task {task.name!r} has rate_limit={rate!r}, which Celery keeps for"
            " its own messages only and a step cannot: remove it, or limit what the task calls"
        )
    limit = getattr(task, "time_limit", None) or getattr(task, "soft_time_limit", None)
    return {
        "queue": getattr(task, "queue", None),
        "timeout": limit,
        "retry": _retry_of(task) if getattr(task, "autoretry_for", None) else None,
    }


def _retry_of(task: Any) -> Retry:
    """What `autoretry_for` and its companions mean."""
    given = dict(getattr(task, "retry_kwargs", None) or {})
    retries = given.get("max_retries", task.max_retries)
    attempts = _FOR_EVER if retries is None else int(retries) + 1
    types = {"on": task.autoretry_for, "not_on": getattr(task, "dont_autoretry_for", None) or ()}
    backoff = float(getattr(task, "retry_backoff", None) or 0)
    if backoff:
        cap = getattr(task, "retry_backoff_max", 600)
        jitter = bool(getattr(task, "retry_jitter", True))
        return Retry(attempts, first=max(1.0, backoff), factor=2, cap=cap, jitter=jitter, **types)
    wait = given.get("countdown", task.default_retry_delay)
    return Retry(attempts, first=wait, factor=1, cap=wait, jitter=False, **types)
