"""Run a body and say what it came to: decode, call, classify."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from orchestrator import codec
from orchestrator.errors import RetryAfter, StepFailed, TimedOut
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.retry import error_types
from orchestrator.flow.steps import Step
from orchestrator.runtime import context
from orchestrator.runtime.context import ThisStep
from orchestrator.runtime.outcomes import Failed, Outcome, Retried, Succeeded
from orchestrator.store.database import is_transient

#: Runs the body of a Celery task that was made a step: (the step, its arguments, which attempt, its
#: options, what makes an outcome of its result). Whatever happens is its outcome.
RunTask: TypeAlias = Callable[
    [Step[..., Any], inspect.BoundArguments, ThisStep, StepOptions, Callable[[Any], Outcome]],
    Outcome,
]

log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 6_000


def run(
    step: Step[..., Any],
    arguments: Mapping[str, codec.JSON],
    this: ThisStep,
    options: StepOptions,
    *,
    limit_bytes: int,
    transaction: Any = None,
) -> Outcome:
    """Call a step's body with encoded arguments; return its outcome, which an error is too.

    Whatever a body raises is a failure of its attempt, KeyboardInterrupt and SystemExit as any
    other: a step must not end the process that happens to run it. What is not the body's is let
    through: see `interrupted_by`.

    Args:
        transaction: what a transactional step is given as its first argument. Errors after which
            its transaction may be run again are raised, not classified.
    """
    token = context.enter(this)
    try:
        decoded = {
            name: codec.decode(
                value, step.hints.get(name), where=f"argument {name!r} of {step.name!r}"
            )
            for name, value in arguments.items()
        }
        bound = inspect.BoundArguments(step.signature, OrderedDict(decoded))

        def stored(result: Any) -> Outcome:
            where = f"result of {step.name!r}"
            return Succeeded(*codec.stored(result, limit_bytes=limit_bytes, where=where))

        if step.task is not None:
            return _run_task(step, bound, this, options, stored)
        if step.is_async:
            return stored(
                COROUTINES.run(step.body(*bound.args, **bound.kwargs), this, options.timeout)
            )
        given = () if transaction is None else (transaction,)
        return stored(step.body(*given, *bound.args, **bound.kwargs))
    except RetryAfter as asked:
        return retried(asked.delay, asked, this.attempt, failed=this.failed)
    except BaseException as error:
        if is_interrupt(error) or (transaction is not None and is_transient(error)):
            raise
        return classify(error, this.attempt, options, failed=this.failed)
    finally:
        context.leave(token)


def run_tasks_with(run: RunTask) -> None:
    """Say how this process runs Celery tasks that were made steps; only `workers` knows Celery."""
    global _run_task  # noqa: PLW0603  # one process has one way
    _run_task = run


def interrupted_by(is_interrupt: Callable[[BaseException], bool]) -> None:
    """Say how this process tells that it is being ended from what a body raises.

    Handlers of signals raise where the main thread happens to be, which may be a body. Such an
    attempt has not failed: nothing is recorded, the process goes, and others take its step over.
    """
    global _is_interrupt  # noqa: PLW0603  # one process has one way
    _is_interrupt = is_interrupt


def is_interrupt(error: BaseException) -> bool:
    """Return whether this was raised in a body only because its process is being ended."""
    return _is_interrupt(error)


def _never(_: BaseException) -> bool:
    return False


def _no_celery(step: Step[..., Any], *_: object) -> Outcome:
    raise StepFailed(
        f"step {step.name!r} is a Celery task, and this process is no Celery worker of this"
        " product: run it with an application that attach() was called for"
    )


_run_task: RunTask = _no_celery
_is_interrupt: Callable[[BaseException], bool] = _never


def classify(error: BaseException, attempt: int, options: StepOptions, *, failed: int) -> Outcome:
    """Return what a failed attempt comes to under the step's retry policy.

    The policy counts failures, of which there were ``failed`` before: a try that ended with its
    worker takes nothing from what a step may fail.
    """
    if options.retry.decide(error_types(type(error)), failed + 1):
        # spreads attempts, protects nothing: no need of a strong generator
        delay = options.retry.delay(failed + 1, random.random())  # noqa: S311
        return retried(delay, error, attempt, failed=failed)
    return Failed(describe(error, attempt))


def retried(delay: timedelta, error: BaseException, attempt: int, *, failed: int) -> Retried:
    """Return that another attempt follows one that failed, as ``failed`` did before."""
    return Retried(delay, {**describe(error, attempt), "failures": failed + 1})


def describe(error: BaseException, attempt: int) -> dict[str, Any]:
    """Return an error as it is stored: kind, message, end of the traceback, attempt."""
    lines = "".join(traceback.format_exception(error))
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001  # the class is the user's
        message = "its message cannot be shown: __str__ raised"
    described = {
        "kind": type(error).__name__,
        "message": message[:_MESSAGE_LIMIT],
        "traceback": lines[-_TRACEBACK_LIMIT:],
        "attempt": attempt,
    }
    encoded = codec.encode(described)
    assert isinstance(encoded, dict)  # noqa: S101  # a dict encodes to a dict
    return encoded


class Coroutines:
    """One event loop per process, in a thread of its own, for coroutine steps.

    The slot that runs the step waits for it; bodies of many slots (threads) share the loop.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()

    def run(self, body: Coroutine[Any, Any, Any], this: ThisStep, timeout: timedelta) -> Any:
        """Run a coroutine to its end or its timeout.

        Raises:
            TimedOut: it took longer; it has been cancelled.
        """

        async def bounded() -> Any:
            token = context.enter(this)
            try:
                async with asyncio.timeout(timeout.total_seconds()) as limit:
                    return await body
            except TimeoutError:
                if limit.expired():
                    raise TimedOut(f"the attempt took longer than {timeout}") from None
                raise
            finally:
                context.leave(token)

        return asyncio.run_coroutine_threadsafe(bounded(), self._running_loop()).result()

    def forget_after_fork(self) -> None:
        """In a forked child: the parent's loop thread is not here."""
        self._loop, self._guard = None, threading.Lock()

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_serve, args=(self._loop,), name="orchestrator-coroutines", daemon=True
                ).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop, also after a coroutine raised what asyncio lets end the loop, too.

    KeyboardInterrupt and SystemExit are handed to who waits for the task by the next turn of the
    loop, and other bodies are in the middle of their work.
    """
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException as error:  # noqa: BLE001  # its task has it
            log.warning("a coroutine raised %r", error)


#: The loop of this process.
COROUTINES = Coroutines()
