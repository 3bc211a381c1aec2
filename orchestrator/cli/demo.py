"""``demo``: flows on real data, everything embedded, with workers killed on the way if asked to."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import orchestrator
from orchestrator import ExecutionStatus, Handle, Orchestrator, Settings, StepStatus, embedded
from orchestrator.cli import library, output
from orchestrator.cli.library import Summary
from orchestrator.cli.processes import Team, forget_settings, orderly_end
from orchestrator.errors import Unavailable
from orchestrator.lifecycle import ENDED_STEP
from orchestrator.runtime import search
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store import migrate

_LOOK = 0.1  # seconds between two looks at the executions
_PATIENCE = 180.0  # seconds without any progress, after which something must be broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A run in numbers, from the database and the results.

    Attributes:
        lost: executions without the result that plain Python computes.
        twice: step runs by which counters and rows of an execution differ.
        again: attempts beyond the first of each step run.
    """

    executions: int
    done: int
    steps: int
    lost: int
    twice: int
    again: int
    kills: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether every execution is there, once, with the right result."""
        return self.done == self.executions and not self.lost and not self.twice

    def line(self) -> str:
        """Return the proof in one line."""
        return (
            f"{self.done} of {self.executions} done, {self.lost} lost, {self.twice} counted twice; "
            f"{self.steps:,} steps in {self.seconds:.1f} s, {self.kills} workers killed, "
            f"{self.again} steps run again"
        )


@click.command(short_help="See flows survive, on services of their own.")
@click.option("--executions", type=click.IntRange(1, 10_000), default=30, show_default=True)
@click.option("--kill", is_flag=True, help="Kill a worker with SIGKILL at each fifth of the way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def demo(executions: int, kill: bool, as_json: bool) -> None:
    """Index this Python's standard library with durable flows; nothing has to be installed.

    Starts a PostgreSQL, a broker of files, two workers and beat, all its own; runs one execution
    per package, compares each result with that of plain Python, and stops what it started.
    """
    with orderly_end():
        proof = demonstrate(executions, kill=kill, quiet=as_json)
    if as_json:
        output.document({**asdict(proof), "holds": proof.holds})
    else:
        output.say(proof.line(), "bold green" if proof.holds else "bold red")
    sys.exit(0 if proof.holds else 1)


def demonstrate(executions: int, *, kill: bool, quiet: bool) -> Proof:
    """Run the flows and return what came of them."""
    # Celery takes longer to import than the other commands to run
    from orchestrator.workers import connect  # noqa: PLC0415

    forget_settings()
    say = _silent if quiet else output.say
    names = library.packages()
    wanted = [names[number % len(names)] for number in range(executions)]
    began = time.monotonic()
    logs = Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    with embedded.start() as services:
        migrate.upgrade(services.database_url)
        say(f"PostgreSQL and a broker of files: {services.folder} ({_since(began)})")
        variables = {**services.environment, "ORCHESTRATOR_MODULES": library.__name__}
        here = Path(orchestrator.__file__).parents[1]
        with Team(variables, logs, folder=here) as team:
            for _ in range(2):
                team.start_worker()
            team.start_beat()
            team.wait_ready()
            say(f"Two workers and beat are at work ({_since(began)}); their logs are in {logs}")
            flows = connect.orchestrator(
                Settings(database_url=services.database_url, broker_url=services.broker_url),
                catalogue=Catalogue([library.index_package]),
            )
            started = time.monotonic()
            handles = [
                flows.start(library.index_package, package, key=f"{package}-{number}")
                for number, package in enumerate(wanted)
            ]
            kills = _follow(flows, team, len(handles), kill=kill, quiet=quiet)
            seconds = time.monotonic() - started
            proof = _proof(handles, wanted, kills=kills, seconds=seconds)
            flows.close()
            team.ask_to_stop()
    return proof


def _follow(flows: Orchestrator, team: Team, total: int, *, kill: bool, quiet: bool) -> int:
    """Show progress until all have ended; kill a worker at each fifth; return the kills."""
    marks = sorted({-(-total * part // 5) for part in range(1, 5)}) if kill else []
    moved = time.monotonic()
    kills = ended = 0
    with output.progress("Executions", total, quiet=quiet) as show:
        while ended < total:
            time.sleep(_LOOK)
            team.check()
            found = list(search.matching(flows.database, search.parse("status=ended")))
            if len(found) > ended:
                ended, moved = len(found), time.monotonic()
                show(ended)
            ready = [worker for worker in team.workers if worker.ready]
            if ready and kills < sum(ended >= mark for mark in marks):
                kills += team.kill(ready[0])
                new = team.start_worker()
                if not quiet:
                    output.say(
                        f"  {ended} of {total}: killed {ready[0].name} with SIGKILL, "
                        f"started {new.name}"
                    )
            if time.monotonic() - moved > _PATIENCE:
                raise Unavailable(
                    f"nothing has moved for {_PATIENCE:.0f} s at {ended} of {total}; the logs of "
                    f"the workers say why"
                )
    return kills


def _proof(
    handles: Sequence[Handle[Summary]], wanted: Sequence[str], *, kills: int, seconds: float
) -> Proof:
    expected = {package: library.plainly(package) for package in set(wanted)}
    done = lost = twice = again = steps = 0
    for handle, package in zip(handles, wanted, strict=True):
        view = handle.view()
        rows = [step for step in view.steps if step.status is not StepStatus.SUPERSEDED]
        ended = sum(step.status in ENDED_STEP for step in rows)
        succeeded = view.facts.status is ExecutionStatus.SUCCEEDED
        done += succeeded
        lost += not succeeded or handle.result(0) != expected[package]
        twice += abs(view.facts.started - len(rows)) + abs(view.facts.finished - ended)
        again += sum(max(0, step.attempt - 1) for step in rows if step.items is None)
        steps += len(rows)
    return Proof(
        executions=len(handles),
        done=done,
        steps=steps,
        lost=lost,
        twice=twice,
        again=again,
        kills=kills,
        seconds=seconds,
    )


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _silent(_: str) -> None:
    """Say nothing."""
