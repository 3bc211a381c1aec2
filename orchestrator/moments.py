"""Moments, times of day and durations as text, for the codec: a zone keeps its name."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter


def zone_suffix(value: datetime | time) -> str:
    """The zone's name in brackets (RFC 9557): an offset alone forgets the rules."""
    key = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return f"[{key}]" if key else ""


def duration_text(value: timedelta) -> str:
    """Return a duration in ISO 8601, without a loss: ``-P1DT0H0M0.5S``."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    fraction = f".{value.microseconds:06}" if value.microseconds else ""
    return f"{sign}P{value.days}DT{minutes // 60}H{minutes % 60}M{seconds}{fraction}S"


def read_datetime(text: str) -> datetime:
    """Return the moment that was written, in its zone."""
    moment, zone = _split_zone(text)
    value = datetime.fromisoformat(moment)
    if zone is None or (offset := value.utcoffset()) is None:
        return value
    # the wall time is kept; where it is ambiguous (or does not exist) the offset tells which fold
    local = value.replace(tzinfo=zone)
    return local if local.utcoffset() == offset else local.replace(fold=1)


def read_time(text: str) -> time:
    """Return the time of day that was written."""
    moment, zone = _split_zone(text)
    value = time.fromisoformat(moment)
    return value if zone is None else value.replace(tzinfo=zone)


def _split_zone(text: str) -> tuple[str, ZoneInfo | None]:
    moment, bracket, name = text.partition("[")
    return moment, ZoneInfo(name.removesuffix("]")) if bracket else None


_DURATION = re.compile(r"(-?)P(\d+)DT(\d+)H(\d+)M(\d+)(?:\.(\d{6}))?S")


def read_duration(text: str) -> timedelta:
    """Return a duration that `duration_text` wrote, or any other of ISO 8601."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return TypeAdapter(timedelta).validate_python(text)
    days, hours, minutes, seconds, micros = (int(part or 0) for part in match.groups()[1:])
    value = timedelta(days, seconds, micros, 0, minutes, hours)
    return -value if match[1] else value
