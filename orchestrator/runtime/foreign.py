"""A message of a foreign program as it came from the broker, and what tells it from others.

RabbitMQ gives messages no id. What identifies one is, in this order: the ``message_id`` that its
publisher set, within queue and ``app_id``; the header ``x-idempotency-key``; nothing. A message of
the last kind gets an id for the time until it is acknowledged, so that its redelivery can be told
from an equal message that somebody else published (protocol.md 6).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput

#: Where a publisher that cannot set ``message_id`` puts its id.
KEY_HEADER = "x-idempotency-key"

#: Headers that the broker adds: they differ from delivery to delivery of one message.
_BROKERS = ("x-delivery-count", "x-death", "x-first-death-", "x-last-death-", "x-acquired-count")
#: Longer ids are kept as their hash.
_ID_LIMIT = 255
_TEXTS = (
    "app_id",
    "message_id",
    "correlation_id",
    "reply_to",
    "content_type",
    "content_encoding",
    "type",
)


class Identity(NamedTuple):
    """What makes a message itself; the primary key of `inbox`."""

    queue: str
    kind: str
    app_id: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignMessage:
    """A message as it came.

    Attributes:
        queue: where it was taken from; of a dead letter, where it was published to.
        delivery: a UUIDv7 drawn when it was received; an execution that it starts gets it as id.
        redelivered: the broker has handed it out before.
        dead: why the broker gave up delivering it; None unless it is a dead letter.
    """

    queue: str
    body: bytes
    delivery: UUID
    redelivered: bool = False
    dead: str | None = None
    exchange: str = ""
    routing_key: str = ""
    app_id: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    type: str | None = None
    headers: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def identity(self) -> Identity:
        """The message's identity; of one without an id, that of this delivery."""
        if self.message_id:
            return Identity(self.queue, "message", _id(self.app_id or ""), _id(self.message_id))
        key = self.headers.get(KEY_HEADER)
        if isinstance(key, str | int) and key != "":
            return Identity(self.queue, "header", _id(self.app_id or ""), _id(str(key)))
        return Identity(self.queue, "none", "", str(self.delivery))

    @property
    def has_id(self) -> bool:
        """Whether its publisher has given it an id."""
        return self.identity.kind != "none"

    @property
    def content(self) -> str:
        """A hash that equal messages share: of the body, and without an id of what is around it."""
        digest = hashlib.sha256()
        if not self.has_id:
            around = {name: v for name, v in self.headers.items() if not name.startswith(_BROKERS)}
            digest.update(codec.canonical([self.routing_key, around]).encode())
        digest.update(self.body)
        return digest.hexdigest()[:32]

    def used_twice(self) -> Identity:
        """Return another identity for a message whose id belongs to one with another body."""
        queue, _, app_id, message_id = self.identity
        return Identity(queue, "other", app_id, _id(f"{message_id}#{self.content}"))

    def properties(self) -> dict[str, JSON]:
        """Return all but the body, as it is kept in quarantine."""
        kept: dict[str, JSON] = {
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "headers": dict(self.headers),
        }
        given = {name: getattr(self, name) for name in _TEXTS}
        kept.update({name: text for name, text in given.items() if text is not None})
        encoded = codec.encode(kept, where="properties")
        assert isinstance(encoded, dict)  # noqa: S101  # of a dict with plain keys
        return encoded

    @classmethod
    def kept(cls, *, queue: str, properties: JSON, body: bytes, delivery: UUID) -> ForeignMessage:
        """Return a message from what quarantine keeps of it."""
        read: dict[str, Any] = codec.decode(properties, where="properties")
        return cls(queue=queue, body=body, delivery=delivery, **read)


def readable(headers: Mapping[str, Any] | None) -> dict[str, JSON]:
    """Return the headers of a message as JSON; what has no place there is kept as its text."""
    found: dict[str, JSON] = {}
    for name, value in (headers or {}).items():
        try:
            found[str(name)] = codec.encode(value, where=f"header {name!r}")
        except InvalidInput:
            found[str(name)] = repr(value)
    return found


def body_text(body: bytes) -> str:
    """Return a body as operators read it: as text, or base64 after ``base64:``."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(body).decode()


def _id(text: str) -> str:
    """Return an id as the database can hold it."""
    if len(text.encode(errors="surrogatepass")) <= _ID_LIMIT and codec.encode(text) == text:
        return text
    return "sha256:" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
