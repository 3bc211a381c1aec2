"""mypy and pyright, strict, over files that say in their comments what is to be refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pinned(misuse: Path, *, pyright: bool) -> set[tuple[str, int, str]]:
    """File, line and code of each refusal that a checker owes; pyright's begin with `report`."""
    lines = enumerate(misuse.read_text("utf-8").splitlines(), start=1)
    return {
        (misuse.name, number, code)
        for number, line in lines
        if (comment := re.search(r"  # refused: (.*)$", line))
        for code in comment[1].split(", ")
        if code.startswith("report") == pyright
    }


def mypy(files: Iterable[Path]) -> set[tuple[str, int, str]]:
    """File, line and code of each error that mypy strict finds."""
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not checked.stderr
    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    assert len(found) == len(re.findall(": error:", checked.stdout)), checked.stdout
    return {(Path(file).name, int(line), code) for file, line, code in found}


def pyright(project: Path, *, files: int) -> set[tuple[str, int, str]]:
    """File, line and rule of each error that pyright finds in a project of so many files."""
    program = Path(sys.executable).parent / "basedpyright"
    checked = subprocess.run(
        [program, "--project", project, "--pythonpath", sys.executable, "--outputjson"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(checked.stdout)
    assert told["summary"]["filesAnalyzed"] == files
    return {
        (Path(problem["file"]).name, problem["range"]["start"]["line"] + 1, problem["rule"])
        for problem in told["generalDiagnostics"]
        if problem["severity"] == "error"
    }
