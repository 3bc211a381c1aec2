"""Worker processes as children of the benchmark, each in a process group that ends with it."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from celery import Celery

_ROOT = Path(__file__).resolve().parents[1]
_START, _STOP = 60.0, 20.0
_running: set[int] = set()


@dataclass(frozen=True, slots=True)
class Node:
    """A worker that answers.

    Attributes:
        name: its name for Celery's remote control.
        pid: its main process.
    """

    name: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the CPU time of its main process and its pool so far."""
        main = psutil.Process(self.pid)
        family = [main, *main.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in family)


class WorkerGone(Exception):
    """A worker ended, or never became ready; the text has the end of its log."""


@contextlib.contextmanager
def worker(
    application: str,
    client: Celery,
    *,
    name: str,
    folder: Path,
    env: Mapping[str, str],
    processes: int,
    options: Sequence[str] = (),
) -> Iterator[Node]:
    """Run a prefork worker; yields it when it answers, ends it afterwards."""
    node = f"{name}@bench"
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "celery", "-A", application, "worker", "-n", node]
    command += ["-c", str(processes), "-P", "prefork", "-l", "WARNING"]
    command += ["--without-mingle", "--without-gossip", *options]
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**_environment(), **env},
            cwd=_ROOT,
            start_new_session=True,
        )
    _running.add(child.pid)
    try:
        _wait_ready(child, client, node, log)
        yield Node(node, child.pid)
    finally:
        _end(child)


def _wait_ready(child: subprocess.Popen[bytes], client: Celery, node: str, log: Path) -> None:
    deadline = time.monotonic() + _START
    while not client.control.ping(destination=[node], timeout=0.5, limit=1):
        if child.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-3000:]
            raise WorkerGone(f"{node} did not become ready; its log ends:\n{tail}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_STOP)
    _kill_group(child.pid)
    child.wait()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _running.discard(pid)


@atexit.register
def _end_all() -> None:
    for pid in list(_running):
        _kill_group(pid)


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "CELERY_", "REMAP_SIGTERM"))
    }
    return {**kept, "PYTHONPATH": str(_ROOT), "C_FORCE_ROOT": "1"}
