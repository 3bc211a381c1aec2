"""Celery's worker, with a shutdown that hands back what it cannot finish.

Celery's soft shutdown sleeps its whole timeout and then kills; the broker offers the messages to
others, who would find steps of a dead holder and count a death. Here the wait ends when nothing
runs any more, and what still runs is given back first: no death, no attempt, a new message.
"""

from __future__ import annotations

from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.utils.text import str_to_list

from orchestrator.runtime.queues import high, queues_of
from orchestrator.workers import tasks
from orchestrator.workers.crew import Crew, crew_of
from orchestrator.workers.topology import step_queue
from orchestrator.workers.triggers import trigger_queues


class Worker(CeleryWorker):
    """A worker that stops in good order."""

    consumer_cls: Any

    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """Consume also what belongs to the chosen queues, as far as flows have steps there.

        Beside the default queue that is the queue of long steps, beside each that of its urgent.
        """
        crew, queues = crew_of(self.app), self.app.amqp.queues
        named = str_to_list(include) or []
        foreign = [name for name in named if name in trigger_queues(crew)]
        crew.told_to_take_triggers = bool(foreign)
        super().setup_queues(include, exclude)
        if foreign:
            queues.deselect(foreign)  # their messages are no tasks
        beside = _beside(crew, set(queues.consume_from)) - set(str_to_list(exclude) or [])
        is_amqp = self.app.connection().transport.driver_type == "amqp"
        for name in sorted(beside):
            queues.select_add(step_queue(name, is_amqp=is_amqp))

    def on_init_blueprint(self) -> None:
        """Use our consumer where no other was chosen."""
        super().on_init_blueprint()
        if self.consumer_cls == "celery.worker.consumer:Consumer":
            self.consumer_cls = "orchestrator.workers.consumer:Consumer"

    def wait_for_soft_shutdown(self) -> bool:
        """Wait for running steps, then hand back the rest; other tasks wait as Celery lets them."""
        crew_of(self.app).drain(self.app.conf.worker_soft_shutdown_timeout)
        return True

    def on_stopped(self) -> None:
        """Leave when everything has stopped."""
        super().on_stopped()
        crew_of(self.app).leave()


def _beside(crew: Crew, chosen: set[str]) -> set[str]:
    """Return the queues in use that whoever consumes the chosen ones consumes, too."""
    used = queues_of(crew.catalogue.flows.values(), crew.settings)
    names = {high(queue) for queue in chosen} & used
    if crew.settings.queue in chosen and any(tasks.long_steps(crew)):
        names.add(crew.settings.long_queue)
    return names
