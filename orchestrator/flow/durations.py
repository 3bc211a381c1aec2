"""Durations as people write them: ``"30s"``, ``"1m30s"``, ``"2h"``, ``"3d"``, ``"250ms"``."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias

from orchestrator.errors import InvalidInput

Duration: TypeAlias = str | int | float | timedelta

_MICROSECONDS = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_PART = re.compile(r"(?a:(\d+(?:\.\d+)?)(ms|us|d|h|m|s))")
_LONGEST = 999_999_999 * _MICROSECONDS["d"]


def parse(value: Duration) -> timedelta:
    """Return a duration as a timedelta; numbers are seconds.

    >>> parse("1m30s")
    datetime.timedelta(seconds=90)
    """
    match value:
        case timedelta():
            microseconds = value // timedelta(microseconds=1)
        case str():
            microseconds = _from_text(value)
        case bool():
            raise InvalidInput(f"{value!r} is not a duration")
        case int() | float():
            if not math.isfinite(value):
                raise InvalidInput(f"{value!r} is not a duration: it has no end")
            microseconds = round(value * _MICROSECONDS["s"])
        case _:
            raise InvalidInput(
                f"{value!r} is not a duration: write '30s', '1m', '2h', '3d', a number of seconds"
                " or a timedelta"
            )
    if microseconds < 0:
        raise InvalidInput(f"{value!r} is not a duration: it is negative")
    if microseconds > _LONGEST:
        raise InvalidInput(f"{value!r} is not a duration: it is longer than 999,999,999 days")
    return timedelta(microseconds=microseconds)


def text(duration: timedelta) -> str:
    """Return a duration in the shortest form that ``parse`` reads back exactly.

    >>> text(timedelta(seconds=90))
    '1m30s'
    """
    rest = duration // timedelta(microseconds=1)
    parts = []
    for unit, size in _MICROSECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _from_text(value: str) -> int:
    written = value.strip().replace(" ", "")
    total, position = Decimal(0), 0
    while part := _PART.match(written, position):
        total += Decimal(part[1]) * _MICROSECONDS[part[2]]
        position = part.end()
    if position != len(written) or not written:
        raise InvalidInput(
            f"{value!r} is not a duration: write a number and a unit (ms, s, m, h, d), like '30s'"
        )
    return round(total)
