"""Publish an order to RabbitMQ, as a shop does that knows nothing of flows.

    python -m examples.purchase.publish [FILE]

The file holds the message; without one it is ``order.json`` beside this module. The message has an
id of its own, so that the broker may deliver it as often as it likes.
"""

import sys
from pathlib import Path
from uuid import uuid4

import kombu

from orchestrator import Settings


def publish(broker_url: str, message: bytes) -> str:
    """Publish a message, and return its id once the broker has it."""
    message_id = str(uuid4())
    options = {"confirm_publish": True}
    with kombu.Connection(broker_url, transport_options=options) as connection:
        connection.Producer().publish(
            message,
            exchange="orchestrator",
            routing_key="orchestrator.triggers",
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            message_id=message_id,
        )
    return message_id


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("order.json")
    print(
        f"{path.name} is published as message {publish(Settings().broker_url, path.read_bytes())}"
    )
