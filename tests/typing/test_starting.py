"""Starts are typed by their flows: what they take and what their handles give."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "starting"
ROOT = HERE.parents[2]


def pinned(*, pyright: bool) -> set[tuple[int, str]]:
    """Line and code of each refusal that one checker owes; pyright's codes begin with `report`."""
    lines = enumerate((HERE / "misuse.py").read_text("utf-8").splitlines(), start=1)
    return {
        (number, code)
        for number, line in lines
        if (comment := re.search(r"  # refused: (.*)$", line))
        for code in comment[1].split(", ")
        if code.startswith("report") == pyright
    }


@pytest.mark.req("E12")
def test_mypy_strict_infers_handles_and_refuses_each_misuse_by_line_and_code() -> None:
    files = [str(HERE / name) for name in ("accepted.py", "misuse.py")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    assert {Path(file).name for file, _, _ in found} == {"misuse.py"}, checked.stdout
    assert {(int(line), code) for _, line, code in found} == pinned(pyright=False)


@pytest.mark.req("E12")
def test_pyright_strict_infers_handles_and_refuses_each_misuse_by_line_and_code() -> None:
    program = Path(sys.executable).parent / "basedpyright"
    checked = subprocess.run(
        [program, "--project", HERE, "--pythonpath", sys.executable, "--outputjson"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    told = json.loads(checked.stdout)
    found = [
        (Path(problem["file"]).name, problem["range"]["start"]["line"] + 1, problem["rule"])
        for problem in told["generalDiagnostics"]
        if problem["severity"] == "error"
    ]
    assert told["summary"]["filesAnalyzed"] == 2
    assert {file for file, _, _ in found} == {"misuse.py"}, checked.stdout
    assert {(line, rule) for _, line, rule in found} == pinned(pyright=True)
