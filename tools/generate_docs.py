"""Write the generated parts of docs/: diagrams from the lifecycle, the table of settings.

python tools/generate_docs.py          # a test fails when what it would write is not there
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator.lifecycle import EXECUTION_MOVES, STEP_MOVES, TERMINAL_EXECUTION, StepStatus
from orchestrator.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def diagram(moves: Mapping[Any, frozenset[Any]], first: StrEnum, last: frozenset[Any]) -> str:
    """Return a Mermaid state diagram of legal moves."""
    lines = [f"    [*] --> {first}"]
    for old, news in moves.items():
        lines += [f"    {old} --> {new}" for new in sorted(news) if new != old]
    lines += [f"    {end} --> [*]" for end in sorted(last)]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def settings() -> str:
    """Return the table of settings."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows) + "\n"


PARTS: Mapping[str, Callable[[], str]] = {
    "executions": lambda: diagram(EXECUTION_MOVES, next(iter(EXECUTION_MOVES)), TERMINAL_EXECUTION),
    "steps": lambda: diagram(STEP_MOVES, StepStatus.READY, frozenset({StepStatus.SUPERSEDED})),
    "settings": settings,
}


def generated(text: str) -> str:
    """Return a document with its generated parts made anew."""
    return _PART.sub(lambda part: part[1] + PARTS[part[2]]() + part[3], text)


def _shown(default: Any) -> str:
    if isinstance(default, timedelta):
        seconds = default.total_seconds()
        for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
            if seconds >= size and not seconds % size:
                return f"{seconds / size:g} {unit}"
        return f"{seconds:g} s"
    if isinstance(default, tuple):
        return "none" if not default else ", ".join(default)
    return f"`{default}`" if isinstance(default, str) else str(default)


if __name__ == "__main__":
    for path in DOCS.glob("*.md"):
        path.write_text(generated(path.read_text("utf-8")), "utf-8")
