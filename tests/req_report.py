"""`pytest --req-report`: which requirement lines have a passing test.

A test names the line it proves: ``@pytest.mark.req("E4")``. The lines come from the design's
requirements where they lie beside the checkout, else from the markers themselves.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_REQUIREMENTS = Path(__file__).parents[2] / "shared" / "design" / "requirements.md"
_LINE = re.compile(r"[A-Z]\d+[a-z]?")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--req-report",
        action="store_true",
        help="print which requirement lines have a passing test",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--req-report"):
        config.pluginmanager.register(RequirementReport(), "requirement-report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each test's reports carry its lines, also from another process to where they are told."""
    for item in items:
        lines = {str(line) for mark in item.iter_markers("req") for line in mark.args}
        for line in lines:
            if not _LINE.fullmatch(line):
                raise pytest.UsageError(f"{item.nodeid}: {line!r} is no requirement line")
        if lines:
            item.user_properties.append(("req", sorted(lines)))


class RequirementReport:
    """Collects the outcome of every marked test."""

    def __init__(self) -> None:
        self._marked: set[str] = set()
        self._passed: dict[str, set[str]] = {}
        self._failed: dict[str, set[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for line in dict(report.user_properties).get("req", ()):
            self._marked.add(line)
            if report.failed:
                self._failed.setdefault(line, set()).add(report.nodeid)
            elif report.passed and report.when == "call":
                self._passed.setdefault(line, set()).add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        marked = self._marked
        named = set(requirement_lines(_REQUIREMENTS))
        terminalreporter.section("requirement lines")
        for line in sorted(named | marked, key=_order):
            failed, passed = self._failed.get(line, set()), self._passed.get(line, set())
            if failed:
                said = f"FAILED  {', '.join(sorted(failed))}"
            elif passed:
                said = f"proved by {len(passed)}: {', '.join(sorted(passed))}"
            else:
                said = "marked, but no test of it passed" if line in marked else "-"
            stray = "" if not named or line in named else "  (not in the requirements)"
            terminalreporter.write_line(f"{line:<5} {said}{stray}")
        proved = {line for line in self._passed if line not in self._failed}
        terminalreporter.write_line(f"{len(proved & (named or proved))} of {len(named | marked)}")


def requirement_lines(document: Path) -> list[str]:
    """The ids of a requirements document: the letter of the chapter, the number of the line."""
    if not document.exists():
        return []
    lines, chapter = [], ""
    for text in document.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## ([A-Z])\. ", text):
            chapter = heading[1]
        elif text.startswith("## "):
            chapter = ""
        elif chapter and (number := re.match(r"(\d+[a-z]?)\. ", text)):
            lines.append(chapter + number[1])
    return lines


def _order(line: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"([A-Z])(\d+)([a-z]?)", line)
    return (match[1], int(match[2]), match[3]) if match else (line, 0, "")
