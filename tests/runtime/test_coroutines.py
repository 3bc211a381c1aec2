"""Coroutine steps on the loop of the process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import threading
import time
from collections.abc import Iterator

import pytest

from orchestrator.runtime.coroutines import Loop

who: contextvars.ContextVar[str] = contextvars.ContextVar("who")


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_coroutine_returns_its_value(loop: Loop) -> None:
    async def body() -> int:
        await asyncio.sleep(0)
        return 3

    assert loop.run(body()) == 3


def test_coroutine_raises_its_error(loop: Loop) -> None:
    async def body() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        loop.run(body())


def test_coroutine_sees_the_context_of_its_caller(loop: Loop) -> None:
    async def body() -> str:
        return who.get()

    who.set("this step")

    assert loop.run(body()) == "this step"


def test_slots_wait_beside_each_other_on_one_loop(loop: Loop) -> None:
    seen: set[int] = set()

    async def body() -> None:
        seen.add(threading.get_ident())
        await asyncio.sleep(0.2)

    slots = [threading.Thread(target=lambda: loop.run(body())) for _ in range(10)]
    began = time.monotonic()

    for slot in slots:
        slot.start()
    for slot in slots:
        slot.join()

    assert time.monotonic() - began < 1.0
    assert len(seen) == 1


def test_coroutine_that_takes_too_long_is_cancelled_where_it_waits(loop: Loop) -> None:
    waits, cleaned_up = threading.Event(), threading.Event()

    async def body() -> None:
        waits.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.set()

    slot = threading.get_ident()
    threading.Thread(target=lambda: (waits.wait(), loop.cancel(slot))).start()

    with pytest.raises(concurrent.futures.CancelledError):
        loop.run(body())
    assert cleaned_up.wait(5)


def test_cancelling_a_slot_without_a_coroutine_does_nothing(loop: Loop) -> None:
    assert loop.cancel(threading.get_ident()) is False


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_of_a_fork_has_a_loop_of_its_own(loop: Loop) -> None:
    async def body() -> int:
        return os.getpid()

    assert loop.run(body()) == os.getpid()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if loop.run(body()) == os.getpid() else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
