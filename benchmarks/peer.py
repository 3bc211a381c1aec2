"""The same for plain Celery: a chain of ten tasks, and a task before a chord.

Configured as a careful team would: late acknowledgement, publishing that waits for the broker's
confirm, results in Redis. Everything else is Celery's default.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, group

#: What the benchmark tells the peer's worker: broker, results, type of the queue.
VARIABLES = ("BENCH_BROKER_URL", "BENCH_RESULT_URL", "BENCH_QUEUE_TYPE")
QUEUE = "peer"

app = Celery("benchmarks.peer")


def configure(broker: str, results: str, queue_type: str) -> None:
    """Tell the application where its services are; in this process and once."""
    app.conf.update(
        broker_url=broker,
        result_backend=results,
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
    )
    if queue_type == "quorum":
        app.conf.update(
            task_default_queue_type="quorum",
            task_default_exchange_type="topic",
            task_create_missing_queue_type="quorum",
        )


@app.task(name="peer.add_one")
def add_one(number: int) -> int:
    return number + 1


@app.task(name="peer.numbers")
def numbers(count: int) -> list[int]:
    return list(range(count))


@app.task(name="peer.double")
def double(numbers: list[int], index: int) -> int:
    return numbers[index] * 2


@app.task(name="peer.total")
def total(values: list[int]) -> int:
    return sum(values)


def chain_of_ten(number: int) -> Any:
    """W1."""
    one: Any = add_one
    return chain(one.s(number), *(one.s() for _ in range(9)))


def fan(count: int) -> Any:
    """W2: Celery wants to know beforehand how many there will be."""
    first: Any = numbers
    one: Any = double
    last: Any = total
    return chain(first.s(count), group(one.s(index) for index in range(count)), last.s())


if VARIABLES[0] in os.environ:
    configure(*(os.environ[name] for name in VARIABLES))
