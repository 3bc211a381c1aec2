"""Coroutine steps: one event loop per process, in a thread of its own.

A slot of the worker waits for its coroutine; the loop runs those of all slots. So clients that are
bound to a loop (connection pools, HTTP sessions) can be shared by all coroutine steps of a process,
and an attempt that takes too long is cancelled where it waits. The loop is started by the first
coroutine, so that a process that forks has none.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """The event loop of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[int, concurrent.futures.Future[Any]] = {}

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return what it returns or raises.

        Context variables of the caller are visible in it.

        Raises:
            concurrent.futures.CancelledError: `cancel` was called for this thread.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        thread = threading.get_ident()
        self._running[thread] = future
        try:
            return future.result()
        except BaseException:
            # The process is told to end while a slot waits here: do not leave the body running.
            future.cancel()
            raise
        finally:
            self._running.pop(thread, None)

    def cancel(self, thread: int) -> bool:
        """Cancel the coroutine for which this thread waits; False if it waits for none."""
        future = self._running.get(thread)
        return future is not None and future.cancel()

    def close(self) -> None:
        """End the loop: cancel what runs on it."""
        with self._guard:
            loop, self._loop = self._loop, None
        if loop is not None and self._pid == os.getpid():
            for future in list(self._running.values()):
                future.cancel()
            loop.call_soon_threadsafe(loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._running = {}
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_serve, args=(self._loop,), name="coroutine steps", daemon=True
                ).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
