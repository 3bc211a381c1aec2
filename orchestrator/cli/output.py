"""How answers are shown: one JSON document, or tables and colours on a terminal, or plain text.

A command makes its document first; what a person reads is drawn from the same values. Text that
came from the database is never taken for markup, nor for control codes of a terminal.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

#: The style of a word wherever it is shown; meaning never hangs on it alone.
STYLES: Mapping[str, str] = {
    "succeeded": "green",
    "ok": "green",
    "running": "cyan",
    "moving": "cyan",
    "ready": "cyan",
    "waiting": "blue",
    "skipped": "dim",
    "superseded": "dim",
    "paused": "yellow",
    "failing": "red",
    "failed": "bold red",
    "quarantined": "bold red",
    "problem": "bold red",
    "warning": "yellow",
    "cancelling": "magenta",
    "cancelled": "magenta",
}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: What takes longer is shown while it goes on, in seconds.
_PATIENCE = 1.0


def on_terminal() -> bool:
    """Return whether a person watches standard output."""
    return sys.stdout.isatty()


def console(*, stderr: bool = False) -> Console:
    """Return where to draw, as wide as the terminal or as the text needs."""
    return Console(highlight=False, stderr=stderr, soft_wrap=not on_terminal())


def document(value: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command."""
    click.echo(
        json.dumps(
            value, ensure_ascii=False, default=_plain, indent=2 if sys.stdout.isatty() else None
        )
    )


def say(sentence: str, style: str | None = None) -> None:
    """Print a line."""
    if on_terminal():
        console().print(Text(clean(sentence), style=style or ""))
    else:
        click.echo(clean(sentence))


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Print a table; in a pipe its columns are set apart by two spaces.

    Args:
        right: columns of numbers.
    """
    if on_terminal():
        console().print(drawn(columns, rows, right=right, title=title))
        return
    if title:
        click.echo(title)
    texts = [[one_line(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[i]) for row in texts) for i in range(len(columns))]
    for row in texts:
        cells = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def drawn(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> Table:
    """Return a table for a terminal; words that are a status have its colour."""
    made = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_coloured(one_line(cell)) for cell in row))
    return made


def pairs(values: Mapping[str, Any]) -> None:
    """Print names and values, a line each; what is None is left out."""
    shown = {name: value for name, value in values.items() if value is not None}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        text = clean(str(value))
        if on_terminal():
            console().print(Text(f"{name:<{width}}  ", style="dim"), _coloured(text), sep="")
        else:
            click.echo(f"{name:<{width}}  {text}")


@contextmanager
def progress(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many of ``total`` are done, once it takes longer than a second.

    Yields what takes the number done so far.
    """
    began = time.monotonic()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    )
    task = bar.add_task(what, total=total)
    started = False

    def show(done: int) -> None:
        nonlocal started
        if not started and time.monotonic() - began > _PATIENCE:
            bar.start()
            started = True
        bar.update(task, completed=done)

    try:
        yield show
    finally:
        if started:
            bar.stop()


@contextmanager
def busy(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something goes on, once it takes longer than a second."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    status = console(stderr=True).status(what)
    begin = threading.Timer(_PATIENCE, status.start)
    begin.daemon = True
    begin.start()
    try:
        yield
    finally:
        begin.cancel()
        begin.join()
        status.stop()


# -- words -----------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Return text without control codes, which a terminal would obey; lines and tabs stay."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(value: Any) -> str:
    """Return a value as it stands in a table's cell."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return moment(value)
    return " ".join(clean(str(value)).split())


def shortened(text: str, length: int = 100) -> str:
    """Return the beginning of a text that is too long for its place."""
    return text if len(text) <= length else text[: length - 3] + "..."


def moment(value: datetime | None) -> str:
    """Return a moment to the second, in UTC, as the database keeps it."""
    return "-" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 execution``, ``3 executions``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _coloured(text: str) -> Text:
    return Text(text, style=STYLES.get(text.partition(" ")[0], ""))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | Enum):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")
