"""Publishing without waiting, and learning later what the broker has taken.

A message costs ten times more when its sender waits for the broker's confirm. So ``publish`` only
writes: the channel is in confirm mode, messages are persistent and mandatory, and the broker's
answers are read whenever somebody asks ``collect`` for them, at the latest before the current
delivery is acknowledged. Three answers exist. An ack (which may stand for all messages up to its
number) means taken, unless the same message was returned before it as unroutable: then nobody has
it although it is confirmed. A nack means refused.

What is not taken needs no handling here. A message is a hint; its row says since when it is wanted
and the sweep for unsent rows sends it again under the next number. That is why a broker that is
down costs the caller
nothing: the message just never appears among the collected ones. A connection that turns out to be
dead, as idle ones of pool processes do, is opened once more in the same call, together with all
that was unanswered.

A publisher belongs to one thread, and to the process that made it: a copy that a fork left in a
child forgets its connection without touching the socket, which is still the parent's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import amqp
import kombu

from orchestrator import telemetry
from orchestrator.records import StepMessage
from orchestrator.workers import message as wire_format
from orchestrator.workers import topology

log = logging.getLogger(__name__)

_METHOD_FRAME = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

#: Called with the name of an event of `telemetry` and its fields.
Report = Callable[..., None]

#: Connections inherited by a fork. Closing or collecting one would shut the parent's socket down.
_inherited: list[Any] = []


class Publisher:
    """Publishes step messages for one thread; see the module's text."""

    def __init__(
        self, connect: Callable[[], kombu.Connection], report: Report = telemetry.emit
    ) -> None:
        self._connect = connect
        self._report = report
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._pid = os.getpid()
        self._connection: kombu.Connection | None = None
        self._channel: Any = None
        self._next_tag = 1
        self._outstanding: dict[int, tuple[str, StepMessage]] = {}
        self._returned: set[str] = set()
        self._confirmed: list[StepMessage] = []
        self._declared: set[str] = set()
        self._pause = 0.0
        self._closed_until = 0.0

    def publish(self, messages: Sequence[StepMessage]) -> None:
        """Write messages to the broker; those it takes will appear in ``collect``."""
        if not messages:
            return
        self._forget_inherited()
        if self._connection is None and time.monotonic() < self._closed_until:
            return
        was_open = self._connection is not None
        try:
            self._write(messages)
        except self._broken as error:
            unanswered = dict(self._outstanding.values())
            unanswered.update((message.id, message) for message in messages)
            self._drop(error)
            if was_open:
                self._publish_anew(list(unanswered.values()))

    def collect(self, timeout: float = 0.0) -> list[StepMessage]:
        """Return what was confirmed since the last call; wait at most ``timeout`` s for answers."""
        self._forget_inherited()
        if self._outstanding and self._connection is not None:
            try:
                self._read_answers(self._connection, timeout)
            except self._broken as error:
                self._drop(error)
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    @property
    def outstanding(self) -> int:
        """The number of messages the broker has not answered yet."""
        return len(self._outstanding)

    def close(self) -> None:
        """Close the connection; a later publish opens another."""
        self._forget_inherited()
        self._drop(None)
        self._pause = self._closed_until = 0.0

    def _publish_anew(self, messages: Sequence[StepMessage]) -> None:
        try:
            self._write(messages)
        except self._broken as error:
            self._drop(error)

    def _write(self, messages: Sequence[StepMessage]) -> None:
        connection, channel = self._open()
        if not _is_amqp(connection):
            for message in messages:
                # Without confirms a message that is written counts as taken.
                raw = _virtual(channel, message, message.id)
                channel.basic_publish(raw, exchange="", routing_key=message.queue)
                self._confirmed.append(message)
            return
        self._look_alive(connection)
        for message in messages:
            if message.queue not in self._declared:
                topology.step_queue(message.queue, is_amqp=True).declare(channel=channel)
                self._declared.add(message.queue)
            message_id = message.id
            self._outstanding[self._next_tag] = (message_id, message)
            self._next_tag += 1
            connection.connection.frame_writer(
                _METHOD_FRAME,
                channel.channel_id,
                wire_format.PUBLISH,
                wire_format.publish_arguments(message.queue),
                wire_format.wire(message, message_id),
            )

    def _look_alive(self, connection: kombu.Connection) -> None:
        """Read what the broker has said since: answers, or that it closed this idle connection."""
        try:
            while connection.connected:
                connection.drain_events(timeout=0)
        except TimeoutError:
            return
        raise ConnectionResetError("the broker connection is closed")

    def _open(self) -> tuple[kombu.Connection, Any]:
        if self._connection is not None:
            return self._connection, self._channel
        connection = self._connect()
        try:
            # Each address is tried once, without a pause: whoever publishes holds a step.
            connection.ensure_connection(
                max_retries=len(connection.alt or ()) or 0,
                interval_start=0,
                interval_max=0,
                reraise_as_library_errors=False,
            )
            channel: Any = connection.channel()
            if _is_amqp(connection):
                channel.confirm_select()
                channel.events["basic_ack"].add(self._on_ack)
                channel.events["basic_nack"].add(self._on_nack)
                channel.events["basic_return"].add(self._on_return)
        except BaseException:
            _release(connection)
            raise
        self._connection, self._channel = connection, channel
        self._next_tag = 1
        self._pause = self._closed_until = 0.0
        return connection, channel

    def _read_answers(self, connection: kombu.Connection, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._outstanding:
            if not connection.connected:
                raise ConnectionResetError("the broker connection is closed")
            try:
                connection.drain_events(timeout=max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for message_id, message in self._answered(tag, multiple):
            if message_id in self._returned:
                self._returned.discard(message_id)
                self._report("message_returned", **_facts(message))
            else:
                self._confirmed.append(message)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for _, message in self._answered(tag, multiple):
            self._report("message_refused", **_facts(message))

    def _on_return(self, _: Exception, __: str, queue: str, message: amqp.Message) -> None:
        self._returned.add(message.properties["correlation_id"])
        self._declared.discard(queue)  # somebody deleted it: declare it before the next message

    def _answered(self, tag: int, multiple: bool) -> list[tuple[str, StepMessage]]:
        outstanding = self._outstanding
        if not multiple:
            return [outstanding.pop(tag)] if tag in outstanding else []
        answered = []
        for known in list(outstanding):  # in the order of their tags
            if known > tag:
                break
            answered.append(outstanding.pop(known))
        return answered

    @property
    def _broken(self) -> tuple[type[BaseException], ...]:
        """The errors that mean: this connection or channel is of no use any more."""
        if self._connection is None:
            return (OSError, amqp.AMQPError, kombu.exceptions.KombuError)
        return (
            *(OSError, kombu.exceptions.KombuError),  # a folder that is full, or is not ours
            *self._connection.connection_errors,
            *self._connection.channel_errors,
        )

    def _drop(self, error: BaseException | None) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._outstanding.clear()
        self._returned.clear()
        self._declared.clear()
        if connection is not None:
            _release(connection)
        if error is not None:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._closed_until = time.monotonic() + self._pause
            self._report("broker_unavailable", error=repr(error))

    def _forget_inherited(self) -> None:
        if self._pid == os.getpid():
            return
        _inherited.append((self._connection, self._channel))
        self._start_afresh()


def _facts(message: StepMessage) -> dict[str, object]:
    address = message.address
    return {
        "execution_id": address.execution_id,
        "flow": message.task.partition(".")[0],
        "step": address.name,
        "scope": address.scope,
        "run": address.run,
        "queue": message.queue,
    }


def _is_amqp(connection: kombu.Connection) -> bool:
    return bool(connection.transport.driver_type == "amqp")


def _release(connection: kombu.Connection) -> None:
    """Close without waiting for an answer: the peer may be gone or stopped."""
    try:
        connection.collect(socket_timeout=1.0)
    except Exception as error:  # noqa: BLE001 - whatever a dead socket raises is of no consequence
        log.debug("while closing a broker connection: %r", error)


def _virtual(channel: Any, message: StepMessage, message_id: str) -> Any:
    return channel.prepare_message(
        wire_format.body(message),
        priority=0,
        content_type="application/json",
        content_encoding="utf-8",
        headers=wire_format.headers(message, message_id),
        properties={"correlation_id": message_id, "reply_to": "", "delivery_mode": 2},
    )
