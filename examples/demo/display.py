"""What the demo shows: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.index_library import Summary

console = Console(highlight=False)


def say(sentence: str, style: str = "") -> None:
    """Print a line; on a terminal above the bar."""
    console.print(sentence, style=style or None, markup=False, soft_wrap=True)


class Bar:
    """Progress over a number of files; a context manager.

    In a pipe it prints a line for each tenth, if ``lines`` says so.
    """

    def __init__(self, what: str, total: int, *, lines: bool = True) -> None:
        self._what, self._total = what, total
        self._lines = lines and not console.is_terminal
        self._tenths = 0
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            expand=True,
        )
        self._bar = self._progress.add_task(what, total=total)

    def show(self, done: int) -> None:
        """Show how many files are done."""
        self._progress.update(self._bar, completed=done)
        tenths = done * 10 // max(1, self._total)
        if tenths > self._tenths and self._lines:
            seconds = time.monotonic() - self._began
            say(f"  {self._what}: {done} of {self._total} files after {seconds:.1f} s")
        self._tenths = tenths

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._progress.stop()


def show_summary(summary: Summary) -> None:
    """Print the index in numbers."""
    table = Table("files", "bytes", "definitions", "packages imported", "not parsed")
    for column in table.columns:
        column.justify = "right"
    numbers = (summary.files, summary.size, summary.definitions, summary.packages)
    table.add_row(*(f"{number:,}" for number in (*numbers, len(summary.not_parsed))))
    console.print(table)
    if summary.most_imported:
        most = ", ".join(f"{name} {count:,}" for name, count in summary.most_imported)
        say(f"Imported by the most files: {most}.")
    for path, error in sorted(summary.not_parsed.items()):
        say(f"  not parsed: {path}: {error}")
