"""What a process sends: published by any of its threads, marked as sent behind their backs.

A delivery must not wait for the broker's confirms, and the confirms must reach the rows before the
sweep for unsent rows takes them for missing (5 s). So a small thread, which lives only while
answers are open, collects them and marks the confirmed in bulk. Most marks find nothing to do: a
message that was claimed proves itself sent. If the process dies before, the sweep sends again under
the next number.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import kombu

from orchestrator.records import StepMessage
from workers.publisher import Publisher

log = logging.getLogger(__name__)

#: How often open answers are looked for, in seconds.
LOOK = 0.05
#: Confirmed messages are marked together for so long at the most, in seconds.
MARK_WITHIN = 0.5
#: Answers that stay away longer than this will not come: the rows stay unsent.
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
        self._marker: threading.Thread | None = None
        self._closing = threading.Event()

    def publish(self, messages: Sequence[StepMessage]) -> None:
        """Send messages without waiting; raises nothing because of a broker that is away."""
        if not messages:
            return
        if self._pid != os.getpid():
            raise RuntimeError("a sender belongs to the process that made it")
        with self._guard:
            self._publisher.publish(messages)
            if self._marker is None and not self._closing.is_set():
                self._marker = threading.Thread(
                    target=self._mark_confirmed, name="marks what was sent", daemon=True
                )
                self._marker.start()

    def close(self, timeout: float = 2.0) -> None:
        """Wait for open answers at most ``timeout`` seconds, mark them, disconnect."""
        self._closing.set()
        marker = self._marker
        if marker is not None:
            marker.join(timeout)
        with self._guard:
            self._publisher.close()

    def _mark_confirmed(self) -> None:
        confirmed: list[StepMessage] = []
        heard = marked = time.monotonic()
        while True:
            time.sleep(LOOK)
            now = time.monotonic()
            with self._guard:
                answers = self._publisher.collect()
                if answers:
                    heard = now
                elif now - heard > PATIENCE:
                    self._publisher.close()  # it answers no more: its rows stay unsent
                confirmed += answers
                complete = not self._publisher.outstanding
                if complete and not confirmed:
                    self._marker = None
                    return
            if confirmed and (complete or now - marked > MARK_WITHIN):
                self._store(confirmed)
                confirmed, marked = [], now

    def _store(self, confirmed: Sequence[StepMessage]) -> None:
        try:
            self._mark(confirmed)
        except Exception as error:  # noqa: BLE001 - the sweep sends what stays unmarked again
            log.warning("could not mark %d messages as sent: %s", len(confirmed), error)
