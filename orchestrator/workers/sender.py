"""What a process sends: published by any of its threads, marked as sent when there is time.

A delivery does not wait for the broker's confirms, and the confirms must reach the rows before the
sweep for unsent rows takes them for missing (5 s). So they are collected and marked in bulk, about
a second later, by whoever comes by: a thread that has ended a delivery, the pump, or the thread
that tends the incarnation of a process which went idle or is busy in a long body. By then most
messages are claimed, which proves them sent, and their marks find nothing to do. If the process
dies before, the sweep sends again under the next number.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import kombu

from orchestrator.records import StepMessage
from orchestrator.workers.publisher import Publisher

log = logging.getLogger(__name__)

#: Confirms are collected and marked this long after publishing, in seconds.
MARK_AFTER = 1.0
#: Answers that stay away longer than this will not come: their rows stay unsent; in seconds.
PATIENCE = 30.0


class Sender:
    """Sends for all threads of one process, over one connection.

    Args:
        connect: makes the connection to the broker, lazily and in the process that sends.
        mark: stores that these messages were confirmed.
    """

    def __init__(
        self,
        connect: Callable[[], kombu.Connection],
        mark: Callable[[Sequence[StepMessage]], object],
    ) -> None:
        self._publisher = Publisher(connect)
        self._mark = mark
        self._pid = os.getpid()
        self._guard = threading.Lock()
        self._open_since: float | None = None
        self._heard = 0.0

    def publish(self, messages: Sequence[StepMessage]) -> None:
        """Send messages without waiting; raises nothing because of a broker that is away."""
        if not messages:
            return
        if self._pid != os.getpid():
            raise RuntimeError("a sender belongs to the process that made it")
        with self._guard:
            self._publisher.publish(messages)
            if self._open_since is None:
                self._open_since = self._heard = time.monotonic()

    def collect(self, timeout: float = 0.0) -> list[StepMessage]:
        """Return what was confirmed since the last call, for a caller who marks it himself."""
        with self._guard:
            return self._publisher.collect(timeout)

    def overdue(self, by: float = 0.0) -> bool:
        """Whether there are answers that should have been marked ``by`` seconds ago."""
        since = self._open_since
        return since is not None and time.monotonic() - since >= MARK_AFTER + by

    def settle(self) -> None:
        """Mark what was confirmed, if it is time to."""
        if self.overdue():
            self._settle(0.0)

    def close(self, timeout: float = 1.0) -> None:
        """Wait for open answers at most ``timeout`` seconds, mark them, disconnect."""
        if self._open_since is not None:
            self._settle(timeout)
        with self._guard:
            self._publisher.close()

    def _settle(self, timeout: float) -> None:
        with self._guard:
            confirmed = self._publisher.collect(timeout)
            now = time.monotonic()
            if confirmed:
                self._heard = now
            elif now - self._heard > PATIENCE:
                self._publisher.close()  # it answers no more
            self._open_since = now if self._publisher.outstanding else None
        if confirmed:
            try:
                self._mark(confirmed)
            except Exception as error:  # noqa: BLE001 - the sweep sends them again
                log.warning("could not mark %d messages as sent: %s", len(confirmed), error)
