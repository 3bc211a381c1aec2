"""The closed set of what an attempt can come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from orchestrator.codec import JSON


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The body returned: its result as encoded JSON value and as the same in text."""

    value: JSON
    text: str


@dataclass(frozen=True, slots=True)
class Expanded:
    """The items of an each are known."""

    items: list[JSON]


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed and another one follows after ``delay``."""

    delay: timedelta
    error: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """The step failed for good; ``quarantine`` says why it is also set aside."""

    error: Mapping[str, Any]
    quarantine: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The node is not to run; successors are ordered without its value."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sleeps:
    """A sleep: until a moment, or for a time from its first look on."""

    until: datetime | None = None
    lasts: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Awaits:
    """A wait for a signal; ``default`` is the encoded value when none came ``within`` the time."""

    signal: str
    within: timedelta | None
    default: JSON
    has_default: bool


@dataclass(frozen=True, slots=True)
class Calls:
    """A child execution of a flow, with its encoded input by parameter name."""

    flow: str
    document: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing to do before ``until`` (None: no time), or before somebody wakes the row."""

    until: datetime | None = None
    child: UUID | None = None


#: Decided under the execution's lock: what there is to wait for changes under it.
Wait: TypeAlias = Sleeps | Awaits | Calls
Outcome: TypeAlias = Succeeded | Expanded | Retried | Failed | Skipped | Wait | Parked
