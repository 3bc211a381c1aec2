"""Queues that a worker is told to consume from and nobody configured: `-Q reports`.

Celery would declare them with its own arguments, without limit and dead letters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kombu
from celery.app.amqp import Queues

from orchestrator.workers import topology


class StepQueues(Queues):
    """Celery's collection of queues, in which a missing queue of ours is made by our topology."""

    is_ours: Callable[[str], bool]

    def new_missing(self, name: str) -> kombu.Queue:
        """Return the declaration of a queue that nobody configured."""
        if self.is_ours(name):
            return topology.step_queue(name, is_amqp=True)
        missing: kombu.Queue = super().new_missing(name)
        return missing


def step_queues(is_ours: Callable[[str], bool]) -> type[Any]:
    """Return the class of queues for an app; ``is_ours`` says which missing queues hold steps."""
    return type("StepQueues", (StepQueues,), {"is_ours": staticmethod(is_ours)})
