"""Looking at the broker: is it there, which one is it, how deep are its queues. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import amqp
import kombu
from kombu.exceptions import OperationalError

from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.settings import without_password
from orchestrator.workers import topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What the broker says of a queue; None where it has no such queue.

    Attributes:
        messages: that wait for a consumer.
        consumers: None on a broker that does not count them.
        dead: dead letters of the queue.
    """

    queue: str
    messages: int | None
    consumers: int | None
    dead: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """Which broker it is: ``RabbitMQ`` and its version, or the name of kombu's transport."""

    product: str
    version: str | None
    is_amqp: bool


Connect = Callable[[], kombu.Connection]


def facts(connect: Connect) -> BrokerFacts:
    """Return which broker answers.

    Raises:
        Unavailable: none does.
        InvalidInput: it refuses this user or virtual host.
    """
    with _opened(connect) as connection:
        if connection.transport.driver_type != "amqp":
            return BrokerFacts(
                product=str(connection.transport.driver_type), version=None, is_amqp=False
            )
        properties = connection.connection.server_properties
        return BrokerFacts(
            product=str(properties.get("product", "AMQP")),
            version=str(properties.get("version", "")) or None,
            is_amqp=True,
        )


def depths(connect: Connect, queues: Iterable[str]) -> list[Depth]:
    """Return what the broker says of these queues.

    Raises:
        Unavailable: it cannot be reached.
    """
    with _opened(connect) as connection:
        is_amqp = connection.transport.driver_type == "amqp"
        return [_depth(connection, name, is_amqp=is_amqp) for name in queues]


def differences(connect: Connect, queues: Iterable[str]) -> dict[str, str]:
    """Return by name what the broker has against our declaration of queues of steps that it has.

    Raises:
        Unavailable: it cannot be reached.
    """
    found: dict[str, str] = {}
    with _opened(connect) as connection:
        if connection.transport.driver_type != "amqp":
            return found
        for name in queues:
            if topology.exists(connection.connection, name):
                problem = _difference(connection.connection, name)
                if problem:
                    found[name] = problem
    return found


def _difference(connection: amqp.Connection, queue: str) -> str:
    channel = connection.channel()
    try:
        channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments=topology.arguments(queue)
        )
    except amqp.PreconditionFailed as error:
        return str(error.reply_text)
    channel.close()
    return ""


def _depth(connection: kombu.Connection, queue: str, *, is_amqp: bool) -> Depth:
    found = _declared(connection, queue)
    dead = _declared(connection, topology.dead_letters(queue)) if is_amqp else None
    return Depth(
        queue=queue,
        messages=None if found is None else found[0],
        consumers=found[1] if found is not None and is_amqp else None,
        dead=None if dead is None else dead[0],
    )


def _declared(connection: kombu.Connection, queue: str) -> tuple[int, int] | None:
    """Return (messages, consumers) of a queue; asked on a channel of its own, which a no closes."""
    channel: Any = connection.channel()
    refused: tuple[type[BaseException], ...] = tuple(connection.channel_errors)
    try:
        answer = channel.queue_declare(queue, passive=True)
    except refused:
        return None
    channel.close()
    return answer.message_count, answer.consumer_count


@contextmanager
def _opened(connect: Connect) -> Iterator[kombu.Connection]:
    connection = connect()
    # a wrong password is an error of a channel to kombu
    away: tuple[type[BaseException], ...] = (
        *(OSError, OperationalError, amqp.AMQPError),
        *connection.connection_errors,
    )
    try:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            if connection.transport.driver_type != "amqp":
                _ = connection.default_channel  # only a channel touches a broker of files
        except away as error:
            raise unreached(connection, error) from error
        yield connection
    finally:
        connection.release()


def unreached(connection: kombu.Connection, error: BaseException) -> OrchestratorError:
    """Return what to raise when a broker cannot be reached, or refuses whoever asks."""
    where = without_password(connection.as_uri())
    if isinstance(error, amqp.AccessRefused | amqp.NotAllowed):
        said = re.sub(r".*- ", "", error.reply_text or "").partition(". ")[0]
        return InvalidInput(
            f"the broker {where} refuses us: {said}; correct the user, the password or the virtual "
            "host in ORCHESTRATOR_BROKER_URL"
        )
    if isinstance(error, OSError) and error.filename:
        return InvalidInput(
            f"the broker's folder {error.filename} cannot be used: {error.strerror}; correct "
            "ORCHESTRATOR_BROKER_URL"
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    return Unavailable(
        f"the broker {where} cannot be reached: {reason}; start it, or correct "
        "ORCHESTRATOR_BROKER_URL"
    )
