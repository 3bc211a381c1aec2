"""What RabbitMQ gives up on is heeded by a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.workers import connect, topology
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


def wear_out(channel: Any, queue: str) -> None:
    """Hand a message back until the broker gives up on it."""

    def gave_up() -> bool:
        if message := channel.basic_get(queue):
            channel.basic_reject(message.delivery_tag, requeue=True)
        return waiting(channel, topology.dead_letters(queue)) == 1

    wait_until(gave_up, timeout=10)


def waiting(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def test_a_message_the_broker_gave_up_on_is_replaced_and_a_stranger_kept(
    open_shop: OpenShop,
) -> None:
    shop = open_shop(unsent_after="1s")
    queue = shop.settings.queue
    handle = shop.start("chain", 1)
    with connect.broker(shop.settings)() as connection:
        channel: Any = connection.channel()
        wear_out(channel, queue)
        connection.Producer(channel).publish(
            b"\xff", routing_key=topology.dead_letters(queue), content_type="text/plain"
        )

        shop.crew.worker()

        assert handle.result(timeout=20) == 5
        assert [row["deaths"] for row in shop.steps("add")] == [0] * len(shop.steps("add"))
        wait_until(lambda: waiting(channel, topology.dead_letters(queue)) == 0, timeout=10)
        [kept] = shop.rows("SELECT * FROM orchestrator.quarantine")
        assert kept["reason"] == "dead letter"
        assert (kept["queue"], bytes(kept["body"])) == (queue, b"\xff")
