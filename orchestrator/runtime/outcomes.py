"""The closed set of what an attempt can come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

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


Outcome: TypeAlias = Succeeded | Expanded | Retried | Failed
