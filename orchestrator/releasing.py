"""The part of an Orchestrator that deals with messages of other programs that were set aside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InvalidInput
from orchestrator.handles import Handle
from orchestrator.reading import Reading
from orchestrator.runtime import quarantine, start
from orchestrator.store.quarantine import SetAside


class Releasing(Reading):
    """See the module's text."""

    def quarantined(
        self,
        *,
        every: bool = False,
        queue: str | None = None,
        reason: str | None = None,
        limit: int = 100,
    ) -> list[SetAside]:
        """Return what is in quarantine, newest first: messages (with a queue) and step runs.

        Args:
            every: also what was released or dropped.
            queue, reason: only these.
        """
        return self.database.run(
            quarantine.listed, every=every, queue=queue, reason=reason, limit=limit
        )

    def set_aside(self, number: int) -> SetAside:
        """Return one of them with its body.

        Raises:
            NotFound: there is none with this number.
        """
        return self.database.run(quarantine.show, number)

    def release(
        self, number: int, *, body: bytes | Mapping[str, Any] | None = None, actor: str = "api"
    ) -> Handle[Any]:
        """Start what a message wants; a second release of it starts nothing.

        Args:
            body: the repaired message, as bytes or as JSON; by default the one that came.

        Raises:
            NotFound: there is none with this number.
            Conflict: it was dropped, or its key belongs to an execution with another input.
            InvalidInput: it is still not right; it stays where it is.
        """
        self.database.run(self.catalogue.register)
        execution, created, messages = self.database.run(
            quarantine.release,
            self.catalogue,
            self.settings,
            number,
            execution_id=start.new_id(),
            body=_bytes(body),
            actor=actor,
        )
        self._send(messages)
        return Handle(self, execution, None, created=created)

    def drop(self, number: int, *, actor: str = "api") -> bool:
        """Give a message up; False when that was done before.

        Raises:
            NotFound: there is none with this number.
            Conflict: it was released, or is a step run.
        """
        return self.database.run(quarantine.drop, number, actor=actor)


def _bytes(body: bytes | Mapping[str, Any] | None) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the repaired body is no JSON: {error}") from error
