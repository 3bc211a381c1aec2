"""The shape of the code: who imports whom, how long a file may be, which names are public."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import pytest

import orchestrator
from orchestrator import lifecycle

ROOT = Path(__file__).parent.parent
PACKAGES = ("orchestrator",)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

S = TypeVar("S", bound=StrEnum)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """The modules a file imports anywhere, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_imports_follow_the_arrows() -> None:
    """The contracts of pyproject.toml, which draw the rooms of the design."""
    linter = Path(sys.executable).with_name("lint-imports")

    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_stands_in_the_contract_of_layers() -> None:
    """A new module at the top must be given its place, or no rule would hold for it."""
    [layers] = [
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    placed = {name.strip() for layer in layers for name in layer.split("|")}
    rooms = {
        f"orchestrator.{path.stem}"
        for path in (ROOT / "orchestrator").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }

    assert rooms - placed - {"orchestrator.embedded_server"} == set()


# What has an effect, or an answer that is not decided by its arguments.
IMPURE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}


def test_flow_imports_nothing_that_has_side_effects() -> None:
    allowed = {f"orchestrator.{name}" for name in ("flow", "errors", "lifecycle", "codec")}
    values = {"pydantic"}  # checks an input against its annotation, as the codec does

    for path in sources("orchestrator/flow"):
        found = imports(path)
        tops = {name.split(".")[0] for name in found}
        ours = {".".join(name.split(".")[:2]) for name in found if name.startswith("orchestrator")}
        assert tops & IMPURE == set(), name_of(path)
        assert tops <= sys.stdlib_module_names | {"orchestrator", *values}, name_of(path)
        assert ours <= allowed | {"orchestrator"}, name_of(path)


def test_no_module_is_called_after_nothing() -> None:
    """A `utils` is where a noun was missing."""
    nothing = {"utils", "util", "common", "helpers", "helper", "manager", "service", "misc"}
    paths = sources(*PACKAGES, "tests", "examples")

    assert [name_of(p) for p in paths if nothing & {p.stem, *p.parent.parts}] == []


@pytest.mark.parametrize("folder", ["orchestrator", "workers", "examples", "benchmarks", "tests"])
def test_no_file_is_longer_than_five_hundred_lines(folder: str) -> None:
    lengths = {name_of(p): len(p.read_text("utf-8").splitlines()) for p in sources(folder)}

    assert {name: length for name, length in lengths.items() if length >= 500} == {}


def test_the_public_names_are_these() -> None:
    """A name that is public once is promised for ever: adding one is a decision, made here.

    What a program that writes, starts and reads flows needs, and nothing of how they run; the
    errors are the whole tree, because catching them is the only way to tell them apart.
    """
    expected = {
        # writing flows
        "Flow",
        "Retry",
        "Step",
        "StepError",
        "ThisStep",
        "build",
        "call",
        "choose",
        "each",
        "first_n",
        "first_of",
        "flow",
        "missing",
        "not_",
        "otherwise",
        "signal",
        "sleep",
        "step",
        "this_step",
        "when",
        # running them
        "Handle",
        "Orchestrator",
        "Settings",
        "Trigger",
        # reading what became of them
        "ExecutionStatus",
        "ExecutionView",
        "StepStatus",
        # errors
        "Conflict",
        "DefinitionError",
        "ExecutionFailed",
        "InvalidInput",
        "LeaseLost",
        "NotFound",
        "OrchestratorError",
        "Reject",
        "RetryAfter",
        "StepFailed",
        "TimedOut",
        "Unavailable",
    }

    assert set(orchestrator.__all__) == expected
    assert len(orchestrator.__all__) == len(expected)
    assert all(hasattr(orchestrator, name) for name in expected)


def test_importing_the_package_imports_no_broker() -> None:
    """A client that only starts flows must not pay for Celery, nor be patched by it."""
    code = (
        "import sys, orchestrator; print(sorted({'celery', 'kombu', 'amqp'} & sys.modules.keys()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_the_range_of_pythons_is_the_one_we_promise() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"
    assert PROJECT["tool"]["ruff"]["target-version"] == "py311"


def reachable(moves: Mapping[S, frozenset[S]], start: set[S]) -> set[S]:
    seen: set[S] = set()
    while start - seen:
        seen |= start
        start = {after for before in start for after in moves[before]}
    return seen


def test_every_status_has_its_moves_and_can_be_reached() -> None:
    executions, steps = lifecycle.ExecutionStatus, lifecycle.StepStatus

    assert set(lifecycle.EXECUTION_MOVES) == set(executions)
    assert set(lifecycle.STEP_MOVES) == set(steps)
    assert reachable(lifecycle.EXECUTION_MOVES, {executions.RUNNING}) == set(executions)
    assert reachable(lifecycle.STEP_MOVES, {steps.READY, steps.WAITING}) == set(steps)


def test_the_groups_of_statuses_agree_with_their_moves() -> None:
    moves, running = lifecycle.EXECUTION_MOVES, lifecycle.ExecutionStatus.RUNNING

    assert not lifecycle.TERMINAL_EXECUTION & lifecycle.CLOSING_EXECUTION
    for status in lifecycle.TERMINAL_EXECUTION:
        assert moves[status] <= {running}, "what has ended moves only by an operator's act"
    for status in lifecycle.CLOSING_EXECUTION:
        assert moves[status] < lifecycle.TERMINAL_EXECUTION, "what is closing can only end"
    for step in lifecycle.ENDED_STEP:
        assert lifecycle.StepStatus.RUNNING not in lifecycle.STEP_MOVES[step], "ready comes first"
    assert lifecycle.STEP_MOVES[lifecycle.StepStatus.SUPERSEDED] == frozenset()
