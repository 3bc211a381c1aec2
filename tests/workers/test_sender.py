"""What a process sends is marked behind the backs of its threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import kombu
import pytest

from orchestrator.records import StepMessage
from tests.services.processes import wait_until
from tests.workers.messages import message
from workers.sender import Sender


@pytest.fixture
def marked() -> list[StepMessage]:
    return []


@pytest.fixture
def sender(rabbitmq_url: str, marked: list[StepMessage]) -> Iterator[Sender]:
    made = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), marked.extend)
    yield made
    made.close()


def test_confirmed_messages_are_marked_without_being_asked(
    sender: Sender, marked: list[StepMessage]
) -> None:
    sent = [message() for _ in range(50)]

    sender.publish(sent)

    wait_until(lambda: len(marked) == 50, timeout=5)
    assert marked == sent


def test_threads_share_one_sender(sender: Sender, marked: list[StepMessage]) -> None:
    def send() -> None:
        for _ in range(20):
            sender.publish([message(), message()])

    threads = [threading.Thread(target=send) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    wait_until(lambda: len(marked) == 320, timeout=10)
    assert len({one.id for one in marked}) == 320


def test_marking_thread_lives_only_while_answers_are_open(
    sender: Sender, marked: list[StepMessage]
) -> None:
    sender.publish([message()])
    wait_until(lambda: sender._marker is None, timeout=5)
    assert len(marked) == 1

    sender.publish([message()])

    wait_until(lambda: len(marked) == 2, timeout=5)


def test_marks_that_fail_do_not_stop_the_sending(rabbitmq_url: str) -> None:
    tried: list[Sequence[StepMessage]] = []

    def refuse(messages: Sequence[StepMessage]) -> None:
        tried.append(messages)
        raise ConnectionError("the database is away")

    sender = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), refuse)
    sender.publish([message()])
    wait_until(lambda: tried, timeout=5)

    sender.publish([message()])

    wait_until(lambda: len(tried) == 2, timeout=5)
    sender.close()


def test_closing_marks_what_was_confirmed(rabbitmq_url: str, marked: list[StepMessage]) -> None:
    sender = Sender(lambda: kombu.Connection(rabbitmq_url, heartbeat=0), marked.extend)
    sender.publish([message() for _ in range(100)])

    sender.close()

    assert len(marked) == 100
