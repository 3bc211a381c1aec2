"""Facts of one execution, and what an answer about it consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from orchestrator.flow.graph import Graph
from orchestrator.records import ExecutionFacts
from orchestrator.store.situation import Living, StepSituation


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The facts of one execution.

    Attributes:
        now: the database's time.
        steps: step runs that have not ended or that failed, the urgent ones first.
        more: how many such step runs there are beyond these.
        arrived: of the nodes that joins wait for, by (name, scope), where each stands, in words.
        workers: worker processes that have not ended.
        quarantined: by (name, scope) why a step run was set aside.
        graph: of its definition; None when it cannot be read by this release.
        deadline: the one by which it failed; None if it did not fail so.
    """

    facts: ExecutionFacts
    now: datetime
    steps: Sequence[StepSituation]
    more: int = 0
    arrived: Mapping[tuple[str, str], str] = field(default_factory=dict)
    workers: Sequence[Living] = ()
    quarantined: Mapping[tuple[str, str], str] = field(default_factory=dict)
    graph: Graph | None = None
    deadline: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Why one step, or the whole execution, stands where it stands.

    Attributes:
        code: the reason as a word that does not change.
        step: the step's place, as in ``lines[3]/reserve``; None for the whole execution.
        why: what it waits for.
        next: what moves it.
        command: what an operator may do about it, after ``orchestrator``.
        until: when the next thing happens by itself, if that is known.
    """

    code: str
    step: str | None
    why: str
    next: str
    command: str | None = None
    until: datetime | None = None


def clock(moment: datetime | None) -> str:
    """Return a time of today."""
    return "an unknown time" if moment is None else f"{moment:%H:%M:%S} UTC"


def when(moment: datetime | None) -> str:
    """Return a moment with its day, as in ``at 2026-01-31 12:00:00 UTC``."""
    return "at an unknown time" if moment is None else f"at {moment:%Y-%m-%d %H:%M:%S} UTC"
