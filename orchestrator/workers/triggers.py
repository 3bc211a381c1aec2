"""Consuming messages of foreign programs: a thread of the main process with its own connection.

Celery's event loop takes no part in it: a database that is slow must not keep the worker's
heartbeats and tasks waiting, and what is received, committed and acknowledged by one thread over
one connection needs no care for who may touch a channel. The thread takes what has arrived, up to
50 messages, commits them in one transaction and only then acknowledges them.

While the database is away the messages stay unacknowledged in hand for half a minute, so that a
restart of PostgreSQL costs no redelivery; then they go back to the broker, and nothing is consumed
until the database answers. A connection to the broker is a *session*: whatever was in hand when it
ended is forgotten, because the broker delivers it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import kombu
from celery import bootsteps

from orchestrator.errors import Unavailable
from orchestrator.records import StepMessage
from orchestrator.runtime import start
from orchestrator.runtime.foreign import ForeignMessage, readable
from orchestrator.runtime.intake import BATCH, BATCH_BYTES, Intake
from orchestrator.store.database import Connection, Database, is_of_database
from orchestrator.workers import connect, topology
from orchestrator.workers.crew import Crew, crew_of
from orchestrator.workers.replies import Replies

log = logging.getLogger(__name__)

#: Messages that may be in hand: one batch in work, one waiting.
PREFETCH = 2 * BATCH
#: How long messages stay in hand while the database is away, in seconds.
HOLD = 30.0
#: How long a message that may be a repetition is kept undecided, in seconds.
UNDECIDED = 60.0
#: Seconds between two heartbeats that the broker may miss one of.
HEARTBEAT = 10
_IDLE, _LOOK_AGAIN = 0.5, 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0


class _DatabaseAwayError(Exception):
    """The database stayed away for longer than messages are kept in hand."""


class _Delivery:
    """A message in hand."""

    __slots__ = ("message", "since", "tag")

    def __init__(self, message: ForeignMessage, tag: int) -> None:
        self.message, self.tag, self.since = message, tag, time.monotonic()


class TriggerConsumer:
    """See the module's text.

    Args:
        queues: to be consumed; declared if they are not there.
        dead: the queue of what the broker gave up delivering.
        publish: sends step messages without waiting.
        expect: is told when somebody wants a reply.
        hold: how long messages stay in hand while the database is away, in seconds.
    """

    def __init__(
        self,
        connect: Callable[[], kombu.Connection],
        database: Database,
        intake: Intake,
        *,
        queues: Sequence[str],
        dead: str,
        publish: Callable[[Sequence[StepMessage]], None],
        expect: Callable[[], None],
        hold: float = HOLD,
    ) -> None:
        self._connect, self._database, self._intake = connect, database, intake
        self._queues, self._dead = tuple(queues), dead
        self._publish, self._expect, self._hold = publish, expect, hold
        self._arrived: list[_Delivery] = []
        self._undecided: list[_Delivery] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="triggers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take what is in hand, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            try:
                self._database.run(_nothing)
                self._session()
            except Exception as error:  # noqa: BLE001 - the thread goes on whatever happens
                lived = time.monotonic() - began
                pause = _FIRST_PAUSE if lived > _LONGEST_PAUSE else pause * 2 or _FIRST_PAUSE
                pause = min(pause, _LONGEST_PAUSE)
                log.warning("taking triggers pauses for %g s: %s", pause, error)

    def _session(self) -> None:
        """Consume until the worker stops or a connection is lost."""
        self._arrived, self._undecided = [], []
        session = uuid4()
        connection = self._connect()
        try:
            channel = self._open(connection)
            while not self._stopping.is_set():
                if not connection.connected:  # kombu would silently open another one
                    raise ConnectionResetError("the broker connection is closed")
                self._receive(connection)
                self._work(connection, channel, session)
            for queue in (*self._queues, self._dead):
                channel.basic_cancel(queue)
            self._work(connection, channel, session)
            channel.close()
        finally:
            # The session's advisory lock goes with the connection: what it held is free.
            self._database.forget()
            _release(connection)

    def _open(self, connection: kombu.Connection) -> Any:
        connection.connect()
        channel: Any = connection.channel()
        channel.auto_decode = False
        topology.dead_trigger_queue(self._dead)(channel).declare()
        for queue in self._queues:
            topology.trigger_queue(queue, dead=self._dead)(channel).declare()
        channel.basic_qos(0, PREFETCH, False)
        for queue in (*self._queues, self._dead):
            channel.basic_consume(
                queue,
                consumer_tag=queue,
                callback=self._receiver(queue),
                on_cancel=_raise_cancelled,
            )
        return channel

    def _receiver(self, queue: str) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            foreign = dead_letter(message) if queue == self._dead else received(message, queue)
            self._arrived.append(_Delivery(foreign, message.delivery_tag))

        return receive

    def _receive(self, connection: kombu.Connection) -> None:
        """Wait until something arrives, then read what is there already."""
        connection.heartbeat_check()
        wait = _LOOK_AGAIN if self._undecided else _IDLE
        while len(self._arrived) < BATCH:
            try:
                connection.drain_events(timeout=0 if self._arrived else wait)
            except TimeoutError:
                return

    def _work(self, connection: kombu.Connection, channel: Any, session: UUID) -> None:
        """Take what is in hand, in batches."""
        again, self._undecided = self._undecided, []
        now = time.monotonic()
        old = [one for one in again if now - one.since > UNDECIDED]
        for deliveries, patient in ((old, False), ([o for o in again if o not in old], True)):
            for batch in _batches(deliveries):
                self._take(connection, channel, session, batch, patient=patient)
        arrived, self._arrived = self._arrived, []
        for batch in _batches(arrived):
            self._take(connection, channel, session, batch, patient=True)

    def _take(
        self,
        connection: kombu.Connection,
        channel: Any,
        session: UUID,
        batch: Sequence[_Delivery],
        *,
        patient: bool,
    ) -> None:
        """Take a batch, as often as it needs, and acknowledge what was committed."""
        messages = [one.message for one in batch]
        result = None
        pause, give_up = 0.0, time.monotonic() + self._hold
        while result is None:
            try:
                result = self._intake.take(messages, session=session, patient=patient)
            except Exception as error:
                if not (is_of_database(error) or isinstance(error, Unavailable)):
                    raise
                if time.monotonic() > give_up or self._stopping.is_set():
                    raise _DatabaseAwayError(str(error)) from error
                pause = min(pause * 2 or _FIRST_PAUSE, _LONGEST_PAUSE)
                log.warning("triggers wait for the database for %g s: %s", pause, error)
                self._wait(connection, pause)
        done = []
        for one, taken in zip(batch, result.taken, strict=True):
            if taken.outcome == "undecided":
                self._undecided.append(one)
            else:
                channel.basic_ack(one.tag)
                done.append(one.message)
        self._publish(result.messages)
        if any(message.reply_to for message in done):
            self._expect()
        nameless = [message for message in done if not message.has_id]
        if nameless:
            # The answer proves that the broker has read the acknowledgements before it.
            channel.basic_qos(0, PREFETCH, False)
            self._intake.forget(nameless, session=session)

    def _wait(self, connection: kombu.Connection, seconds: float) -> None:
        """Wait, and go on speaking with the broker; what arrives meanwhile waits too."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            connection.heartbeat_check()
            try:
                connection.drain_events(timeout=left)
            except TimeoutError:
                return


