"""Celery tasks as steps: a body runs as Celery would run it, but its retries are the step's.

``self.request`` is filled (its id is the step's idempotency key, ``retries`` the attempts before
this one), the hooks are called once per attempt, and what Celery would have done next is told to
the engine instead: `Retry` is another attempt after its countdown, `Ignore` a result of None,
`Reject` a failure for good or, with ``requeue``, another attempt soon. Exceptions listed in
``autoretry_for`` are judged by the step's retry policy, which was read from the task.

Nothing is sent, and the task's result backend is told nothing. Whoever calls the task's own
``delay`` is not concerned.
"""

from __future__ import annotations

import inspect
import logging
import socket
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import states
from celery._state import _task_stack  # type: ignore[attr-defined]  # the stubs leave it out
from celery.app.task import Context
from celery.app.trace import task_has_custom
from celery.exceptions import Ignore, Reject, Retry
from celery.local import Proxy

from orchestrator.errors import RetryAfter, StepFailed
from orchestrator.flow import adoption
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.steps import Step
from orchestrator.runtime import bodies
from orchestrator.runtime.context import ThisStep
from orchestrator.runtime.outcomes import Failed, Outcome, Retried

log = logging.getLogger(__name__)

#: After `Reject(requeue=True)`; Celery would offer it again at once, and for ever.
_REQUEUED_AFTER = timedelta(seconds=1)


def run(
    step: Step[..., Any],
    bound: inspect.BoundArguments,
    this: ThisStep,
    options: StepOptions,
    stored: Callable[[Any], Outcome],
) -> Outcome:
    """Run one attempt of a task that was made a step."""
    task: Any = step.task
    if isinstance(task, Proxy):
        task = task._get_current_object()  # noqa: SLF001  # what Celery's own tracer is given
    request = _request(task, bound, this, options)
    _task_stack.push(task)
    task.request_stack.push(request)
    try:
        return _Attempt(task, bound, this, options).run(stored)
    finally:
        task.request_stack.pop()
        _task_stack.pop()
        vars(task).pop("override_max_retries", None)  # self.retry(max_retries=) leaves it behind


class _Attempt:
    """One attempt and its hooks."""

    def __init__(
        self, task: Any, bound: inspect.BoundArguments, this: ThisStep, options: StepOptions
    ) -> None:
        self._task, self._this, self._options = task, this, options
        self._args, self._kwargs = bound.args, bound.kwargs

    def run(self, stored: Callable[[Any], Outcome]) -> Outcome:
        task, attempt = self._task, self._this.attempt
        # The task's own __call__ if it has one, as in Celery; else its work without autoretry.
        call = task if task_has_custom(task, "__call__") else adoption.run_of(task)
        try:
            task.before_start(self._this.id, self._args, self._kwargs)
            result = call(*self._args, **self._kwargs)
            outcome = stored(result)
        except Ignore:
            return stored(None)
        except Reject as asked:
            again = vars(asked)["requeue"]
            if not again:
                return Failed(bodies.describe(asked, attempt))
            return bodies.retried(_REQUEUED_AFTER, asked, attempt, failed=self._this.failed)
        except Retry as asked:
            return self._retry(asked)
        except RetryAfter as asked:
            outcome = bodies.retried(asked.delay, asked, attempt, failed=self._this.failed)
            return self._ended(asked, outcome)
        except BaseException as error:
            if bodies.is_interrupt(error):
                raise
            failed = self._this.failed
            return self._ended(error, bodies.classify(error, attempt, self._options, failed=failed))
        self._hook("on_success", result)
        self._hook("after_return", states.SUCCESS, result, einfo=None)
        return outcome

    def _retry(self, asked: Retry) -> Outcome:
        """``self.retry(...)``: the same arguments again, after its countdown."""
        attempt = self._this.attempt
        signature = vars(asked)["sig"]
        if signature is not None and (tuple(signature.args), dict(signature.kwargs)) != (
            self._args,
            self._kwargs,
        ):
            refused = StepFailed(
                f"task {self._task.name!r} retries itself with other arguments, and those of a step"
                " are said by its flow: keep what changes in the task's own storage"
            )
            return self._ended(refused, Failed(bodies.describe(refused, attempt)))
        error = asked.exc if isinstance(asked.exc, BaseException) else asked
        delay = _delay(asked.when, self._task.default_retry_delay)
        return self._ended(error, bodies.retried(delay, error, attempt, failed=self._this.failed))

    def _ended(self, error: BaseException, outcome: Outcome) -> Outcome:
        raised: Any = sys.exc_info()
        einfo = ExceptionInfo(raised)
        if isinstance(outcome, Retried):
            self._hook("on_retry", error, einfo=einfo)
        else:
            self._hook("on_failure", error, einfo=einfo)
            self._hook("after_return", states.FAILURE, error, einfo=einfo)
        return outcome

    def _hook(self, name: str, *told: object, **einfo: object) -> None:
        """Call a hook; as in Celery its own failure changes nothing of what it is told."""
        try:
            getattr(self._task, name)(
                *told, self._this.id, self._args, self._kwargs, *einfo.values()
            )
        except Exception:
            log.exception("%s of task %s failed", name, self._task.name)


def _request(
    task: Any, bound: inspect.BoundArguments, this: ThisStep, options: StepOptions
) -> Context:
    # The message that brought the step, or the chain of inline steps to which it belongs.
    carrier: Any = getattr(_task_stack.top, "request", None)
    information = dict(getattr(carrier, "delivery_info", None) or {})
    return Context(
        id=this.id,
        task=task.name,
        args=bound.args,
        kwargs=bound.kwargs,
        retries=this.failed,
        root_id=this.execution_id,
        parent_id=None,
        correlation_id=this.id,
        hostname=getattr(carrier, "hostname", None) or socket.gethostname(),
        delivery_info={
            "exchange": "",
            "routing_key": information.get("routing_key") or options.queue,
            "priority": information.get("priority"),
            "redelivered": bool(information.get("redelivered")),
        },
        timelimit=[options.timeout.total_seconds(), getattr(task, "soft_time_limit", None)],
        ignore_result=True,
        called_directly=False,
        is_eager=True,  # so that self.retry raises and sends nothing
    )


def _delay(when: object, default: float) -> timedelta:
    """Return how long a retry waits: Celery says seconds, a moment, or nothing."""
    if isinstance(when, datetime):
        return max(timedelta(0), when - datetime.now(when.tzinfo))
    return timedelta(seconds=float(when if isinstance(when, int | float) else default))
