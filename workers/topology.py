"""The queues of this product as the broker knows them, said once for consumers and publishers.

On AMQP every queue of steps is a quorum queue with a delivery limit and a dead-letter queue of its
own, so a message whose workers keep dying leaves the queue with its reason instead of circling for
ever. The queues hang on one topic exchange because Celery's delayed delivery cannot use a direct
one; we ourselves publish through the default exchange, where the routing key is the name of the
queue and an unroutable message is returned.

A queue that exists is taken as it is, whoever made it and how: the broker would refuse a second
declaration with other arguments and close the channel of whoever asks.
"""

from __future__ import annotations

from typing import Any

import amqp
import kombu

#: How often a message may come back from a dying consumer before it is dead-lettered.
DELIVERY_LIMIT = 5
#: Dead letters are hints, the rows know better. The oldest are dropped beyond this number.
DEAD_LETTERS_KEPT = 10_000
#: How the name of a queue of dead letters ends.
DEAD = ".dead"

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
