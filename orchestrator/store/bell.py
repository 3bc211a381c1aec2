"""The bell: a wait that ends early when the database has something to send.

A start inside a transaction of the caller's, of whose commit its process does not hear, says so by
a NOTIFY in that transaction (protocol.md 8). PostgreSQL delivers it with the commit, to whoever
listens just then. So this only shortens waits: who missed it finds the rows with its next look.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from typing import Any

import psycopg
from sqlalchemy import exc

from orchestrator.store.database import Connection, Database

log = logging.getLogger(__name__)

_CHANNEL = "orchestrator_ready"
#: After a failure to connect, seconds.
_PAUSE = 5.0


class Bell:
    """Waits for one thread; any other may end the wait.

    Args:
        database: where to listen, on a connection of its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._silent_until = 0.0
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def wait(self, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds; return whether it ended before that."""
        if self._connection is None and self._listen():
            return True  # what rang while nobody listened is found by looking now
        connection = self._connection
        sources: list[Any] = [self._woken, *([] if connection is None else [connection])]
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout))
        if self._woken in ready:
            self._woken.recv(1024)
            return True
        return bool(ready) and connection is not None and self._heard(connection)

    def ring(self) -> None:
        """End the wait."""
        with contextlib.suppress(OSError):  # it is full of rings, or closed
            self._waker.send(b"!")

    def close(self) -> None:
        """Listen no more."""
        self._drop()
        self._woken.close()
        self._waker.close()

    def _listen(self) -> bool:
        if self._database.transaction_pooling or time.monotonic() < self._silent_until:
            return False  # a pooler delivers notifications to nobody
        try:
            self._connection = self._database.direct()
            self._connection.execute(f"LISTEN {_CHANNEL}")
        except (psycopg.Error, exc.DBAPIError) as error:
            self._fail(error)
            return False
        return True

    def _heard(self, connection: Connection) -> bool:
        """Read what has come: rings, or the end of the connection."""
        try:
            connection.pgconn.consume_input()
        except psycopg.Error as error:
            self._fail(error)
            return False
        heard = False
        while connection.pgconn.notifies() is not None:
            heard = True
        return heard

    def _fail(self, error: Exception) -> None:
        self._silent_until = time.monotonic() + _PAUSE
        log.info("starts in callers' transactions wait for the next look: %s", error)
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
