"""Celery's worker, with a shutdown that hands back what it cannot finish.

Celery's soft shutdown sleeps its whole timeout and then kills; the broker offers the messages to
others, who would find steps of a dead holder and count a death. Here the wait ends when nothing
runs any more, and what still runs is given back first: no death, no attempt, a new message.
"""

from __future__ import annotations

from typing import Any

from celery.apps.worker import Worker as CeleryWorker
from celery.utils.text import str_to_list

from workers import tasks
from workers.crew import crew_of
from workers.topology import step_queue
from workers.triggers import trigger_queues


class Worker(CeleryWorker):
    """A worker that stops in good order."""

    consumer_cls: Any

    def setup_queues(self, include: Any, exclude: Any = None) -> None:
        """Consume the queue of long steps beside the default queue, if a flow has such steps."""
        crew, queues = crew_of(self.app), self.app.amqp.queues
        named = str_to_list(include) or []
        foreign = [name for name in named if name in trigger_queues(crew)]
        crew.told_to_take_triggers = bool(foreign)
        super().setup_queues(include, exclude)
        if foreign:
            queues.deselect(foreign)  # their messages are no tasks
        if crew.settings.queue in queues.consume_from and any(tasks.long_steps(crew)):
            long = crew.settings.long_queue
            is_amqp = self.app.connection().transport.driver_type == "amqp"
            queues.select_add(step_queue(long, is_amqp=is_amqp))

    def on_init_blueprint(self) -> None:
        """Use our consumer where no other was chosen."""
        super().on_init_blueprint()
        if self.consumer_cls == "celery.worker.consumer:Consumer":
            self.consumer_cls = "workers.consumer:Consumer"

    def wait_for_soft_shutdown(self) -> bool:
        """Wait for running steps, then hand back the rest; other tasks wait as Celery lets them."""
        crew_of(self.app).drain(self.app.conf.worker_soft_shutdown_timeout)
        return True

    def on_stopped(self) -> None:
        """Leave when everything has stopped."""
        super().on_stopped()
        crew_of(self.app).leave()
