"""What the handler of a step's failure is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StepError:
    """A step's failure, after its last attempt; what an ``on_error`` handler takes.

    Attributes:
        step: its name in the flow.
        kind: the class of the error, by name: ``"TimedOut"``, ``"ValueError"``.
        message: the text of the error.
        attempts: how often the step was tried.
        input: the arguments of the step by parameter name.
    """

    step: str
    kind: str
    message: str
    attempts: int = 1
    input: dict[str, Any] = field(default_factory=dict)
