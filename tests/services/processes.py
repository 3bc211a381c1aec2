"""Children of the test run: each in its own session, none outlives the run.

Three nets, each for what the one before cannot see: the fixture that started a child ends it;
``atexit`` ends what is left when pytest leaves by an error or Ctrl-C; and the *warden*, a tiny
process that waits for the end of our pipe, ends the rest when pytest itself is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

_WARDEN = """
import os, shutil, signal, sys
groups, folders = set(), set()
for line in sys.stdin:
    verb, kind, what = line.rstrip("\\n").split(" ", 2)
    known = groups if kind == "group" else folders
    known.add(what) if verb == "watch" else known.discard(what)
for group in groups:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except OSError:
        pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class _Nets:
    """What must be gone when this process is gone."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.children: list[Child] = []
        self.folders: list[Path] = []
        self._warden: subprocess.Popen[str] | None = None
        atexit.register(self.end)

    def tell(self, verb: str, kind: str, what: object) -> None:
        if self._warden is None:
            self._warden = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _WARDEN],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                cwd="/",
            )
        with contextlib.suppress(BrokenPipeError):
            self._warden.stdin.write(f"{verb} {kind} {what}\n")
            self._warden.stdin.flush()

    def end(self) -> None:
        if os.getpid() != self.owner:  # a fork of a test inherits atexit, not the children
            return
        for child in list(reversed(self.children)):
            child.kill9()
        for folder in list(self.folders):
            remove_folder(folder)
        if self._warden is not None:
            with contextlib.suppress(BrokenPipeError):
                self._warden.stdin.close()
            self._warden.wait(timeout=10)
            self._warden = None


_nets = _Nets()


def end_everything() -> None:
    """End every child that is left and remove every folder: the last act of a test session."""
    _nets.end()


def private_folder(prefix: str, *, owner: int | None = None) -> Path:
    """A new folder outside the checkout and any home, with a path short enough for sockets."""
    base = "/tmp" if Path("/tmp").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix=f"orc-{prefix}-", dir=base))
    _nets.folders.append(folder)
    _nets.tell("watch", "folder", folder)
    if owner is not None and owner != os.geteuid():
        os.chown(folder, owner, -1)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder made by ``private_folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder in _nets.folders:
        _nets.folders.remove(folder)
        _nets.tell("forget", "folder", folder)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    condition: Callable[[], object],
    *,
    timeout: float = 30,
    interval: float = 0.05,
    what: str | Callable[[], str] = "",
) -> None:
    """Wait until the condition holds; past the timeout fail with ``what`` was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise TimeoutError(f"after {timeout:g} s still waiting for {text or condition!r}")
        time.sleep(interval)


class Child:
    """A process of ours in its own session, its output in a file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_file: Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        with log_file.open("ab") as output:
            self._start = output.tell()
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=None if user is None else [],
            )
        _nets.children.append(self)
        _nets.tell("watch", "group", self.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        return self._popen.poll()

    def running(self) -> bool:
        return self._popen.poll() is None

    def log(self) -> str:
        """What it printed since it was started."""
        with self.log_file.open("rb") as output:
            output.seek(self._start)
            return output.read().decode(errors="replace")

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def children(self) -> list[psutil.Process]:
        """Its descendants that are alive now, parents first."""
        try:
            family = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in family if alive(process)]

    def signal(self, number: int) -> None:
        """Send a signal to the main process only."""
        if self.running():
            self._popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill9(self) -> None:
        """SIGKILL for the whole process group and all descendants; returns when they are gone."""
        family = self.children()
        self.signal_group(signal.SIGKILL)
        for process in family:  # those that made a session of their own, as database backends do
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait(timeout=30)
        wait_until(
            lambda: not any(map(alive, family)), interval=0.01, what=f"the end of {self.name}"
        )
        self._forget()

    def wait(self, timeout: float) -> int:
        """Wait for the end of the main process; the rest of its group goes with it."""
        try:
            code = self._popen.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name} did not end within {timeout:g} s; its log ends:\n{self.tail()}"
            ) from None
        self.signal_group(signal.SIGKILL)
        self._forget()
        return code

    def wait_for(self, condition: Callable[[], object], *, timeout: float, what: str) -> None:
        """Wait for a condition, but not longer than this child lives."""

        def holds_or_dead() -> object:
            return condition() or not self.running()

        def missing() -> str:
            return f"{what} of {self.name}; its log ends:\n{self.tail()}"

        wait_until(holds_or_dead, timeout=timeout, what=missing)
        if not condition():
            raise RuntimeError(
                f"{self.name} ended with {self.returncode} before {what}; its log ends:\n"
                f"{self.tail()}"
            )

    def _forget(self) -> None:
        if self in _nets.children:
            _nets.children.remove(self)
            _nets.tell("forget", "group", self.pid)


def alive(process: psutil.Process) -> bool:
    """Whether it still does something: a zombie waits for a parent that does not care."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
