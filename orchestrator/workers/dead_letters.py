"""Dead letters: hints that a step's message did not get through (protocol.md 5).

The broker gives up on a message that came back too often, because its workers died or were stopped
while they had it reserved. The step is not to blame before its own deaths say so: its row wants
another message after a pause, and the letter is acknowledged when that is committed. What cannot be
read as a message of ours goes into quarantine whole, with all the broker said.

While the database is away letters stay unacknowledged in this process and are tried again; so many
of them at most that nothing else has to wait for them.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import Any

import kombu
from celery import bootsteps

from orchestrator.errors import InvalidInput
from orchestrator.records import StepMessage
from orchestrator.workers import topology
from orchestrator.workers.crew import Crew, crew_of
from orchestrator.workers.message import VERSION_HEADER
from orchestrator.workers.triggers import received

log = logging.getLogger(__name__)

#: Letters that this process holds unacknowledged at most.
HELD = 50
#: After an error the letters wait so long, in seconds.
PAUSE = 5.0


class DeadLetters(bootsteps.StartStopStep):
    """Celery's step for it: consumes the dead letters of the queues that this worker consumes."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._consumer: Any = None
        self._timer: Any = None
        self._waiting: deque[Any] = deque()
        self._pausing: Any = None
        self._crew = crew_of(parent.app)
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Begin to consume."""
        if parent.connection.transport.driver_type != "amqp":
            return
        queues = [
            topology.dead_letter_queue(queue.name)
            for queue in parent.app.amqp.queues.consume_from.values()
            if isinstance(queue, topology.StepQueue)
        ]
        if not queues:
            return
        self._timer = parent.timer
        try:
            self._consumer = kombu.Consumer(
                parent.connection.channel(),
                queues,
                on_message=self._on_letter,
                prefetch_count=HELD,
            )
            self._consumer.consume()
        except parent.connection.connection_errors:
            raise  # Celery connects anew
        except Exception as error:  # noqa: BLE001 - steps run without it: the sweeps find them
            log.warning("dead letters are not looked after: %s", error)

    def stop(self, _: Any) -> None:
        """Consume no more; what is not acknowledged goes back to its queue."""
        consumer, self._consumer = self._consumer, None
        self._waiting.clear()
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None
        if consumer is not None:
            try:
                consumer.cancel()
                consumer.channel.close()
            except Exception as error:  # noqa: BLE001 - the connection may be gone
                log.debug("while leaving the dead letters: %r", error)

    shutdown = stop

    def _on_letter(self, letter: Any) -> None:
        self._waiting.append(letter)
        if self._pausing is None:
            self._work()

    def _again(self) -> None:
        self._pausing = None
        self._work()

    def _work(self) -> None:
        """Look after the letters that wait, until one fails; raises nothing."""
        while self._waiting:
            letter = self._waiting[0]
            try:
                heed(self._crew, letter)
                self._waiting.popleft()
                letter.ack()
            except Exception as error:  # noqa: BLE001 - a callback that raises would end the worker
                log.warning("dead letters wait for %g s: %s", PAUSE, error)
                self._waiting.rotate(-1)  # one that always fails must not keep the others
                self._pausing = self._timer.call_after(PAUSE, self._again)
                return


def heed(crew: Crew, letter: Any) -> None:
    """Do what a dead letter asks for; it may be acknowledged when this returns."""
    queue = letter.delivery_info["routing_key"].removesuffix(topology.DEAD)
    try:
        message = _read(letter, queue)
    except (InvalidInput, ValueError, TypeError) as error:
        crew.set_aside(
            received(letter, queue),
            f"a dead letter of {queue!r} that this release cannot read: {error}",
        )
    else:
        crew.put_off(message)


def _read(letter: Any, queue: str) -> StepMessage:
    headers = letter.headers or {}
    if VERSION_HEADER not in headers:
        raise InvalidInput("it is no message of ours")
    arguments, *_ = json.loads(letter.body)
    return StepMessage.from_args(arguments, task=str(headers.get("task")), queue=queue)
