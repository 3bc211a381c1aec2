"""The composition root: where settings become a database, a broker and a ready Orchestrator.

Nothing here connects. Engines and broker connections open on first use, in the process that uses
them, so what is built before a fork is built again after it.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import kombu
from celery import Celery

from orchestrator.client import Orchestrator
from orchestrator.records import StepMessage
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.settings import Settings, filesystem_transport
from orchestrator.store import moves
from orchestrator.store.database import Database
from orchestrator.workers import files
from orchestrator.workers.sender import Sender

#: A broker that is away is noticed within this time, in seconds.
_CONNECT_TIMEOUT = 3.0
#: Reading or writing that takes longer means that the peer is gone or blocked, in seconds.
_SOCKET_TIMEOUT = 10.0

Connect = Callable[[], kombu.Connection]


def database(settings: Settings, *, patience: timedelta = timedelta(seconds=30)) -> Database:
    """Return the database of this process; ``patience`` says how long an outage is sat out."""
    return Database(
        settings.database_url,
        lock_timeout=settings.lock_timeout,
        patience=patience,
        transaction_pooling=settings.transaction_pooling,
    )


def broker(settings: Settings) -> Connect:
    """Return what opens a connection to the broker of the settings."""
    if settings.broker_url.startswith("filesystem:"):
        files.install()
        options = filesystem_transport(settings.broker_url)
        return partial(kombu.Connection, "filesystem://localhost", transport_options=options)
    return partial(
        kombu.Connection,
        settings.broker_url,
        heartbeat=0,
        connect_timeout=_CONNECT_TIMEOUT,
        transport_options=_publishing_options(settings.broker_url, {}),
    )


def broker_of(app: Celery) -> Connect:
    """Return what opens a connection to the broker of a Celery application."""

    def connect() -> kombu.Connection:
        url = app.conf.broker_write_url
        connection = app.connection_for_write(heartbeat=0, connect_timeout=_CONNECT_TIMEOUT)
        connection.transport_options = _publishing_options(url, connection.transport_options or {})
        return connection

    return connect


def consuming_broker_of(app: Celery, *, heartbeat: float) -> Connect:
    """Return what opens a connection for consuming, which has to beat; times in seconds."""

    def connect() -> kombu.Connection:
        connection = app.connection_for_read(heartbeat=heartbeat, connect_timeout=_CONNECT_TIMEOUT)
        connection.transport_options = _publishing_options(
            app.conf.broker_read_url, connection.transport_options or {}
        )
        return connection

    return connect


def sender(connect: Connect, used_by: Database) -> Sender:
    """Return the sender of this process."""

    def mark(messages: Sequence[StepMessage]) -> None:
        used_by.run(moves.mark_sent, messages)

    return Sender(connect, mark)


def orchestrator(
    settings: Settings | None = None, *, catalogue: Catalogue | None = None
) -> Orchestrator:
    """Return the ready Orchestrator of a program that starts and operates executions."""
    settings = settings or Settings()
    own = database(settings)
    outgoing = _Outgoing(settings, own)
    return Orchestrator(
        own,
        settings,
        catalogue or Catalogue(),
        publish=outgoing.publish,
        collect=outgoing.collect,
        disconnect=outgoing.close,
    )


class _Outgoing:
    """The sender of a program that may fork: a web server does so after it has loaded its modules.

    A child leaves its parent's connections alone and has its own.
    """

    def __init__(self, settings: Settings, used_by: Database) -> None:
        self._settings, self._database = settings, used_by
        self._sender: Sender | None = None
        self._guard = threading.Lock()
        _FORKING.add(self)
        atexit.register(self.close)

    def publish(self, messages: Sequence[StepMessage]) -> None:
        """Send messages without waiting."""
        self._of_this_process().publish(messages)

    def collect(self, timeout: float) -> list[StepMessage]:
        """Return what was confirmed."""
        return [] if self._sender is None else self._sender.collect(timeout)

    def close(self) -> None:
        """Mark what is confirmed, and disconnect; sending again connects again."""
        with self._guard:
            closing, self._sender = self._sender, None
        if closing is not None:
            closing.close()

    def forget_after_fork(self) -> None:
        """In a forked child: start with nothing."""
        self._database.close_after_fork()
        if self._sender is not None:
            _OF_THE_PARENT.append(self._sender)  # collected, it would shut the parent's socket down
        self._sender, self._guard = None, threading.Lock()

    def _of_this_process(self) -> Sender:
        with self._guard:
            if self._sender is None:
                self._sender = sender(broker(self._settings), self._database)
            return self._sender


_FORKING: weakref.WeakSet[_Outgoing] = weakref.WeakSet()
_OF_THE_PARENT: list[Sender] = []


def _forget_after_fork() -> None:
    for outgoing in _FORKING:
        outgoing.forget_after_fork()


os.register_at_fork(after_in_child=_forget_after_fork)


def _publishing_options(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return transport options for publishing: nobody waits for single confirms, nor for ever."""
    if "amqp" not in url.partition("://")[0]:
        return options
    kept = {name: value for name, value in options.items() if name != "confirm_publish"}
    return {"read_timeout": _SOCKET_TIMEOUT, "write_timeout": _SOCKET_TIMEOUT, **kept}
