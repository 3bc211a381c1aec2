"""Type checkers see a flow as the plain program it looks like, without a plugin.

What must be accepted is accepted by mypy strict and by pyright strict (as basedpyright, which comes
from the package index with its own Node). Of what must be refused, every line says which codes.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import blocks

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MISUSE = HERE / "misuse.py"
ACCEPTED = [HERE / "accepted.py", ROOT / "examples" / "first_flows.py"]


def pinned(own: str) -> set[tuple[int, str]]:
    """Line and code of each refusal that one checker owes; pyright's codes begin with `report`."""
    found: set[tuple[int, str]] = set()
    for number, line in enumerate(MISUSE.read_text("utf-8").splitlines(), start=1):
        comment = re.search(r"  # refused: (.*)$", line)
        for code in comment[1].split(", ") if comment else ():
            if code.startswith("report") == (own == "pyright"):
                found.add((number, code))
    return found


@pytest.mark.req("E6")
def test_mypy_strict_accepts_the_examples_and_refuses_each_misuse_by_line_and_code(
    tmp_path: Path,
) -> None:
    page = tmp_path / "writing_flows.py"
    page.write_text("\n\n".join(blocks(ROOT / "docs" / "writing-flows.md")), "utf-8")
    files = map(str, [*ACCEPTED, page, MISUSE])
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    assert {MISUSE.name} == {Path(file).name for file, _, _ in found}, checked.stdout
    assert {(int(line), code) for _, line, code in found} == pinned("mypy")
    assert not checked.stderr


@pytest.mark.req("E6")
def test_pyright_strict_accepts_the_examples_and_refuses_each_misuse_by_line_and_code() -> None:
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
    assert told["summary"]["filesAnalyzed"] == len(ACCEPTED) + 1
    assert {MISUSE.name} == {file for file, _, _ in found}, checked.stdout
    assert {(line, rule) for _, line, rule in found} == pinned("pyright")
