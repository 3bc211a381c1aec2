"""What goes wrong in the first hour: each is one sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import cli
from orchestrator.cli.named import Named, brief
from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.services.workers import ROOT, environment

FLOWS = "from orchestrator import flow, step\n\n@step\ndef f(n: int) -> int:\n    return n\n"


def typed(
    *words: str, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    env = environment({f"ORCHESTRATOR_{name.upper()}": text for name, text in variables.items()})
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env={**env, "PYTHONPATH": f"{path}:{env['PYTHONPATH']}"},
        cwd=path or ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def one_sentence(refused: subprocess.CompletedProcess[str]) -> str:
    assert refused.returncode == 1, refused.stdout
    told = [line for line in refused.stderr.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1, refused.stderr
    assert "Traceback" not in refused.stderr
    return told[0]


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "unwritten.py").write_text("def f(:\n")
    (tmp_path / "unset.py").write_text("x = 1\nraise RuntimeError('no configuration')\n")
    (tmp_path / "empty.py").write_text(FLOWS)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("unwritten", "SyntaxError: invalid syntax (unwritten.py, line 1)"),
        ("unset", "RuntimeError: no configuration (unset.py, line 2)"),
    ],
)
@pytest.mark.parametrize("words", [("start", "f", "-A"), ("dev", "-A"), ("worker",), ("beat",)])
def test_a_module_that_cannot_be_imported_is_told_with_its_line(
    modules: Path, words: tuple[str, ...], module: str, sentence: str
) -> None:
    if words[-1] == "-A":
        told = one_sentence(typed(*words, module, path=modules))
    else:
        broker = f"filesystem://{modules}/broker"
        told = one_sentence(typed(*words, path=modules, modules=module, broker_url=broker))

    assert f"the module {module} cannot be imported: {sentence}" in told
    assert f"`python -c 'import {module}'` shows all of it" in told


def test_a_worker_without_a_flow_says_that_it_has_nothing_to_run(
    modules: Path, empty_database_url: str
) -> None:
    refused = typed(
        *("worker", "-c", "1"),
        path=modules,
        modules="empty",
        database_url=empty_database_url,
        broker_url=f"filesystem://{modules}/broker",
    )

    assert "Note: no module of this worker holds a flow, so it runs none" in refused.stderr
    assert "run `orchestrator db upgrade`" in refused.stderr


@pytest.mark.parametrize("program", ["worker", "beat", "flower"])
def test_a_program_does_not_start_where_the_broker_refuses_it(
    program: str, rabbitmq_url: str
) -> None:
    elsewhere = f"{rabbitmq_url.rpartition('/')[0]}/nowhere"

    told = one_sentence(typed(program, modules="tests.cli.shop", broker_url=elsewhere))

    assert "refuses us: vhost nowhere not found; correct the user, the password" in told


def test_a_program_does_not_start_on_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    url = f"filesystem://{tmp_path}/file/broker"

    told = one_sentence(typed("beat", modules="tests.cli.shop", broker_url=url))

    assert "cannot be used: Not a directory; correct ORCHESTRATOR_BROKER_URL" in told


def test_a_database_that_is_not_there_is_told_at_once_and_a_worker_ends(
    database_url: str, tmp_path: Path
) -> None:
    services = {
        "database_url": f"{database_url.rpartition('/')[0]}/nowhere",
        "broker_url": f"filesystem://{tmp_path}/broker",
        "modules": "tests.cli.shop",
    }

    told = one_sentence(typed("list", **services))
    worker = typed("worker", "-c", "1", **services)

    assert 'nowhere" does not exist; make it with createdb' in told
    assert worker.returncode == 1
    assert "the worker does not start: the database" in worker.stderr


def test_a_worker_says_at_once_that_it_waits_for_its_database(tmp_path: Path) -> None:
    started = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", "worker", "-c", "1"],
        env=environment(
            {
                "ORCHESTRATOR_DATABASE_URL": "postgresql://127.0.0.1:1/shop",
                "ORCHESTRATOR_BROKER_URL": f"filesystem://{tmp_path}/broker",
                "ORCHESTRATOR_MODULES": "tests.cli.shop",
            }
        ),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with started as running:
        assert running.stderr is not None
        told = next(line for line in running.stderr if "waits" in line)
        running.kill()

    assert told.startswith("the worker waits for 60 s: the database postgresql://127.0.0.1:1/shop")


def test_a_reader_that_leaves_early_is_no_error(lab: Lab, database_url: str) -> None:
    for number in range(300):
        lab.start(flows.single, number, key=f"o-{number}-{'x' * 200}")

    for words in ("list --limit 300", "list --limit 300 --json", "--help"):
        line = f"{sys.executable} -m orchestrator.cli {words} | true"
        done = subprocess.run(
            ["sh", "-c", line],
            env=environment({"ORCHESTRATOR_DATABASE_URL": database_url}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("", ""), words


def groups(group: click.Group = cli, name: str = "") -> Iterator[tuple[str, click.Group]]:
    yield name, group
    for inner in group.commands.values():
        if isinstance(inner, click.Group):
            yield from groups(inner, str(inner.name))


@pytest.mark.parametrize("name", sorted(name for name, _ in groups()))
def test_lists_of_commands_say_whole_sentences(name: str) -> None:
    group = dict(groups())[name]

    shown = CliRunner().invoke(cli, [*name.split(), "--help"], terminal_width=80).output

    assert isinstance(group, Named)
    assert "..." not in shown.replace("COMMAND [ARGS]...", "")
    for command in group.commands.values():
        assert brief(command) in shown, "in one line"


def test_an_input_that_is_no_object_is_refused_as_such(terminal: Callable[..., Terminal]) -> None:
    assert isinstance(terminal, Terminal)
    for document in ("[]", "0", '""', "[1]"):
        sentence = terminal.refused("start", "chain", "--input", document)
        assert "expected an object by parameter name" in sentence