def received(message: Any, queue: str) -> ForeignMessage:
    """Return a message of py-amqp as it came from a queue."""
    properties, information = message.properties, message.delivery_info
    return ForeignMessage(
        queue=queue,
        body=_bytes(message.body),
        delivery=start.new_id(),
        redelivered=bool(information.get("redelivered")),
        exchange=information.get("exchange") or "",
        routing_key=information.get("routing_key") or "",
        app_id=properties.get("app_id"),
        message_id=properties.get("message_id"),
        correlation_id=properties.get("correlation_id"),
        reply_to=properties.get("reply_to"),
        content_type=properties.get("content_type"),
        content_encoding=properties.get("content_encoding"),
        type=properties.get("type"),
        headers=readable(properties.get("application_headers")),
    )


def dead_letter(message: Any) -> ForeignMessage:
    """Return a dead letter as the message that it was in its own queue."""
    headers = message.properties.get("application_headers") or {}
    deaths = headers.get("x-death") or [{}]
    queue = headers.get("x-first-death-queue") or deaths[0].get("queue") or "unknown"
    reason = headers.get("x-first-death-reason") or deaths[0].get("reason") or "unknown"
    came = received(message, str(queue))
    keys = deaths[-1].get("routing-keys") or [came.routing_key]
    exchange = str(deaths[-1].get("exchange") or "")
    return replace(came, dead=str(reason), routing_key=str(keys[0]), exchange=exchange)


