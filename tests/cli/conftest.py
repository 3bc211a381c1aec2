"""The command line in this process: on the lab's database, its messages into the lab's mail."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kombu import Connection

from orchestrator.cli import cli
from orchestrator.cli.desk import Desk
from orchestrator.records import StepMessage
from tests.runtime.conftest import lab, open_lab  # noqa: F401 - fixtures
from tests.runtime.lab import Lab


@dataclass
class Post:
    """The way to the broker, which ends in the lab."""

    lab: Lab

    def publish(self, messages: Sequence[StepMessage]) -> None:
        self.lab.post(messages)


@dataclass
class Terminal:
    """A shell in which ``orchestrator`` is typed."""

    lab: Lab

    def desk(self, **given: Any) -> Desk:
        """What commands are given."""
        desk = Desk()
        values: dict[str, Any] = {
            "settings": self.lab.settings,
            "database": self.lab.database,
            "catalogue": self.lab.catalogue,
            "orchestrator": self.lab.client,
            "sender": Post(self.lab),
            "broker": partial(Connection, "memory://"),
        }
        desk.__dict__.update(values | given)
        return desk

    def run(
        self,
        *words: object,
        input: str | None = None,  # noqa: A002 - as CliRunner calls it
        desk: Desk | None = None,
    ) -> Result:
        texts = [str(word) for word in words]
        desk = desk or self.desk()
        return CliRunner().invoke(cli, texts, obj=desk, input=input, catch_exceptions=False)

    def __call__(self, *words: object) -> str:
        """What it prints; it must do what it is asked."""
        done = self.run(*words)
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return done.stdout

    def json(self, *words: object) -> Any:
        """The document it prints."""
        return json.loads(self(*words, "--json"))

    def refused(self, *words: object, code: int = 1) -> str:
        """The one sentence with which it refuses."""
        done = self.run(*words)
        assert (done.exit_code, done.stdout) == (code, ""), done.output
        lines = done.stderr.strip().splitlines()
        if code == 1:
            assert len(lines) == 1, done.stderr
        return lines[-1].removeprefix("Error: ")


@pytest.fixture
def terminal(lab: Lab) -> Callable[..., Any]:  # noqa: F811
    return Terminal(lab)
