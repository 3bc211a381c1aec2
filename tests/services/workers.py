"""Celery workers and beat as children, from outside: started, signalled, killed, read.

A worker sees only what a user's worker would see: the application and ORCHESTRATOR_* variables.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.services.processes import Child, private_folder, remove_folder

ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count(1)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without ORCHESTRATOR_* and CELERY_* variables, plus what is handed in.

    The checkout is on the path, so that a worker can import the flows of the tests.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "CELERY_", "PYTEST_", "REMAP_SIGTERM"))
    }
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "C_FORCE_ROOT": "1",
        **(extra or {}),
    }


class Program:
    """A program of ours as a child that can be started again."""

    ready_text = ""

    def __init__(
        self, command: Sequence[str], *, folder: Path, env: Mapping[str, str], name: str
    ) -> None:
        self.name = name
        self.command = list(command)
        self.folder = folder
        self.env = dict(env)
        self._child: Child | None = None
        self._first: Child | None = None

    def start(self, *, wait: bool = True, timeout: float = 60) -> Program:
        """Start it; by default return when its log says that it is ready."""
        self._child = Child(
            self.name,
            self.command,
            log_file=self.folder / f"{self.name}.log",
            env=environment(self.env),
            cwd=ROOT,
        )
        self._first = self._first or self._child
        if wait:
            self.wait_ready(timeout=timeout)
        return self

    def wait_ready(self, *, timeout: float = 60) -> None:
        self.child.wait_for(lambda: self.ready, timeout=timeout, what="it was ready")

    @property
    def ready(self) -> bool:
        """Whether its log says so since the last start."""
        return self.ready_text in self.child.log()

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    def running(self) -> bool:
        return self._child is not None and self._child.running()

    def log(self) -> str:
        """Everything printed since its first start."""
        return "" if self._first is None else self._first.log()

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def wait_for_log(self, pattern: str, *, timeout: float = 30) -> None:
        """Wait until a line since the last start matches."""
        self.child.wait_for(
            lambda: re.search(pattern, self.child.log()), timeout=timeout, what=f"{pattern!r}"
        )

    def children(self) -> list[psutil.Process]:
        """The pool's processes that are alive, oldest first."""
        return self.child.children()

    def kill9(self) -> None:
        """SIGKILL for the whole process group, as a machine that loses its power."""
        self.child.kill9()

    def kill9_child(self, pid: int) -> None:
        """SIGKILL for one process of the pool, as the kernel out of memory does."""
        if pid not in {process.pid for process in self.children()}:
            raise ValueError(f"{pid} is not a living child of {self.name}")
        os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP for the whole group: alive, connected, and doing nothing."""
        self.child.signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.signal_group(signal.SIGCONT)

    def stop(self, *, timeout: float = 60) -> int:
        """Ask the main process to end (SIGTERM) and wait: for a worker the warm shutdown.

        The group is not asked: pool processes that get SIGTERM in mid-task may hang the shutdown.
        """
        return self._end_with(signal.SIGTERM, timeout)

    def soft_stop(self, *, timeout: float = 60) -> int:
        """SIGQUIT for the main process and wait: for a worker the soft shutdown."""
        return self._end_with(signal.SIGQUIT, timeout)

    def _end_with(self, number: int, timeout: float) -> int:
        self.child.signal(number)
        return self.child.wait(timeout)


class WorkerProcess(Program):
    """A Celery worker. It neither mingles nor gossips: that costs a second at each start."""

    ready_text = "ready."

    def __init__(
        self,
        *,
        folder: Path,
        env: Mapping[str, str],
        app: str = "orchestrator.workers.app",
        queues: Sequence[str] = (),
        concurrency: int = 2,
        pool: str = "prefork",
        options: Sequence[str] = ("--without-mingle", "--without-gossip"),
        command: Sequence[str] | None = None,
        name: str | None = None,
    ) -> None:
        name = name or f"worker{next(_numbers)}"
        celery = [sys.executable, "-m", "celery", "-A", app, "worker"]
        details = ["-n", f"{name}@%h", "-c", str(concurrency), "-P", pool, "-l", "INFO"]
        chosen = ["-Q", ",".join(queues)] if queues else []
        super().__init__(
            command or [*celery, *details, *chosen, *options], folder=folder, env=env, name=name
        )


class BeatProcess(Program):
    """A Celery beat with a schedule file of its own.

    It is ready after its first tick, which only its debug log tells: a beat that is asked to end
    before trips over its own imports.
    """

    ready_text = "beat: Waking up"

    def __init__(
        self,
        *,
        folder: Path,
        env: Mapping[str, str],
        app: str = "orchestrator.workers.app",
        options: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        name = name or f"beat{next(_numbers)}"
        own = ["-s", str(folder / f"{name}.schedule"), "--pidfile", "", "-l", "DEBUG"]
        super().__init__(
            [sys.executable, "-m", "celery", "-A", app, "beat", *own, *options],
            folder=folder,
            env=env,
            name=name,
        )


class Crew:
    """The workers and beats of one test: started on call, ended with the test."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = dict(env)
        self.programs: list[Program] = []

    def worker(self, *, start: bool = True, wait: bool = True, **options: object) -> WorkerProcess:
        """A worker; ``env`` adds to the crew's variables, the rest goes to `WorkerProcess`."""
        return self._add(WorkerProcess, start=start, wait=wait, **options)

    def beat(self, *, start: bool = True, wait: bool = True, **options: object) -> BeatProcess:
        """A beat; ``env`` adds to the crew's variables, the rest goes to `BeatProcess`."""
        return self._add(BeatProcess, start=start, wait=wait, **options)

    def program(
        self, command: Sequence[str], *, name: str, env: Mapping[str, str] | None = None
    ) -> Program:
        """Any command, started; ready at once."""
        program = Program(command, folder=self.folder, env={**self.env, **(env or {})}, name=name)
        self.programs.append(program)
        program.start()
        return program

    def kill9(self) -> None:
        """SIGKILL for all of them at once."""
        for program in self.programs:
            if program.running():
                program.kill9()

    def logs(self) -> str:
        return "\n".join(
            f"----- {program.name}: {' '.join(program.command)}\n{program.tail()}"
            for program in self.programs
        )

    def _add(self, kind, *, start, wait, env=None, **options):  # type: ignore[no-untyped-def]
        program = kind(folder=self.folder, env={**self.env, **(env or {})}, **options)
        self.programs.append(program)
        if start:
            program.start(wait=wait)
        return program


@contextmanager
def crew(env: Mapping[str, str]) -> Iterator[Crew]:
    """A crew that is gone, with its folder, when the block ends."""
    folder = private_folder("crew")
    members = Crew(folder, env)
    try:
        yield members
    finally:
        members.kill9()
        remove_folder(folder)
