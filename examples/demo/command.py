"""``python -m examples.index_library``: one run from empty services to the proof."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from examples.demo.display import Bar, say, show_summary
from examples.demo.proof import Proof
from examples.index_library import (
    LIBRARY,
    Summary,
    index_file,
    index_library,
    list_files,
    write_index,
)
from orchestrator import Handle, Orchestrator, OrchestratorError, Settings, embedded
from orchestrator.cli.processes import Team, forget_settings, orderly_end
from orchestrator.errors import Unavailable
from orchestrator.runtime import queries
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store import migrate
from orchestrator.workers import connect

ROOT = Path(__file__).resolve().parents[2]

_LOOK = 0.03  # seconds between two looks at the execution
_PATIENCE = 180.0  # seconds without any progress, after which something must be broken


@click.command()
@click.option("--kill", is_flag=True, help="Kill a worker with SIGKILL at each tenth of the files.")
@click.option("--files", type=click.IntRange(min=1), help="Index only the first so many files.")
def command(kill: bool, files: int | None) -> None:
    """Index Python's standard library with a durable flow.

    Starts a PostgreSQL, a broker, two workers and beat, all its own, runs the flow, compares its
    result with that of one plain process, and stops what it started.
    """
    with orderly_end():
        sys.exit(0 if demonstrate(limit=files, kill=kill) else 1)


def main() -> None:
    """Run the demo; what keeps it from going on is told in one sentence."""
    try:
        command(prog_name="python -m examples.index_library")
    except OrchestratorError as error:
        sys.exit(f"The demo stopped: {error}")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(f"The demo stopped: {error.strerror or error}{where}")


def demonstrate(*, limit: int | None, kill: bool) -> bool:
    """Run the flow and show what came of it; return whether everything is as it should be."""
    forget_settings()
    folder = Path(tempfile.mkdtemp(prefix="library-index-"))
    expected = list_files(limit)
    tenths = _tenths(len(expected)) if kill else []
    say(f"{len(expected)} source files in {LIBRARY}")
    began = time.monotonic()
    with embedded.start() as services:
        migrate.upgrade(services.database_url)
        say(f"PostgreSQL and a broker of files: {services.folder} ({_since(began)})")
        variables = {**services.environment, "ORCHESTRATOR_MODULES": index_library.body.__module__}
        with Team(variables, folder, folder=ROOT) as team:
            for _ in range(2):
                team.start_worker()
            team.start_beat()
            team.wait_ready()
            say(f"Two workers and beat are at work ({_since(began)})")
            orchestrator = connect.orchestrator(
                Settings(database_url=services.database_url, broker_url=services.broker_url),
                catalogue=Catalogue([index_library]),
            )
            handle = orchestrator.start(index_library, str(folder), limit)
            kills = follow(orchestrator, handle, team, len(expected), tenths)
            summary, proof = handle.result(), Proof.of(handle.view(), folder, expected)
            orchestrator.close()
            team.ask_to_stop()  # it takes as long as what follows
            show_summary(summary)
            equal = compare(folder, summary, expected)
    enough = kills >= min(8, len(tenths))
    if not enough:
        say(f"Only {kills} workers could be killed: that is too few to prove anything.")
    say(f"The index is {folder / 'index.csv'}, the logs of the processes are beside it.")
    say(proof.line(kills), style="bold green" if proof.holds and equal else "bold red")
    return proof.holds and equal and enough


def follow(
    orchestrator: Orchestrator,
    handle: Handle[Summary],
    team: Team,
    total: int,
    tenths: Sequence[int],
) -> int:
    """Show progress until the execution ends; kill a worker at each of the tenths; return kills."""
    began = moved = time.monotonic()
    kills = finished = 0
    with Bar("The flow", total) as bar:
        while True:
            facts = queries.facts(orchestrator.database, handle.execution_id)
            done = min(total, max(0, facts.finished - 1))  # the first to end is the listing
            bar.show(done)
            if facts.finished_at is not None:
                say(f"The flow {facts.status} after {_since(began)}")
                return kills
            team.check()
            ready = [worker for worker in team.workers if worker.ready]
            if ready and kills < sum(done >= tenth for tenth in tenths):
                killed = team.kill(ready[0])
                kills += killed
                new = team.start_worker()
                say(f"  {done} files: killed {ready[0].name} with SIGKILL, started {new.name}")
            if facts.finished > finished:
                finished, moved = facts.finished, time.monotonic()
            elif time.monotonic() - moved > _PATIENCE:
                raise Unavailable(f"nothing has moved for {_PATIENCE:.0f} s at {done} files")
            time.sleep(_LOOK)


def compare(folder: Path, summary: Summary, expected: Sequence[str]) -> bool:
    """Do the same in one plain process, and say whether index and summary are equal."""
    plain = folder / "plain"
    plain.mkdir()
    began = time.monotonic()
    entries = []
    with Bar("One plain process", len(expected), lines=False) as bar:
        for path in expected:
            entries.append(index_file(path))  # outside a flow a step is the plain function
            bar.show(len(entries))
    same_summary = write_index(entries, str(plain)) == summary
    same_index = (plain / "index.csv").read_bytes() == (folder / "index.csv").read_bytes()
    verdict = "equal" if same_summary and same_index else "DIFFERENT"
    say(f"The same in one plain process took {_since(began)}; index and summary are {verdict}.")
    return same_summary and same_index


def _tenths(total: int) -> list[int]:
    """Return after how many files a worker is killed."""
    return sorted({-(-total * tenth // 10) for tenth in range(1, 10)})


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
