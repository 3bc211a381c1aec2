"""Publishing replies: a thread of the main process that answers who triggered an execution.

It asks the database for ended executions somebody waits to hear of: often as long as this worker
has just taken such a message, else once a second, and once in a while when nobody waits at all.
Each reply is published mandatory and waits for the broker's confirm; only then it is noted as
answered. They are few beside steps, so one round trip each is cheap enough.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import amqp
import kombu

from orchestrator import telemetry
from orchestrator.runtime import replies as composing
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.replies import AGAIN_AFTER, LAST_TRY, Reply
from orchestrator.store import replies
from orchestrator.store.database import Database
from orchestrator.store.replies import WantedReply

log = logging.getLogger(__name__)

#: Taken up at once.
LIMIT = 50
#: Seconds between two looks: with somebody waiting, shortly after such a message, and without.
_OPEN, _QUICK, _NONE = 1.0, 0.05, 3.0
#: How long looks are quick after a message that wants a reply, in seconds.
_QUICK_FOR = 10.0
#: A look goes over everybody who waits; the time it takes is waited so many times before the next.
_REST = 20
_CONFIRM_WITHIN = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_PERSISTENT = 2


class Replies:
    """See the module's text."""

    def __init__(
        self, connect: Callable[[], kombu.Connection], database: Database, catalogue: Catalogue
    ) -> None:
        self._connect, self._database, self._catalogue = connect, database, catalogue
        self._connection: kombu.Connection | None = None
        self._channel: Any = None
        self._returned: list[str] = []
        self._quick_until = 0.0
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="replies", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not answered is answered by another worker."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def expect(self) -> None:
        """Look often for a while: somebody has just asked."""
        self._quick_until = time.monotonic() + _QUICK_FOR
        self._wake.set()

    def _run(self) -> None:
        wait = pause = 0.0
        while not self._stopping.is_set():
            self._wake.wait(wait)
            self._wake.clear()
            try:
                wait = self._round()
                pause = 0.0
            except Exception as error:  # noqa: BLE001 - the thread goes on whatever happens
                pause = wait = min(_LONGEST_PAUSE, pause * 2 or _FIRST_PAUSE)
                self._drop()
                log.warning("sending replies pauses for %g s: %s", wait, error)
        self._drop()

    def _round(self) -> float:
        """Send what is due; return for how many seconds nothing is."""
        began = time.monotonic()
        due = self._database.run(replies.take_due, again_after=AGAIN_AFTER, limit=LIMIT)
        if due:
            self._send(due)
            return 0.0
        looked = time.monotonic()
        rest = (looked - began) * _REST
        if looked < self._quick_until:
            return max(_QUICK, rest)
        return max(_OPEN, rest) if self._database.run(replies.are_open) else _NONE

    def _send(self, due: Sequence[WantedReply]) -> None:
        left = list(due)
        try:
            channel = self._open()
            while left:
                reply = composing.compose(self._database, self._catalogue, left[0])
                if reply is not None:
                    self._publish(channel, reply)
                left.pop(0)
        except BaseException:
            # If the database is what is away, they come again after a while.
            with contextlib.suppress(Exception):
                self._database.run(replies.put_back, left)
            raise

    def _publish(self, channel: Any, reply: Reply) -> None:
        wanted = reply.wanted
        asked = {"correlation_id": wanted.correlation_id} if wanted.correlation_id else {}
        self._returned.clear()
        channel.basic_publish_confirm(
            amqp.Message(
                reply.body,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=_PERSISTENT,
                message_id=reply.id,
                app_id="orchestrator",
                type="orchestrator.result",
                application_headers={
                    "x-orchestrator-execution": str(wanted.execution_id),
                    "x-orchestrator-flow": reply.flow,
                    "x-orchestrator-status": reply.status,
                },
                **asked,
            ),
            exchange="",
            routing_key=wanted.reply_to,
            mandatory=True,
            confirm_timeout=_CONFIRM_WITHIN,
        )
        if not self._returned:
            self._database.run(replies.set_answered, [wanted])
            return
        telemetry.emit(
            "reply_undeliverable",
            execution_id=wanted.execution_id,
            queue=wanted.reply_to,
            tries=wanted.tries,
        )
        self._database.run(
            replies.set_problem,
            wanted,
            f"the broker returned it: {self._returned[0]}; is there a queue {wanted.reply_to!r}?",
            give_up=wanted.tries >= LAST_TRY,
        )

    def _open(self) -> Any:
        if self._connection is not None and self._connection.connected:
            try:
                self._connection.drain_events(timeout=0)  # does it say that it was closed?
            except TimeoutError:
                return self._channel
            except Exception as error:  # noqa: BLE001 - whatever it is: a new one
                log.debug("the connection for replies is gone: %r", error)
        self._drop()
        connection = self._connect()
        connection.connect()
        self._connection, self._channel = connection, connection.channel()
        self._channel.events["basic_return"].add(self._on_return)
        return self._channel

    def _on_return(self, error: Exception, *_: object) -> None:
        self._returned.append(str(error))

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        try:
            connection.collect(socket_timeout=1.0)
        except Exception as error:  # noqa: BLE001 - whatever a dead socket raises does not matter
            log.debug("while closing a broker connection: %r", error)
