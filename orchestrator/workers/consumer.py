"""Celery's consumer, for which the name of a task of ours is never unknown.

A step message may name a flow that this worker does not have: another release, another service on
the same queue. Celery would reject it for good. Here it goes to the generic handler, which finds
out from the database what is to be done: another worker has it, or nobody has.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from celery.worker.consumer import Consumer as CeleryConsumer

from orchestrator.workers.message import VERSION_HEADER

#: Celery would wait ever longer for a broker that is away, up to half a minute: seconds.
_LONGEST_WAIT = 3.0
#: The task that handles steps whose name this worker did not register.
GENERIC_TASK = "orchestrator.step"


class Consumer(CeleryConsumer):
    """Hands step messages with unknown names to the generic handler, and is back soon."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, as often as it takes, within seconds of the broker's return."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=_LONGEST_WAIT)
        return super().ensure_connected(conn)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Handle a message whose task is not registered."""
        headers = message.headers
        if VERSION_HEADER in headers and headers["task"] != GENERIC_TASK:
            # The shadow name is what logs and events show.
            message.headers = {**headers, "task": GENERIC_TASK, "shadow": headers["task"]}
            self.create_task_handler()(message)
            return
        super().on_unknown_task(body, message, exc)


_Blueprint: Any = CeleryConsumer.Blueprint


class LeanConsumer(Consumer):
    """The consumer of our own application, which delays nothing by the broker.

    Celery would make 28 queues per virtual host for delays; ours are rows with a due time.
    """

    class Blueprint(_Blueprint):  # type: ignore[misc]  # typed as a variable
        """Celery's steps without those queues."""

        default_steps: ClassVar = [
            step for step in _Blueprint.default_steps if not step.endswith(":DelayedDelivery")
        ]
