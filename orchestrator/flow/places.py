"""Places in the user's files: where something was written that cannot be recorded."""

from __future__ import annotations

import inspect
import sysconfig
from dataclasses import dataclass
from types import FunctionType

#: This package, and the library that makes models out of what the user's line gives them.
_SKIPPED = ("orchestrator.flow.", "pydantic.")
_STDLIB = sysconfig.get_path("stdlib") + "/"


def location() -> str:
    """Return ``file:line`` of the user's code that called into this package."""
    frame = inspect.currentframe()
    while frame is not None:
        file = frame.f_code.co_filename
        ours = frame.f_globals.get("__name__", "").startswith(_SKIPPED)
        library = file.startswith((_STDLIB, "<frozen", "<string")) and "site-packages" not in file
        if not (ours or library):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown place"


def model_being_made() -> str | None:
    """Return the pydantic model whose making led here, by name."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "pydantic.main" and "self" in frame.f_locals:
            return type(frame.f_locals["self"]).__name__
        frame = frame.f_back
    return None


def place(function: FunctionType) -> str:
    """Return ``file:line`` of a function's definition."""
    code = getattr(inspect.unwrap(function), "__code__", function.__code__)
    return f"{code.co_filename}:{code.co_firstlineno}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a flow, and where: ``file:line``."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def listed(flow: str, problems: list[Problem], file: str) -> str:
    """Return the problems of a flow as one message, its own file first, in the order of lines."""

    def order(problem: Problem) -> tuple[bool, str, int]:
        name, _, line = problem.place.rpartition(":")
        return name != file, name, int(line) if line.isdigit() else 0

    lines = [str(problem) for problem in sorted(dict.fromkeys(problems), key=order)]
    if len(lines) == 1:
        return lines[0]
    return f"flow {flow!r} has {len(lines)} problems:\n" + "\n".join(f"  {line}" for line in lines)
