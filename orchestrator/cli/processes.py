"""Workers and beat as real processes, each in a session of its own, none of which outlives us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from orchestrator.errors import Unavailable

_PYTHON = (sys.executable, "-m", "orchestrator.cli")
_ALONE = ("--without-gossip", "--without-mingle")  # nobody to talk to: a faster start
_START_TIMEOUT = 90.0
_STOP_TIMEOUT = 6.0  # Celery needs 5 s on a broker of files
_ABORT_TIMEOUT = 1.0  # what it worked on is thrown away
_FOREIGN = ("ORCHESTRATOR_", "CELERY", "PG", "REMAP_SIGTERM")

#: Waits for the end of our pipe; then nobody is left to end the groups that were written into it.
_WARDEN = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    verb, group = line.split()
    groups.add(group) if verb == "watch" else groups.discard(group)
for group in groups:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except OSError:
        pass
"""


def forget_settings() -> None:
    """Remove from this process what would lead it to services that are not its own."""
    for name in [name for name in os.environ if name.upper().startswith(_FOREIGN)]:
        del os.environ[name]


@contextmanager
def orderly_end() -> Iterator[None]:
    """Let the signals that end a program run its ``finally`` blocks, once."""

    def leave(number: int, _: object) -> None:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)  # what ends us now is on its way
        print("Stopping the workers and the services ...", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    previous = {
        number: signal.signal(number, leave)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Member:
    """One worker or beat."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._popen = popen

    @property
    def group(self) -> int:
        """Its process group: itself and the processes of its pool."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether its main process is there."""
        return self._popen.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it says that it takes messages."""
        return self.running and b" ready." in self.log.read_bytes()

    def last_words(self) -> str:
        """Return the last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")

    def ask_to_stop(self) -> None:
        """Send SIGTERM to its main process."""
        if self.running:
            self._popen.terminate()

    def kill(self) -> bool:
        """Send SIGKILL to the whole group; return whether that is what it died of."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        return self._popen.wait() == -signal.SIGKILL

    def wait(self, timeout: float) -> None:
        """Wait for the end of its main process at most ``timeout`` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(max(0.0, timeout))


class Team:
    """The processes of a demonstration; a context manager that ends them all.

    Args:
        settings: the ORCHESTRATOR_* variables of the processes; they get no others.
        logs: the folder for what they print.
        folder: where they run, and first on their Python path.
        concurrency: processes of each worker that run steps.
    """

    def __init__(
        self, settings: Mapping[str, str], logs: Path, *, folder: Path, concurrency: int = 2
    ) -> None:
        self._logs = logs
        self._folder = folder
        self._concurrency = concurrency
        self._environment = {
            **{name: value for name, value in os.environ.items() if _may_pass(name)},
            **settings,
            "PYTHONPATH": os.pathsep.join(
                filter(None, (str(folder), os.environ.get("PYTHONPATH")))
            ),
            "PYTHONUNBUFFERED": "1",
        }
        self._members: list[Member] = []
        self._workers = 0
        self._warden = subprocess.Popen(  # noqa: S603 - its words are ours
            [sys.executable, "-S", "-E", "-c", _WARDEN],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
            cwd="/",
        )

    @property
    def workers(self) -> list[Member]:
        """The workers that run, the oldest first."""
        return [one for one in self._members if one.name.startswith("worker") and one.running]

    def start_worker(self) -> Member:
        """Start one more worker."""
        self._workers += 1
        name = f"worker-{self._workers}"
        size = str(self._concurrency)
        return self._start(name, "worker", "-c", size, "-n", f"{name}@here", *_ALONE)

    def start_beat(self) -> Member:
        """Start beat."""
        return self._start("beat", "beat")

    def wait_ready(self) -> None:
        """Return when every worker takes messages.

        Raises:
            Unavailable: one of them ended, or is not ready in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        while not all(worker.ready for worker in self.workers):
            self.check()
            if time.monotonic() > deadline:
                slow = next(worker for worker in self.workers if not worker.ready)
                raise Unavailable(
                    f"{slow.name} is not ready after {_START_TIMEOUT:.0f} s; its log is {slow.log}"
                )
            time.sleep(0.05)

    def kill(self, worker: Member) -> bool:
        """Kill a worker's whole process group; return whether SIGKILL is what it died of."""
        killed = worker.kill()
        self._forget(worker)
        return killed

    def end(self, member: Member, timeout: float = _STOP_TIMEOUT) -> None:
        """Ask a member to stop, and kill what of it is still there after a while."""
        member.ask_to_stop()
        member.wait(timeout)
        member.kill()
        self._forget(member)

    @property
    def members(self) -> list[Member]:
        """Everybody, in the order in which they were started."""
        return list(self._members)

    def check(self) -> None:
        """Raise `Unavailable` if a member ended that nobody killed."""
        for one in self._members:
            if not one.running:
                raise Unavailable(
                    f"{one.name} ended by itself, saying: {one.last_words()} (log: {one.log})"
                )

    def __enter__(self) -> Self:
        return self

    def ask_to_stop(self) -> None:
        """Ask everybody to stop, and do not wait."""
        for one in self._members:
            one.ask_to_stop()

    def __exit__(
        self, error: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + (_ABORT_TIMEOUT if error else _STOP_TIMEOUT)
        self.ask_to_stop()
        for one in list(self._members):
            one.wait(deadline - time.monotonic())
            one.kill()  # nothing of its group stays, however it ended
            self._forget(one)
        for child in psutil.Process().children():  # a signal came while it was being started
            with contextlib.suppress(ProcessLookupError):
                if child.pid != self._warden.pid and os.getpgid(child.pid) == child.pid:
                    os.killpg(child.pid, signal.SIGKILL)
        if self._warden.stdin is not None:
            self._warden.stdin.close()
        self._warden.wait()

    def _start(self, name: str, *words: str) -> Member:
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(  # noqa: S603 - its words are ours
                [*_PYTHON, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                start_new_session=True,
            )
        member = Member(name, popen, log)
        self._members.append(member)
        self._tell("watch", member)
        return member

    def _forget(self, member: Member) -> None:
        self._members.remove(member)
        self._tell("forget", member)

    def _tell(self, verb: str, member: Member) -> None:
        if self._warden.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._warden.stdin.write(f"{verb} {member.group}\n")
                self._warden.stdin.flush()


def _may_pass(name: str) -> bool:
    return not name.upper().startswith(_FOREIGN)
