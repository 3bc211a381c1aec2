"""The broker in a folder."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from queue import Empty

import kombu
import pytest

from orchestrator.settings import filesystem_transport
from orchestrator.workers import files


def connect(folder: Path) -> kombu.Connection:
    files.install()
    for name in ("messages", "control", "processed"):
        (folder / name).mkdir(exist_ok=True)
    options = filesystem_transport(f"filesystem://{folder}")
    return kombu.Connection("filesystem://", transport_options=options)


def send(folder: Path, count: int) -> None:
    with connect(folder) as connection:
        producer = connection.Producer()
        for number in range(count):
            producer.publish({"number": number}, exchange="", routing_key="numbers")


def take(folder: Path, wanted: int, taken: multiprocessing.Queue[int]) -> None:
    with connect(folder) as connection:
        queue = connection.SimpleQueue("numbers")
        for _ in range(wanted):
            try:
                message = queue.get(timeout=5)
            except Empty:
                return
            message.ack()
            taken.put(message.payload["number"])


def test_the_folders_are_made_when_they_are_needed_and_closed_to_others(tmp_path: Path) -> None:
    files.install()
    folder = tmp_path / "var" / "broker"
    options = filesystem_transport(f"filesystem://{folder}")

    with kombu.Connection("filesystem://", transport_options=options) as connection:
        connection.SimpleQueue("numbers").put({"number": 1})

    assert len(list((folder / "messages").iterdir())) == 1
    assert (folder / "messages").stat().st_mode & 0o077 == 0


def test_two_consumers_share_what_two_producers_send(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    taken = fork.Queue()
    producers = [fork.Process(target=send, args=(tmp_path, 300)) for _ in range(2)]
    consumers = [fork.Process(target=take, args=(tmp_path, 300, taken)) for _ in range(2)]

    for process in [*consumers, *producers]:
        process.start()
    found = [taken.get(timeout=30) for _ in range(600)]
    for process in [*consumers, *producers]:
        process.join()

    assert sorted(found) == sorted([*range(300)] * 2)
    assert all(process.exitcode == 0 for process in [*consumers, *producers])
    assert list((tmp_path / "messages").iterdir()) == []


def test_queues_do_not_take_each_others_messages(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        producer = connection.Producer()
        producer.publish({"at": "steps"}, exchange="", routing_key="steps")
        producer.publish({"at": "more.steps"}, exchange="", routing_key="more.steps")

        assert connection.SimpleQueue("more.steps").get(timeout=2).payload == {"at": "more.steps"}
        assert connection.SimpleQueue("steps").get(timeout=2).payload == {"at": "steps"}


def test_message_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        (tmp_path / "messages" / "1_x.steps.msg.abc.unfinished").write_text("{")

        with pytest.raises(Empty):
            connection.SimpleQueue("steps").get(timeout=0.2)


def test_fanout_reaches_every_bound_queue_until_it_is_deleted(tmp_path: Path) -> None:
    exchange = kombu.Exchange("news", type="fanout")
    with connect(tmp_path) as connection:
        channel = connection.channel()
        first, second = (
            kombu.Queue(name, exchange=exchange)(channel) for name in ("first", "second")
        )
        first.declare()
        second.declare()
        second.delete()

        connection.Producer().publish({"n": 1}, exchange=exchange, routing_key="")

        assert first.get().payload == {"n": 1}
        assert channel.get_table("news") == [("", "", "first")]
