"""Kinds of values that commands take: JSON, durations, rates, conditions."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import InvalidInput
from orchestrator.flow import durations
from orchestrator.runtime import search
from orchestrator.store.search import Search

if TYPE_CHECKING:
    _Kind = click.ParamType[Any]
else:
    _Kind = click.ParamType  # in click 8.3 it takes no parameters

_UNITS: Mapping[str, float] = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}


class Json(_Kind):
    """JSON text, ``@file`` for a file's, ``@-`` or ``-`` for that of standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the JSON."""
        if not isinstance(value, str):
            return value
        text, where = value, "it"
        try:
            if value in {"-", "@-"}:
                text, where = sys.stdin.read(), "standard input"
            elif value.startswith("@"):
                where = value[1:]
                text = Path(where).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            self.fail(f"{where} cannot be read: {reason}", param, ctx)
        try:
            return json.loads(text, parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            self.fail(f"{where} is not JSON: {error}; text needs quotes of its own", param, ctx)


class Duration(_Kind):
    """``30s``, ``5m``, ``2h``, ``7d``, or a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the duration."""
        try:
            number = re.fullmatch(r"\d+(\.\d+)?", value) if isinstance(value, str) else None
            return durations.parse(float(value) if number else value)
        except InvalidInput as error:
            self.fail(f"{error}; write 30s, 5m, 2h or 7d", param, ctx)


class Rate(_Kind):
    """``20/s``, ``100/m``: how many in a time; as a number a second."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the rate."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(s|sec|m|min|h))?", value)
        rate = float(match[1]) / _UNITS[match[2] or "s"] if match else 0.0
        if rate <= 0:
            self.fail(f"{value!r} is no rate; write 20/s, 100/m or 1000/h", param, ctx)
        return rate


class Condition(_Kind):
    """``flow=checkout status=failed,cancelled since=2h``."""

    name = "condition"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Search:
        """Read the condition."""
        if isinstance(value, Search):
            return value
        try:
            return search.parse(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def narrowed(found: Search, fields: Mapping[str, str | None]) -> Search:
    """Return a search narrowed by options of the same names as its fields.

    Raises:
        click.UsageError: an option has no such value.
    """
    try:
        for name, text in fields.items():
            if text is not None:
                found = search.with_field(found, name, text)
    except InvalidInput as error:
        raise click.UsageError(str(error)) from error
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")
