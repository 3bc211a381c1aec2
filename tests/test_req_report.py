"""The requirement report, run on a small suite of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests.req_report import requirement_lines

ROOT = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.req("E1")
@pytest.mark.req("E2")
def test_good(): pass

@pytest.mark.req("E2")
def test_bad(): assert False

@pytest.mark.req("E10")
def test_not_run(): pytest.skip("no")
"""
DOCUMENT = """
# Requirements

## E. Executions

1. First,
   with a second line.
2. Second.

## Ours

1. Not a requirement line.
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = req(line): a requirement\n")
    (folder / "test_suite.py").write_text(SUITE)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.req_report", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_report_says_which_lines_have_a_passing_test(tmp_path: Path) -> None:
    lines = run(tmp_path, "--req-report").stdout.splitlines()

    said = {line.split()[0]: line for line in lines if line.startswith("E")}
    assert "proved by 1: test_suite.py::test_good" in said["E1"]
    assert "FAILED  test_suite.py::test_bad" in said["E2"]
    assert "no test of it passed" in said["E10"]


def test_no_report_is_printed_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert "requirement lines" not in run(tmp_path).stdout


def test_lines_are_read_from_the_chapters_of_the_design(tmp_path: Path) -> None:
    document = tmp_path / "requirements.md"
    document.write_text(DOCUMENT)

    assert requirement_lines(document) == ["E1", "E2"]
    assert requirement_lines(tmp_path / "absent.md") == []
