"""The queues of this product as the broker knows them, said once for consumers and publishers.

On AMQP every queue of steps is a quorum queue with a delivery limit and a dead-letter queue of its
own, so a message whose workers keep dying leaves the queue with its reason instead of circling for
ever. The queues hang on one topic exchange because Celery's delayed delivery cannot use a direct
one; we ourselves publish through the default exchange, where the routing key is the name of the
queue and an unroutable message is returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import amqp
import kombu

#: How often a message may come back from a dying consumer before it is dead-lettered.
DELIVERY_LIMIT = 5
#: Dead letters are hints for an operator; the rows know better. The oldest are dropped beyond this
#: many.
DEAD_LETTERS_KEPT = 10_000

EXCHANGE = kombu.Exchange("orchestrator", type="topic", durable=True)

QUORUM = "quorum"


def dead_letters(queue: str) -> str:
    """Return the name of the queue that takes the dead letters of ``queue``."""
    return f"{queue}.dead"


def arguments(queue: str) -> dict[str, Any]:
    """Return the queue arguments with which ``queue`` is declared on AMQP."""
    return {
        "x-queue-type": QUORUM,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letters(queue),
    }


def task_queues(names: Iterable[str], *, is_amqp: bool) -> tuple[kombu.Queue, ...]:
    """Return the declarations that a worker consumes from, in Celery's form."""
    return tuple(
        kombu.Queue(
            name,
            exchange=EXCHANGE,
            routing_key=name,
            durable=True,
            queue_arguments=arguments(name) if is_amqp else None,
        )
        for name in names
    )


def declare(connection: amqp.Connection, queue: str) -> None:
    """Make sure that ``queue`` and its dead-letter queue exist, on channels of their own.

    A queue that exists is taken as it is: a user's queue may be declared differently, and a
    comparison of arguments would close the channel on which it is asked. A question for a missing
    queue does so too, which is why no channel of the caller is used.
    """
    if _exists(connection, queue):
        return
    channel = connection.channel()
    channel.queue_declare(
        dead_letters(queue),
        durable=True,
        auto_delete=False,
        arguments={"x-queue-type": QUORUM, "x-max-length": DEAD_LETTERS_KEPT},
    )
    channel.exchange_declare(EXCHANGE.name, EXCHANGE.type, durable=True, auto_delete=False)
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments(queue))
    channel.queue_bind(queue, EXCHANGE.name, routing_key=queue)
    channel.close()


def _exists(connection: amqp.Connection, queue: str) -> bool:
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.NotFound:
        return False
    channel.close()
    return True
