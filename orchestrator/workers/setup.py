"""Declaring all queues of an installation at once, before any worker runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import amqp
import kombu

from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.flow.authoring import Flow
from orchestrator.runtime import queues
from orchestrator.runtime.triggers import Trigger
from orchestrator.settings import Settings, without_password
from orchestrator.workers import inspection, topology
from orchestrator.workers.connect import Connect
from orchestrator.workers.topology import Declared


def set_up(
    broker: Connect,
    settings: Settings,
    flows: Iterable[Flow[..., Any]] = (),
    triggers: Iterable[Trigger] = (),
) -> list[Declared]:
    """Declare exchange, queues and dead letters; return what became of each queue.

    Args:
        flows, triggers: those whose own queues are declared too.

    Raises:
        InvalidInput: the broker is not RabbitMQ, or refuses whoever asks.
        Unavailable: it cannot be reached, or does not declare them.
    """
    connection = broker()
    if connection.transport.driver_type != "amqp":
        raise InvalidInput(
            "only RabbitMQ has queues to declare: set ORCHESTRATOR_BROKER_URL to its address"
        )
    try:
        try:
            connection.connect()
        except (OSError, amqp.AMQPError, kombu.exceptions.KombuError) as error:
            raise inspection.unreached(connection, error) from error
        return topology.set_up(connection, queues_of(settings, flows, triggers))
    except (OSError, amqp.AMQPError, kombu.exceptions.KombuError) as error:
        raise Unavailable(
            f"the broker {without_password(connection.as_uri())} did not declare the queues: "
            f"{error}; check that its user may declare them"
        ) from error
    finally:
        connection.release()


def queues_of(
    settings: Settings, flows: Iterable[Flow[..., Any]], triggers: Iterable[Trigger]
) -> Iterator[kombu.Queue]:
    """Yield the declarations of all queues that settings, flows and triggers name."""
    for name in sorted(queues.queues_of(flows, settings)):
        yield topology.step_queue(name, is_amqp=True)
    dead = topology.dead_letters(settings.trigger_queue)
    yield topology.dead_trigger_queue(dead)
    own = {trigger.queue for trigger in triggers}
    for name in sorted({settings.trigger_queue, *own}):
        yield topology.trigger_queue(name, dead=dead)
