"""What every command keeps to: help, one JSON document, an actor for what changes something."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import SECTIONS, SHARED, cli
from orchestrator.cli.plugin import shared

#: They start programs of Celery's and hand all options on.
PROGRAMS = {"worker", "beat", "flower"}
#: They change executions or messages of users.
ACTS = {
    *("retry", "skip", "complete", "fail", "cancel", "pause", "resume", "send"),
    *("quarantine release", "quarantine drop", "purge"),
}


def commands(group: click.Group = cli, outer: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{outer}{name} ")
        else:
            yield f"{outer}{name}", command


ALL = dict(commands())


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_tells_what_it_does(name: str) -> None:
    shown = CliRunner().invoke(cli, [*name.split(), "--help"])

    assert shown.exit_code == 0
    assert shown.output.startswith(f"Usage: cli {name} ")
    assert (ALL[name].help or "").partition("\n")[0].strip()


@pytest.mark.parametrize("name", sorted(ALL.keys() - PROGRAMS))
def test_every_command_prints_one_document_if_asked(name: str) -> None:
    assert "as_json" in {param.name for param in ALL[name].params}


@pytest.mark.parametrize("name", sorted(ACTS))
def test_every_act_takes_its_actor(name: str) -> None:
    [actor] = [param for param in ALL[name].params if param.name == "actor"]

    assert callable(actor.default), "the user of the operating system"


def test_every_command_has_its_place_in_the_help() -> None:
    placed = [name for names in SECTIONS.values() for name in names]

    assert sorted(placed) == sorted(cli.commands)


def test_below_celery_stand_all_but_the_programs() -> None:
    below_celery = shared().commands

    assert set(below_celery) == {str(command.name) for command in SHARED}
    assert set(cli.commands) - set(below_celery) == {"demo", "dev", *PROGRAMS}
