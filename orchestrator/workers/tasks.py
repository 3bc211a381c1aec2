"""The Celery tasks: thin, each one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.exceptions import Reject, Retry

from orchestrator.errors import InvalidInput, StepFailed
from orchestrator.records import StepMessage
from orchestrator.runtime.catalogue import task_names
from orchestrator.runtime.outcomes import Failed, Retried
from orchestrator.workers.consumer import GENERIC_TASK
from orchestrator.workers.crew import Crew
from orchestrator.workers.events import conclusion

_OPTIONS: dict[str, Any] = {
    "bind": True,
    "acks_late": True,
    "reject_on_worker_lost": True,
    "ignore_result": True,
    "max_retries": None,
    "throws": (StepFailed,),
    "Request": "orchestrator.workers.request:Request",
    "typing": False,
    "shared": False,  # else every other Celery application of the process gets it too
}

#: A message that its step may keep for longer than the broker waits is acknowledged at once: from
#: then on the lease alone protects the step.
_ACKED_AT_ONCE: dict[str, Any] = {"acks_late": False, "reject_on_worker_lost": False}


def register(app: Celery, crew: Crew) -> None:
    """Register the tasks of all flows of a crew, the generic one, and the duties of beat."""

    def run(task: Any, *arguments: Any) -> str:
        return run_step(crew, task.request, arguments)

    names = [name for flow in crew.catalogue.flows.values() for name in task_names(flow.definition)]
    long = set(long_steps(crew))
    for name in dict.fromkeys([GENERIC_TASK, *names]):
        options = _OPTIONS | _ACKED_AT_ONCE if name in long else _OPTIONS
        task: Any = app.task(name=name, **options)
        task(run)
    duties: dict[str, Callable[[], int]] = {
        "wake_due": crew.redrive,
        "redrive": crew.redrive,
        "recover": crew.recover,
        "expire": crew.expire,
    }
    for duty, call in duties.items():
        plain: Any = app.task(
            name=f"orchestrator.{duty}", shared=False, ignore_result=True, acks_late=False
        )
        plain(_plain(call))


def run_step(crew: Crew, request: Any, arguments: Any) -> str:
    """Carry out a step message; how its own step ended is what Celery's monitors are shown.

    Raises:
        StepFailed: the step failed for good. It is recorded; Celery only shows it.
        Retry: the attempt failed and another follows.
        Reject: not a message of this release.
    """
    information = request.delivery_info or {}
    try:
        message = StepMessage.from_args(
            arguments,
            task=request.get("shadow") or request.task,
            queue=information.get("routing_key") or crew.settings.queue,
        )
    except InvalidInput as error:
        raise Reject(error, requeue=False) from error
    attempts, ended = crew.step_process.deliver(
        message, redelivered=bool(information.get("redelivered"))
    )
    if ended is None:
        return f"{attempts} attempts recorded" if attempts else "nothing to do"
    match ended.outcome:
        case Failed(why):
            raise StepFailed(f"{why['kind']}: {why['message']}")
        case Retried(delay, why):
            failed = StepFailed(f"{why['kind']}: {why['message']}")
            raise Retry(str(failed), exc=failed, when=datetime.now(UTC) + delay)
    own = conclusion(ended.outcome, ended.claimed)
    return f"{own}, then {attempts - 1} inline" if attempts > 1 else own


def long_steps(crew: Crew) -> Iterator[str]:
    """Yield the task names of steps whose timeout is longer than a message may stay open."""
    for flow in crew.catalogue.flows.values():
        for path, options in flow.definition.options.items():
            if options.timeout > crew.settings.ack_budget:
                yield ".".join((flow.name, *path.split("/")))


def _plain(call: Callable[[], int]) -> Callable[[], int]:
    """Return a function of its own for each duty, as Celery wants them."""

    def duty() -> int:
        return call()

    return duty
