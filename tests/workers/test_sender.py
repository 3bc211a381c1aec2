"""What a process sends is marked later, in bulk, by whoever comes by."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import kombu
import pytest

from orchestrator.records import StepMessage
from orchestrator.workers import sender as sending
from orchestrator.workers.sender import Sender
from tests.services.processes import wait_until
from tests.workers.messages import message


@pytest.fixture
def marked() -> list[StepMessage]:
    return []


@pytest.fixture
def sender(rabbitmq_url: str, marked: list[StepMessage]) -> Iterator[Sender]:
    made = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), marked.extend)
    yield made
    made.close()


def test_confirmed_messages_are_marked_when_it_is_time(
    sender: Sender, marked: list[StepMessage]
) -> None:
    sent = [message() for _ in range(50)]
    sender.publish(sent)
    sender.settle()
    assert marked == []

    wait_until(sender.overdue, timeout=5)
    sender.settle()

    assert marked == sent
    assert not sender.overdue()


def test_settling_with_nothing_sent_does_nothing(sender: Sender, marked: list[StepMessage]) -> None:
    sender.settle()

    assert not sender.overdue()
    assert marked == []


def test_threads_share_one_sender(sender: Sender, marked: list[StepMessage]) -> None:
    def send() -> None:
        for _ in range(20):
            sender.publish([message(), message()])
            sender.settle()

    threads = [threading.Thread(target=send) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sender.close()

    assert len({one.id for one in marked}) == 320


def test_marks_that_fail_are_left_to_the_sweep(rabbitmq_url: str) -> None:
    def refuse(_: object) -> None:
        raise ConnectionError("the database is away")

    sender = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), refuse)
    sender.publish([message()])
    time.sleep(sending.MARK_AFTER)

    sender.settle()

    assert not sender.overdue()
    sender.close()


def test_closing_marks_what_was_confirmed(rabbitmq_url: str, marked: list[StepMessage]) -> None:
    sender = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), marked.extend)
    sender.publish([message() for _ in range(100)])

    sender.close()

    assert len(marked) == 100
