"""The names of the queues of step messages, said once for those who send and those who consume.

A queue ``q`` has a second one beside it, ``q.high``, for steps with ``priority="high"``; whoever
consumes ``q`` consumes both. Brokers deliver from several queues in turn, so what is urgent does
not wait behind the backlog of the rest, on every broker alike (docs/decisions/017).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
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


def unconsumed(
    flows: Iterable[Flow[..., Any]], settings: Settings, consumed: Collection[str]
) -> list[str]:
    """Return the queues of steps of flows that are missing among the consumed ones.

    What whoever consumes another queue takes, too, is told by the name of that one.
    """
    used = {
        queue_of(flow.definition.step_options(path), settings)
        for flow in flows
        for path in flow.definition.graph.paths()
    }
    missing = used.difference(consumed)
    plain = {asked(name) for name in missing}
    plain = {name if name not in consumed else high(name) for name in plain}
    if settings.queue in plain:
        plain.discard(settings.long_queue)
    return sorted(plain)


def to_ask_for(consumed: Iterable[str], settings: Settings) -> list[str]:
    """Return the queues of a worker without those that it consumes because of another."""
    names = list(consumed)
    beside = {high(name) for name in names}
    if settings.queue in names:
        beside.add(settings.long_queue)
    return [name for name in names if name not in beside]


def asked(queue: str) -> str:
    """Return which queue a worker is told to consume so that it consumes ``queue``."""
    return queue.removesuffix(high(""))


def high(queue: str) -> str:
    """Return the name of the queue of what must not wait behind the messages of ``queue``."""
    return f"{queue}.high"
