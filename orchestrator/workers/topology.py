"""The queues of this product as the broker knows them, said once for consumers and publishers.

On AMQP every queue of steps is a quorum queue with a delivery limit and a dead-letter queue of its
own, so a message whose workers keep dying leaves the queue with its reason instead of circling for
ever. The queues hang on one topic exchange because Celery's delayed delivery cannot use a direct
one; we ourselves publish through the default exchange, where the routing key is the name of the
queue and an unroutable message is returned.

The messages of trigger queues are not hints but the only copy of what somebody wants done. Those
queues keep their dead letters without a limit, in one queue that the workers read, and hand them
over only when it is certain that they have arrived there (``at-least-once``).

A queue that exists is taken as it is, whoever made it and how: the broker would refuse a second
declaration with other arguments and close the channel of whoever asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import amqp
import kombu

#: How often a message may come back from a dying consumer before it is dead-lettered.
DELIVERY_LIMIT = 5
#: Dead letters are hints, the rows know better. The oldest are dropped beyond this number.
DEAD_LETTERS_KEPT = 10_000
#: How the name of a queue of dead letters ends.
DEAD = ".dead"

#: How often a trigger message may come back, by outages and killed workers, before it is set aside.
TRIGGER_DELIVERY_LIMIT = 20

EXCHANGE = kombu.Exchange("orchestrator", type="topic", durable=True)

QUORUM = "quorum"
_DEAD_LETTERS = {"x-queue-type": QUORUM, "x-max-length": DEAD_LETTERS_KEPT}


class StepQueue(kombu.Queue):
    """A queue of step messages; declaring it makes its dead-letter queue too."""

    def queue_declare(
        self, nowait: bool = False, passive: bool = False, channel: Any = None
    ) -> Any:
        """Declare the queue unless it exists."""
        channel = channel or self.channel
        if not passive and isinstance(channel, amqp.Channel):
            if exists(channel.connection, self.name):
                passive = True
            else:
                _declare_dead_letters(channel, self.name)
        return super().queue_declare(nowait=nowait, passive=passive, channel=channel)


class DeadLetterQueue(kombu.Queue):
    """A queue of dead letters."""

    def queue_declare(
        self, nowait: bool = False, passive: bool = False, channel: Any = None
    ) -> Any:
        """Declare the queue unless it exists."""
        channel = channel or self.channel
        passive = passive or exists(channel.connection, self.name)
        return super().queue_declare(nowait=nowait, passive=passive, channel=channel)


def dead_letter_queue(queue: str) -> DeadLetterQueue:
    """Return the declaration of the queue that takes the dead letters of ``queue``."""
    return DeadLetterQueue(
        dead_letters(queue),
        exchange=kombu.Exchange(""),
        routing_key=dead_letters(queue),
        durable=True,
        queue_arguments=_DEAD_LETTERS,
    )


class TriggerQueue(kombu.Queue):
    """A queue of foreign messages; declaring it binds it to our exchange under its own name."""

    def queue_declare(
        self, nowait: bool = False, passive: bool = False, channel: Any = None
    ) -> Any:
        """Declare the queue unless it exists."""
        channel = channel or self.channel
        if not passive and isinstance(channel, amqp.Channel):
            passive = exists(channel.connection, self.name)
        return super().queue_declare(nowait=nowait, passive=passive, channel=channel)


def trigger_queue(name: str, *, dead: str) -> TriggerQueue:
    """Return the declaration of a queue of foreign messages, whose dead letters go to ``dead``."""
    return TriggerQueue(
        name,
        exchange=EXCHANGE,
        routing_key=name,
        durable=True,
        queue_arguments={
            "x-queue-type": QUORUM,
            "x-delivery-limit": TRIGGER_DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # the strategy needs it; there is no limit of length
        },
    )


def dead_trigger_queue(name: str) -> TriggerQueue:
    """Return the declaration of the queue of what could not be taken."""
    return TriggerQueue(
        name,
        exchange=EXCHANGE,
        routing_key=name,
        durable=True,
        queue_arguments={"x-queue-type": QUORUM},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What became of a queue: ``made``, ``there``, or ``differs`` with what the broker says."""

    queue: str
    state: str
    problem: str = ""


def set_up(connection: kombu.Connection, queues: Iterable[kombu.Queue]) -> list[Declared]:
    """Make what is missing of these queues, with exchange, bindings and dead letters.

    A queue that exists stays as it is; one with other arguments than ours is told, not changed.
    """
    channel: Any = connection.channel()
    done = []
    for queue in queues:
        there = exists(channel.connection, queue.name)
        problem = _difference(channel.connection, queue) if there else ""
        queue(channel).declare()
        state = "differs" if problem else "there" if there else "made"
        done.append(Declared(queue=queue.name, state=state, problem=problem))
    channel.close()
    return done


def _difference(connection: amqp.Connection, queue: kombu.Queue) -> str:
    """Return what the broker has against declaring an existing queue with our arguments."""
    channel = connection.channel()
    try:
        channel.queue_declare(
            queue.name, durable=True, auto_delete=False, arguments=queue.queue_arguments
        )
    except amqp.PreconditionFailed as error:
        return str(error.reply_text)
    channel.close()
    return ""


def step_queue(name: str, *, is_amqp: bool) -> StepQueue:
    """Return the declaration of a queue of steps."""
    return StepQueue(
        name,
        exchange=EXCHANGE,
        routing_key=name,
        durable=True,
        queue_arguments=arguments(name) if is_amqp else None,
    )


def arguments(queue: str) -> dict[str, Any]:
    """Return the queue arguments with which ``queue`` is declared on AMQP."""
    return {
        "x-queue-type": QUORUM,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letters(queue),
    }


def dead_letters(queue: str) -> str:
    """Return the name of the queue that takes the dead letters of ``queue``."""
    return f"{queue}{DEAD}"


def exists(connection: amqp.Connection, queue: str) -> bool:
    """Return whether a queue exists; asked on a channel of its own, which a "no" closes."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.NotFound:
        return False
    channel.close()
    return True


def _declare_dead_letters(channel: amqp.Channel, queue: str) -> None:
    channel.queue_declare(
        dead_letters(queue),
        durable=True,
        auto_delete=False,
        arguments=_DEAD_LETTERS,
    )
