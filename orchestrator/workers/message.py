"""A step message in Celery's task protocol 2, and the same ready-made for the AMQP wire.

Every worker, Flower and `celery inspect` reads it as a plain task message. Most of it is the same
for all messages of a step, and py-amqp spends more time on encoding the header table than on
sending, so the constant part is encoded once per task name and the few changing entries are
appended to it. What the bytes mean is the AMQP 0-9-1 field table and the property list of the basic
class; a test reads them back through a real queue.
"""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from struct import pack
from typing import Any

from amqp import spec
from amqp.serialization import dumps as amqp_dumps
from kombu.utils.json import dumps

from orchestrator.records import MESSAGE_VERSION, StepMessage

#: Marks a message as ours, also for workers that do not know its name.
VERSION_HEADER = "orchestrator-v"

_ORIGIN = f"{os.getpid()}@{socket.gethostname()}"
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_PUBLISH_ARGUMENTS = "Bssbb"  # reserved, exchange, routing key, mandatory, immediate
_PERSISTENT = 2
# Property flags of the basic class, in the order in which the values follow.
_FLAGS = (
    1 << 15  # content type
    | 1 << 14  # content encoding
    | 1 << 13  # headers
    | 1 << 12  # delivery mode
    | 1 << 10  # correlation id
    | 1 << 9  # reply to
    | 1 << 7  # message id
)


class WireMessage:
    """What py-amqp's frame writer asks of a message, already encoded."""

    __slots__ = ("_encoded", "body", "properties")

    def __init__(self, body: bytes, encoded: bytes) -> None:
        self.body = body
        self.properties: dict[str, Any] = {}
        self._encoded = encoded

    def _serialize_properties(self) -> bytes:
        return self._encoded


def wire(message: StepMessage, message_id: str) -> WireMessage:
    """Return a message as the bytes that follow a publish method."""
    execution = _long(str(message.address.execution_id))
    headers = b"".join(
        (
            _constant_headers(message.task),
            b"\x02id",
            _long(message_id),
            b"\x07root_id",
            execution,
            b"\x09parent_id",
            execution,
            b"\x08argsrepr",
            _long(arguments_text(message.label, message.address.scope)),
            b"\x0akwargsrepr",
            _long(keywords_text(message.address.run, message.number)),
        )
    )
    encoded = b"".join(
        (
            pack(">H", _FLAGS),
            _short("application/json"),
            _short("utf-8"),
            pack(">I", len(headers)),
            headers,
            pack("B", _PERSISTENT),
            _short(message_id),
            _short(""),
            _short(message_id),
        )
    )
    return WireMessage(body(message).encode(), encoded)


@lru_cache(maxsize=256)
def publish_arguments(queue: str) -> bytes:
    """Return the encoded arguments of publishing a mandatory message to a queue by its name."""
    return bytes(amqp_dumps(_PUBLISH_ARGUMENTS, (0, "", queue, True, False)))


PUBLISH = spec.Basic.Publish


def headers(message: StepMessage, message_id: str) -> dict[str, Any]:
    """Return the same headers as a dictionary, for transports other than AMQP."""
    return _constant(message.task) | {
        "id": message_id,
        "root_id": str(message.address.execution_id),
        "parent_id": str(message.address.execution_id),
        "argsrepr": arguments_text(message.label, message.address.scope),
        "kwargsrepr": keywords_text(message.address.run, message.number),
    }


def body(message: StepMessage) -> str:
    """Return the body: arguments of constant size, no callbacks."""
    return str(dumps([message.to_args(), {}, _EMBED]))


def arguments_text(label: str, scope: str) -> str:
    """Return what an operator reads as the arguments: whose execution, where in its fan-outs."""
    return f"({label!r}, {scope!r})"


def keywords_text(run: int, dispatch: int) -> str:
    """Return what an operator reads as the keyword arguments: which run, which message."""
    return f"{{'run': {run}, 'dispatch': {dispatch}}}"


def _constant(task: str) -> dict[str, Any]:
    return {
        "lang": "py",
        "task": task,
        "group": None,
        "retries": 0,
        "timelimit": [None, None],
        "origin": _ORIGIN,
        "ignore_result": True,
        VERSION_HEADER: MESSAGE_VERSION,
    }


@lru_cache(maxsize=4096)
def _constant_headers(task: str) -> bytes:
    table = bytes(amqp_dumps("F", (_constant(task),)))
    return table[4:]  # without its length: more entries follow


def _short(text: str) -> bytes:
    data = text.encode()
    return pack("B", len(data)) + data


def _long(text: str) -> bytes:
    data = text.encode()
    return b"S" + pack(">I", len(data)) + data
