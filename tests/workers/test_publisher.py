"""Publishing without waiting, on a real broker."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest

from orchestrator import telemetry
from orchestrator.records import StepMessage
from orchestrator.workers import files, topology
from orchestrator.workers.message import headers
from orchestrator.workers.publisher import Publisher
from tests.workers.messages import message

Connect = Callable[[], kombu.Connection]


@pytest.fixture
def reports() -> list[tuple[str, dict[str, Any]]]:
    return []


def telling(reports: list[tuple[str, dict[str, Any]]]) -> Callable[..., None]:
    """Emit, which refuses what the table of events does not know, and remember."""

    def tell(name: str, **fields: Any) -> None:
        telemetry.emit(name, **fields)
        reports.append((name, fields))

    return tell


@pytest.fixture
def connect(rabbitmq_url: str) -> Connect:
    return lambda: kombu.Connection(rabbitmq_url, heartbeat=0, connect_timeout=2)


@pytest.fixture
def publisher(connect: Connect, reports: list[Any]) -> Iterator[Publisher]:
    made = Publisher(connect, telling(reports))
    yield made
    made.close()


def collect_all(publisher: Publisher, *, within: float = 5.0) -> list[StepMessage]:
    deadline = time.monotonic() + within
    confirmed = publisher.collect()
    while publisher.outstanding and time.monotonic() < deadline:
        confirmed += publisher.collect(0.2)
    return confirmed


def waiting(connection: kombu.Connection, queue: str) -> list[Any]:
    channel = connection.channel()
    found = []
    while (got := channel.basic_get(queue, no_ack=True)) is not None:
        found.append(channel.message_to_python(got))
    return found


def test_confirmed_messages_are_collected_once(publisher: Publisher) -> None:
    sent = [message() for _ in range(20)]

    publisher.publish(sent)

    assert collect_all(publisher) == sent
    assert publisher.collect() == []


def test_message_reads_as_a_celery_task(publisher: Publisher, connect: Connect) -> None:
    sent = message(label="order-17")

    publisher.publish([sent])
    collect_all(publisher)

    with connect() as connection:
        (got,) = waiting(connection, "steps")
    assert got.headers["task"] == "shop.folder.charge"
    assert got.headers["id"] == sent.id
    assert got.headers["root_id"] == str(sent.address.execution_id)
    assert got.headers["argsrepr"] == "('order-17', 'folder[3]')"
    assert got.headers["kwargsrepr"] == "{'run': 0, 'dispatch': 1}"
    assert got.headers["ignore_result"] is True
    assert got.headers["timelimit"] == [None, None]
    assert got.headers["parent_id"] == got.headers["root_id"], "the execution, a row of its own"
    assert got.headers["orchestrator-v"] == 1
    assert got.properties["message_id"] == got.properties["correlation_id"] == sent.id
    assert got.properties["delivery_mode"] == 2
    arguments, keywords, _ = json.loads(got.body)
    assert StepMessage.from_args(
        arguments, task=sent.task, queue=sent.queue
    ) == message_without_label(sent)
    assert keywords == {}


def message_without_label(sent: StepMessage) -> StepMessage:
    return StepMessage.from_args(sent.to_args(), task=sent.task, queue=sent.queue)


def test_headers_of_the_wire_and_of_other_transports_are_the_same(
    publisher: Publisher, connect: Connect
) -> None:
    sent = message()

    publisher.publish([sent])
    collect_all(publisher)

    with connect() as connection:
        (got,) = waiting(connection, "steps")
    got.headers.pop("x-delivery-count")  # the broker's own
    assert got.headers == headers(sent, sent.id)


def test_queue_is_declared_as_a_quorum_queue_with_dead_letters(
    publisher: Publisher, connect: Connect
) -> None:
    publisher.publish([message(queue="fresh")])
    collect_all(publisher)

    with connect() as connection:
        connection.channel().queue_declare(
            "fresh", durable=True, auto_delete=False, arguments=topology.arguments("fresh")
        )
        connection.channel().queue_declare("fresh.dead", passive=True)


def test_queue_that_exists_is_used_as_it_is(publisher: Publisher, connect: Connect) -> None:
    with connect() as connection:
        connection.channel().queue_declare("classic", durable=True, auto_delete=False)
    sent = message(queue="classic")

    publisher.publish([sent])

    assert collect_all(publisher) == [sent]


def test_message_that_comes_back_is_not_confirmed(
    publisher: Publisher, connect: Connect, reports: list[Any]
) -> None:
    publisher.publish([message(queue="doomed")])
    collect_all(publisher)
    with connect() as connection:
        connection.channel().queue_delete("doomed")

    publisher.publish([message(queue="doomed"), kept := message(queue="steps")])

    assert collect_all(publisher) == [kept]
    assert [name for name, _ in reports] == ["message_returned"]


def test_queue_that_was_deleted_is_declared_for_the_next_message(
    publisher: Publisher, connect: Connect
) -> None:
    publisher.publish([message(queue="doomed")])
    collect_all(publisher)
    with connect() as connection:
        connection.channel().queue_delete("doomed")
    publisher.publish([lost := message(queue="doomed")])
    assert collect_all(publisher) == []

    publisher.publish([lost])

    assert collect_all(publisher) == [lost]


def test_refused_message_is_not_confirmed(
    publisher: Publisher, connect: Connect, reports: list[Any]
) -> None:
    full = {"x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish"}
    with connect() as connection:
        connection.channel().queue_declare("full", durable=True, auto_delete=False, arguments=full)
    sent = [message(queue="full") for _ in range(30)]

    for one in sent:
        publisher.publish([one])
        collect_all(publisher)

    confirmed_later = message(queue="steps")
    publisher.publish([confirmed_later])
    assert collect_all(publisher) == [confirmed_later]
    assert ("message_refused" in {name for name, _ in reports}) is True


def test_connection_closed_under_us_is_opened_once_more(
    publisher: Publisher, connect: Connect
) -> None:
    publisher.publish([message()])
    collect_all(publisher)
    close_by_broker(publisher)

    publisher.publish([sent := message()])

    assert collect_all(publisher) == [sent]


def test_unanswered_messages_are_sent_again_on_the_new_connection(publisher: Publisher) -> None:
    publisher.publish([first := message()])
    close_by_broker(publisher)

    publisher.publish([second := message()])

    assert sorted(one.id for one in collect_all(publisher)) == sorted([first.id, second.id])


def close_by_broker(publisher: Publisher) -> None:
    """Shut the socket down as a broker does that goes away or saw no heartbeat."""
    connection = publisher._connection
    assert connection is not None
    connection.connection.transport.sock.shutdown(socket.SHUT_RDWR)


def test_broker_that_is_away_costs_the_caller_nothing(reports: list[Any]) -> None:
    publisher = Publisher(
        lambda: kombu.Connection("amqp://guest:guest@127.0.0.1:1//", connect_timeout=1),
        telling(reports),
    )
    began = time.monotonic()

    for _ in range(200):
        publisher.publish([message()])

    assert publisher.collect(1.0) == []
    assert time.monotonic() - began < 2.0
    assert {name for name, _ in reports} == {"broker_unavailable"}
    assert len(reports) < 20  # it pauses between two attempts to connect


def test_collecting_waits_no_longer_than_it_is_told(publisher: Publisher) -> None:
    publisher.publish([message() for _ in range(500)])
    began = time.monotonic()

    publisher.collect(0.001)

    assert time.monotonic() - began < 0.5


def test_child_of_a_fork_leaves_the_connection_of_its_parent_alone(publisher: Publisher) -> None:
    publisher.publish([message()])
    collect_all(publisher)
    pid = os.fork()
    if pid == 0:
        publisher.publish([message()])
        os._exit(0 if len(collect_all(publisher)) == 1 else 1)
    _, status = os.waitpid(pid, 0)

    publisher.publish([sent := message()])

    assert collect_all(publisher) == [sent]
    assert os.waitstatus_to_exitcode(status) == 0


def test_ten_thousand_messages_take_seconds(publisher: Publisher) -> None:
    sent = [message() for _ in range(10_000)]
    began = time.monotonic()

    confirmed = []
    for start in range(0, len(sent), 50):
        publisher.publish(sent[start : start + 50])
        confirmed += publisher.collect()
    confirmed += collect_all(publisher, within=20)

    assert len(confirmed) == 10_000
    assert time.monotonic() - began < 20


def test_written_file_counts_as_confirmed(tmp_path: Path, reports: list[Any]) -> None:
    files.install()
    publisher = Publisher(lambda: file_broker(tmp_path), telling(reports))
    sent = [message() for _ in range(3)]

    publisher.publish(sent)

    assert publisher.collect() == sent
    with file_broker(tmp_path) as connection:
        got = [connection.SimpleQueue("steps").get(timeout=5) for _ in sent]
    assert [one.headers["id"] for one in got] == [one.id for one in sent]


def file_broker(folder: Path) -> kombu.Connection:
    for name in ("queue", "control"):
        (folder / name).mkdir(exist_ok=True)
    options = {
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.01,
    }
    return kombu.Connection("filesystem://", transport_options=options)
