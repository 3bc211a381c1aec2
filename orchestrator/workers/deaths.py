"""How a child of this process ended, learnt at once and without reaping it.

The pool reaps its processes when it comes round to it, on brokers without an event loop up to ten
seconds later. `waitid` with WNOWAIT looks at the end and leaves it to the pool; a pid file
descriptor (Linux) wakes the watcher at the moment it happens.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
from dataclasses import dataclass

#: Exit statuses with which a pool process leaves as it should: done, and recycled by the pool.
_ORDERLY = frozenset({os.EX_OK, 155})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended: by a signal, or with a status; neither is known of one reaped before."""

    signal: str | None = None
    status: int | None = None

    @property
    def died(self) -> bool:
        """Whether it was not the process's own orderly decision."""
        return self.signal is not None or self.status not in _ORDERLY

    @property
    def unknown(self) -> bool:
        """Whether nothing is known but that it ended."""
        return self.signal is None and self.status is None

    def __str__(self) -> str:
        if self.signal is not None:
            return self.signal
        return "gone" if self.status is None else f"exit status {self.status}"


def ending_of(pid: int) -> Ending | None:
    """Return how a child of this process ended, or None while it lives."""
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return Ending()
    if end is None:
        return None
    if end.si_code == os.CLD_EXITED:
        return Ending(status=end.si_status)
    return Ending(signal=signal.Signals(end.si_status).name)


def leaving_with(exitcode: int) -> str:
    """Return why a pool process leaves that is about to, by the code that billiard leaves with."""
    with contextlib.suppress(ValueError):
        return signal.Signals(256 + exitcode).name  # what its handlers of signals make of one
    return "stopped"


def told_by(error: object) -> Ending:
    """Return what the pool says of a lost process, such as ``signal 9 (SIGKILL)``."""
    text = str(error)
    if found := re.search(r"\((SIG\w+)\)", text):
        return Ending(signal=found[1])
    if found := re.search(r"exitcode (\d+)", text):
        return Ending(status=int(found[1]))
    return Ending()


class Watch:
    """Sleeps until a watched child ends, somebody wakes it, or time is up."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._descriptors: dict[int, int] = {}

    def add(self, pid: int) -> None:
        """Watch a child."""
        if pid in self._descriptors or not hasattr(os, "pidfd_open"):
            return
        with contextlib.suppress(OSError):  # gone already, or an old kernel
            descriptor = os.pidfd_open(pid)
            self._descriptors[pid] = descriptor
            self._selector.register(descriptor, selectors.EVENT_READ)

    def remove(self, pid: int) -> None:
        """Forget a child."""
        descriptor = self._descriptors.pop(pid, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)
            os.close(descriptor)

    def wait(self, timeout: float) -> None:
        """Return when something happened, at the latest after ``timeout`` seconds."""
        self._selector.select(timeout)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 512):
                pass

    def wake(self) -> None:
        """Let `wait` return; callable from any thread and from signal handlers."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def close(self) -> None:
        """Give the descriptors back."""
        for pid in list(self._descriptors):
            self.remove(pid)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