class Triggers(bootsteps.StartStopStep):
    """Celery's step for consuming triggers and sending replies, beside keeper and pump."""

    requires = ("orchestrator.workers.crew:Background",)

    def __init__(self, parent: Any, **options: Any) -> None:
        self._consumer: TriggerConsumer | None = None
        self._replies: Replies | None = None
        super().__init__(parent, **options)

    def start(self, parent: Any) -> None:
        """Start, if this worker is one that takes triggers."""
        crew = crew_of(parent.app)
        if not takes_triggers(crew):
            return
        connection = parent.app.connection()
        if connection.transport.driver_type != "amqp":
            log.info("triggers are taken from RabbitMQ only: this worker has another broker")
            return
        broker = connect.broker_of(parent.app)
        self._replies = Replies(broker, crew.main_database, crew.catalogue)
        self._replies.start()
        self._consumer = _consumer(crew, expect=self._replies.expect)
        self._consumer.start()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery names it
        """Stop."""
        for running in (self._consumer, self._replies):
            if running is not None:
                running.stop()
        self._consumer = self._replies = None

    terminate = stop


def takes_triggers(crew: Crew) -> bool:
    """Return whether a worker takes triggers: it consumes the default queue, or was told to."""
    return crew.told_to_take_triggers or crew.settings.queue in crew.consumed


def trigger_queues(crew: Crew) -> tuple[str, ...]:
    """Return the queues of foreign messages."""
    own = (trigger.queue for trigger in crew.triggers)
    return tuple(dict.fromkeys((crew.settings.trigger_queue, *own)))


def _consumer(crew: Crew, *, expect: Callable[[], None]) -> TriggerConsumer:
    database = crew.main_database
    return TriggerConsumer(
        connect.consuming_broker_of(crew.app, heartbeat=HEARTBEAT),
        database,
        Intake(database, crew.catalogue, crew.settings, crew.triggers),
        queues=trigger_queues(crew),
        dead=topology.dead_letters(crew.settings.trigger_queue),
        publish=crew.publish,
        expect=expect,
    )


def _batches(deliveries: Sequence[_Delivery]) -> list[list[_Delivery]]:
    """Return deliveries in batches that are bounded by number and bytes."""
    batches: list[list[_Delivery]] = []
    size = 0
    for one in deliveries:
        size += len(one.message.body)
        if not batches or len(batches[-1]) >= BATCH or size > BATCH_BYTES:
            batches.append([])
            size = len(one.message.body)
        batches[-1].append(one)
    return batches


def _bytes(body: bytes | str | memoryview) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)


def _raise_cancelled(tag: str) -> None:
    raise ConnectionResetError(f"the broker cancelled consuming {tag}: was the queue deleted?")


def _nothing(connection: Connection) -> None:
    connection.execute("SELECT 1").fetchall()


def _release(connection: kombu.Connection) -> None:
    """Close without waiting for an answer: the peer may be gone or stopped."""
    try:
        connection.collect(socket_timeout=1.0)
    except Exception as error:  # noqa: BLE001 - whatever a dead socket raises is of no consequence
        log.debug("while closing a broker connection: %r", error)
