"""A program in another language, as far as RabbitMQ can tell: it publishes and reads with pika."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pika

QUEUE = "orchestrator.triggers"


class Foreign:
    """A publisher that waits for confirms, with a queue of its own for answers."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = pika.BlockingConnection(
            pika.ConnectionParameters(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 5672,
                virtual_host=parts.path[1:] or "/",
                credentials=pika.PlainCredentials(parts.username or "", parts.password or ""),
                heartbeat=0,
            )
        )
        self._renew()

    def _renew(self) -> None:
        """Open another channel: the broker closes one over a question that it answers with no."""
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()

    def publish(
        self,
        body: Mapping[str, Any] | bytes,
        *,
        queue: str = QUEUE,
        exchange: str = "",
        **properties: Any,
    ) -> None:
        """Publish a message and return when the broker has it."""
        self.channel.basic_publish(
            exchange,
            queue,
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            pika.BasicProperties(delivery_mode=2, **properties),
            mandatory=True,
        )

    def declare(self, queue: str = "", **options: Any) -> str:
        """Declare a queue; without a name one that goes with this connection."""
        options = options or {"exclusive": not queue}
        return str(self.channel.queue_declare(queue, **options).method.queue)

    def ready(self, queue: str = QUEUE) -> int:
        """How many messages wait in a queue for a consumer."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def consumers(self, queue: str = QUEUE) -> int:
        """How many consumers a queue has; none if it is not there."""
        try:
            return int(self.channel.queue_declare(queue, passive=True).method.consumer_count)
        except pika.exceptions.ChannelClosedByBroker:
            self._renew()
            return 0

    def get(self, queue: str, *, timeout: float = 20) -> tuple[Any, pika.BasicProperties]:
        """Take one message from a queue: its JSON and its properties."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            _, properties, body = self.channel.basic_get(queue, auto_ack=True)
            if properties is not None:
                return json.loads(body), properties
            self._connection.sleep(0.02)
        raise AssertionError(f"nothing arrived in {queue} within {timeout} s")

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def foreign(url: str) -> Iterator[Foreign]:
    """A foreign program that is gone when the block ends."""
    made = Foreign(url)
    try:
        yield made
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            made.close()
