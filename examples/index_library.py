"""An index of the source files of Python's standard library, made by a flow that survives crashes.

    python -m examples.index_library            # everything it needs is started and stopped by it
    python -m examples.index_library --kill     # the same while its workers are killed

List the files, read each of them on whatever worker is free, write what was found into one table.
Steps are plain functions. Any of them may be run again when its worker dies, so the one that
touches the outside world, `write_index`, leaves the same file however often it runs.
"""

import ast
import csv
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import each, flow, step

LIBRARY = Path(sysconfig.get_path("stdlib"))

_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)


@dataclass(frozen=True)
class Entry:
    """One line of the index: what a source file defines and imports, or why it cannot be parsed."""

    path: str
    size: int
    definitions: list[str]
    imports: list[str]
    error: str | None


@dataclass(frozen=True)
class Summary:
    """The index in numbers."""

    files: int
    size: int
    definitions: int
    packages: int
    most_imported: list[tuple[str, int]]
    not_parsed: dict[str, str]


@step
def list_files(limit: int | None) -> list[str]:
    """List the library's source files without what was installed beside them."""
    paths = (path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py") if path.is_file())
    ours = (path for path in paths if not {"site-packages", "dist-packages"} & set(path.parts))
    return sorted(path.as_posix() for path in ours)[:limit]


@step
def index_file(path: str) -> Entry:
    """Parse one file; one that does not parse is a result too, with its error."""
    source = (LIBRARY / path).read_bytes()
    definitions: list[str] = []
    imports: set[str] = set()
    error = None
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source, filename=path)
    except (SyntaxError, ValueError) as problem:
        error = str(problem)
    else:
        for prefix, statement in _statements(tree):
            imports.update(_imported(statement))
            if isinstance(statement, _DEFINITIONS):
                definitions.append(prefix + statement.name)
    return Entry(path, len(source), definitions, sorted(imports), error)


@step
def write_index(entries: list[Entry], folder: str) -> Summary:
    """Write ``index.csv``, a line per file, and sum it up."""
    unfinished = Path(folder) / f"index.csv.{os.getpid()}"  # two workers may be at it at once
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "bytes", "definitions", "imports", "error"])
        for entry in entries:
            names = " ".join(entry.definitions), " ".join(entry.imports)
            table.writerow([entry.path, entry.size, *names, entry.error])
    unfinished.replace(Path(folder) / "index.csv")

    imported = Counter(name for entry in entries for name in entry.imports)
    return Summary(
        files=len(entries),
        size=sum(entry.size for entry in entries),
        definitions=sum(len(entry.definitions) for entry in entries),
        packages=len(imported),
        most_imported=sorted(imported.items(), key=lambda item: (-item[1], item[0]))[:5],
        not_parsed={entry.path: entry.error for entry in entries if entry.error is not None},
    )


@flow
def index_library(folder: str, limit: int | None = None) -> Summary:
    """Index the library: list, parse each file, join."""
    paths = list_files(limit)
    entries = each(paths, index_file.options(window=50))
    return write_index(entries, folder)


def _statements(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield every statement below a node, each with the names of what it is defined in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _BLOCKS):
            yield prefix, child
            inner = f"{prefix}{child.name}." if isinstance(child, _DEFINITIONS) else prefix
            yield from _statements(child, inner)


def _imported(statement: ast.AST) -> Iterator[str]:
    """Yield the packages that a statement imports, but not the one the file is part of."""
    if isinstance(statement, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        yield statement.module.partition(".")[0]


if __name__ == "__main__":
    from examples.demo import main

    main()
