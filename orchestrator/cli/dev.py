"""``dev``: embedded services, a worker and beat for the user's own module; reloads on change."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import click

from orchestrator import embedded
from orchestrator.cli import output
from orchestrator.cli.desk import Desk, common, pass_desk
from orchestrator.cli.processes import Member, Team, orderly_end
from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.store import migrate

#: What beat asks for every second is not what a developer looks for.
_NOISE = ("Sending due task", "Task orchestrator.")
_LOOK = 0.3  # seconds between two looks at logs and files


@click.command(short_help="Run your flows here, on embedded services, with reload.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    help="Keep data and messages there; without it they go away at the end.",
)
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Of each worker.",
)
@click.option("--no-reload", is_flag=True, help="Do not start workers anew when a file changes.")
@common
@pass_desk
def dev(
    desk: Desk,
    *,
    folder: str | None,
    workers: int,
    concurrency: int,
    no_reload: bool,
    as_json: bool,
) -> None:
    """Run your flows here: PostgreSQL, a broker of files, workers and beat, all embedded.

    Name your module with -A. The variables that are printed let other programs, and `orchestrator`
    in another terminal, use the same services. Ctrl-C ends it all.
    """
    modules = desk.modules or _named()
    if not modules:
        raise InvalidInput(
            "there is nothing to run: name the module of your flows, as in -A shop.flows"
        )
    desk.modules = modules
    flows = desk.catalogue.flows
    if not flows:
        raise InvalidInput(
            f"the modules {', '.join(modules)} hold no flow: decorate one with @flow"
        )
    with orderly_end(), embedded.start(folder) as services:
        migrate.upgrade(services.database_url)
        variables = {**services.environment, "ORCHESTRATOR_MODULES": ",".join(modules)}
        _introduce(variables, sorted(flows), as_json=as_json)
        with (
            TemporaryDirectory(prefix="orchestrator-dev-") as logs,
            Team(variables, Path(logs), folder=Path.cwd(), concurrency=concurrency) as team,
        ):
            for _ in range(workers):
                team.start_worker()
            team.start_beat()
            _watch(team, [] if no_reload else _files(modules), quiet=as_json)


def _named() -> list[str]:
    text = os.environ.get("ORCHESTRATOR_MODULES", "")
    return [name for name in text.replace(",", " ").split() if name]


def _introduce(variables: Mapping[str, str], flows: list[str], *, as_json: bool) -> None:
    if as_json:
        output.document({"environment": dict(variables), "flows": flows})
        sys.stdout.flush()
        return
    output.say(f"Flows: {', '.join(flows)}. In another terminal:", "bold")
    for name, value in variables.items():
        output.say(f"  export {name}={shlex.quote(value)}")
    output.say(f"  orchestrator start {flows[0]} --input '{{...}}'")
    sys.stdout.flush()


def _watch(team: Team, files: list[Path], *, quiet: bool) -> None:
    """Print what the programs log; start workers anew when a file of the modules changes."""
    seen, read = _stamps(files), dict[str, int]()
    while True:
        time.sleep(_LOOK)
        for member in team.members:
            if not quiet:
                _relay(member, read)
        now = _stamps(files)
        changed = [path for path in now.keys() | seen.keys() if now.get(path) != seen.get(path)]
        if changed:
            seen = now
            output.say(f"{changed[0]} has changed: starting the workers anew", "bold")
            for worker in list(team.workers):
                team.end(worker)
                team.start_worker()
            _forget_ended(team)
        elif files:
            _tell_of_ended(team)
        else:
            team.check()


def _relay(member: Member, read: dict[str, int]) -> None:
    data = member.log.read_bytes()[read.get(member.name, 0) :]
    whole = data[: data.rfind(b"\n") + 1]
    read[member.name] = read.get(member.name, 0) + len(whole)
    for line in whole.decode("utf-8", "replace").splitlines():
        if line.strip() and not any(word in line for word in _NOISE):
            click.echo(f"{member.name}: {output.clean(line)}")
    if whole:
        sys.stdout.flush()


def _tell_of_ended(team: Team) -> None:
    """A worker whose module is broken ends; it is started again with the next change."""
    if not any(member.running for member in team.members):
        raise Unavailable(f"all programs have ended; {team.members[0].last_words()}")


def _forget_ended(team: Team) -> None:
    for member in team.members:
        if not member.running:
            team.end(member)
            if member.name != "beat":
                team.start_worker()
            else:
                team.start_beat()


def _files(modules: Iterable[str]) -> list[Path]:
    """Return the source files of the modules: of a package all of its files."""
    found: set[Path] = set()
    for name in modules:
        module: ModuleType = sys.modules[name]
        file = getattr(module, "__file__", None)
        if file is None:
            continue
        package = name.rpartition(".")[0] if not hasattr(module, "__path__") else name
        root = Path(file).parent
        found.update(root.rglob("*.py") if package else [Path(file)])
    return sorted(path for path in found if "site-packages" not in path.parts)


def _stamps(files: Iterable[Path]) -> dict[Path, int]:
    stamps = {}
    for path in files:
        try:
            stamps[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return stamps
