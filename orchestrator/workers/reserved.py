"""What a worker must not sit on: messages it has reserved and cannot begin (protocol.md 6).

A step that may run longer than a message may stay open is acknowledged when it begins, so the
worker reserves the next message although its slots are full, and that one would wait for hours
beside idle workers. Two duties, once a second in the main process, keep work moving:

- while all slots are full, the queue of long steps is not consumed;
- a reserved message that was not begun in time (`reserved_after`) is offered anew: its row wants
  another message, which the pump sends, and this one is acknowledged. Should a slot here become
  free first, the pool still has its copy; whoever claims first has the step.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import bootsteps
from celery.worker import state

from orchestrator.errors import InvalidInput
from orchestrator.records import StepMessage
from orchestrator.workers.crew import Crew, crew_of
from orchestrator.workers.message import VERSION_HEADER

log = logging.getLogger(__name__)

#: How often both duties are done, in seconds.
INTERVAL = 1.0


class Reserved(bootsteps.StartStopStep):
    """Celery's step for it: beside the consumer of tasks."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._seen: dict[str, float] = {}
        self._entry: Any = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Begin to look."""
        self._entry = parent.timer.call_repeatedly(INTERVAL, self._look, (parent,))

    def stop(self, _: Any) -> None:
        """Look no more: the connection is going."""
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    shutdown = stop

    def _look(self, consumer: Any) -> None:
        crew = crew_of(consumer.app)
        try:
            self._offer_old_ones(crew)
            if consumer.hub is not None:  # only its own thread may touch the channel
                _consume_long_steps(consumer, crew)
        except Exception as error:  # noqa: BLE001 - a timer that raises would end the worker
            log.warning("could not look after reserved messages: %s", error)

    def _offer_old_ones(self, crew: Crew) -> None:
        now = time.monotonic()
        waiting = {request.id: request for request in _waiting()}
        self._seen = {key: self._seen.get(key, now) for key in waiting}
        patience = crew.settings.reserved_after.total_seconds()
        for key, request in waiting.items():
            message = _message(request)
            if message is not None and now - self._seen[key] >= patience:
                self._seen[key] = now
                if crew.offer_again(message):
                    request.acknowledge()


def _consume_long_steps(consumer: Any, crew: Crew) -> None:
    queue = crew.settings.long_queue
    if queue not in crew.consumed:
        return
    full = len(state.active_requests) >= consumer.pool.num_processes
    consuming = consumer.task_consumer.consuming_from(queue)
    if full and consuming:
        consumer.cancel_task_queue(queue)
    elif not full and not consuming:
        consumer.add_task_queue(queue)


def _waiting() -> list[Any]:
    active = {request.id for request in list(state.active_requests)}
    return [request for request in list(state.reserved_requests) if request.id not in active]


def _message(request: Any) -> StepMessage | None:
    """Return the step message of a request of ours that is not acknowledged yet."""
    if request.acknowledged or VERSION_HEADER not in (request.message.headers or {}):
        return None
    try:
        return StepMessage.from_args(request.args, task=request.name, queue="")
    except InvalidInput:
        return None
