"""The names of the queues of step messages, said once for those who send and those who consume.

A queue ``q`` has a second one beside it, ``q.high``, for steps with ``priority="high"``; whoever
consumes ``q`` consumes both. Brokers deliver from several queues in turn, so what is urgent does
not wait behind the backlog of the rest, on every broker alike (docs/decisions/017).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.flow.authoring import Flow
from orchestrator.flow.definition import StepOptions
from orchestrator.settings import Settings


def queue_of(options: StepOptions, settings: Settings) -> str:
    """Return where the messages of a step with these options go."""
    if options.priority == "high":
        return high(options.queue or settings.queue)
    is_long = options.timeout > settings.ack_budget
    return options.queue or (settings.long_queue if is_long else settings.queue)


def queues_of(flows: Iterable[Flow[..., Any]], settings: Settings) -> set[str]:
    """Return the queues of all steps of flows, the default queue and that of long steps among them.

    A queue of which only the urgent half is used is there as well: workers are told its name.
    """
    names = {settings.queue, settings.long_queue}
    for flow in flows:
        for options in flow.definition.options.values():
            names |= {options.queue or settings.queue, queue_of(options, settings)}
    return names


def high(queue: str) -> str:
    """Return the name of the queue of what must not wait behind the messages of ``queue``."""
    return f"{queue}.high"
