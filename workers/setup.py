"""Declaring all queues of an installation at once, before any worker runs."""

from __future__ import annotations

from collections.abc import Iterator

import amqp
import kombu

from orchestrator.errors import Unavailable
from orchestrator.runtime.modules import flows_of
from orchestrator.runtime.triggers import triggers_of
from orchestrator.settings import Settings, without_password
from workers import connect, topology
from workers.topology import Declared


def set_up(settings: Settings) -> list[Declared]:
    """Declare the queues of the settings and of their modules; return what became of each.

    Raises:
        Unavailable: the broker cannot be reached, or refuses.
    """
    connection = connect.broker(settings)()
    try:
        connection.connect()
        return topology.set_up(connection, queues_of(settings))
    except (OSError, amqp.AMQPError, kombu.exceptions.KombuError) as error:
        raise Unavailable(
            f"the broker {without_password(settings.broker_url)} did not do it: {error}; "
            "check that it runs and that its user may declare queues"
        ) from error
    finally:
        connection.release()


def queues_of(settings: Settings) -> Iterator[kombu.Queue]:
    """Yield the declarations of all queues that the settings and their modules name."""
    steps = {settings.queue, settings.long_queue}
    for flow in flows_of(settings.modules):
        steps |= {options.queue for options in flow.definition.options.values() if options.queue}
    for name in sorted(steps):
        yield topology.step_queue(name, is_amqp=True)
    dead = topology.dead_letters(settings.trigger_queue)
    yield topology.dead_trigger_queue(dead)
    own = {trigger.queue for trigger in triggers_of(settings.modules)}
    for name in sorted({settings.trigger_queue, *own}):
        yield topology.trigger_queue(name, dead=dead)
