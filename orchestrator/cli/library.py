"""The flow of ``orchestrator demo``: index a package of Python's standard library.

List its files, read each of them on whatever process is free, sum up. Steps are plain functions.
"""

import ast
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

from orchestrator import each, flow, step

LIBRARY = Path(sysconfig.get_path("stdlib"))


@dataclass(frozen=True)
class Entry:
    """What one source file holds."""

    path: str
    lines: int
    definitions: int


@dataclass(frozen=True)
class Summary:
    """A package in numbers."""

    package: str
    files: int
    lines: int
    definitions: int


def packages() -> list[str]:
    """Return the packages of the standard library, without its tests."""
    left_out = {"test", "site-packages", "dist-packages", "__pycache__"}
    found = (path.parent for path in LIBRARY.glob("*/__init__.py"))
    return sorted(path.name for path in found if path.name not in left_out)


@step
def list_files(package: str) -> list[str]:
    """List the source files of a package."""
    paths = (LIBRARY / package).rglob("*.py")
    return sorted(path.relative_to(LIBRARY).as_posix() for path in paths if path.is_file())


@step
def read_file(path: str) -> Entry:
    """Read and parse one file; one that does not parse defines nothing."""
    source = (LIBRARY / path).read_bytes()
    definitions = 0
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source, filename=path)
    except (SyntaxError, ValueError):
        pass
    else:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        definitions = sum(isinstance(node, kinds) for node in ast.walk(tree))
    return Entry(path, source.count(b"\n"), definitions)


@step
def sum_up(package: str, entries: list[Entry]) -> Summary:
    """Sum up what was read."""
    return Summary(
        package=package,
        files=len(entries),
        lines=sum(entry.lines for entry in entries),
        definitions=sum(entry.definitions for entry in entries),
    )


@flow
def index_package(package: str) -> Summary:
    """Index one package: list, read each file, sum up."""
    paths = list_files(package)
    return sum_up(package, each(paths, read_file.options(window=50)))


def plainly(package: str) -> Summary:
    """Do the same without any flow: outside of one, a step is the plain function."""
    return sum_up(package, [read_file(path) for path in list_files(package)])
