"""What the database and the results say of a run. Nothing here is remembered by who ran it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from orchestrator import ExecutionStatus, ExecutionView, StepStatus
from orchestrator.lifecycle import ENDED_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A run in numbers.

    Attributes:
        files: files whose step run succeeded, by the database's rows.
        expected: files that there are.
        lost: files that are missing in the index.
        twice: lines of the index too many, and ends by which the execution's counters and its
            rows differ.
        again: attempts beyond the first of each step run.
        pause: the longest time in which no step run ended, in seconds.
    """

    status: ExecutionStatus
    files: int
    expected: int
    lost: int
    twice: int
    again: int
    pause: float

    @classmethod
    def of(cls, view: ExecutionView, folder: Path, expected: Sequence[str]) -> Proof:
        """Work it out from an execution's rows, the index it wrote and the files that there are."""
        rows = [step for step in view.steps if step.status is not StepStatus.SUPERSEDED]
        ended = [step for step in rows if step.status in ENDED_STEP]
        done = [step for step in rows if step.status is StepStatus.SUCCEEDED]
        bodies = [step for step in rows if step.items is None]  # a fan-out's own row has no body
        indexed, wanted = Counter(_paths(folder / "index.csv")), Counter(expected)
        moments = sorted(step.ended_at for step in ended if step.ended_at is not None)
        return cls(
            status=view.facts.status,
            files=sum(bool(step.address.scope) for step in done),  # the items of the fan-out
            expected=len(expected),
            lost=(wanted - indexed).total(),
            twice=(indexed - wanted).total()
            + abs(view.facts.finished - len(ended))
            + abs(view.facts.started - len(rows)),
            again=sum(max(0, step.attempt - 1) for step in bodies),
            pause=max(
                (later - earlier).total_seconds()
                for earlier, later in pairwise([view.facts.created_at, *moments])
            ),
        )

    @property
    def holds(self) -> bool:
        """Whether every file is there once."""
        whole = self.files == self.expected and not self.lost and not self.twice
        return whole and self.status is ExecutionStatus.SUCCEEDED

    def line(self, kills: int) -> str:
        """Return the proof in one line."""
        return (
            f"files {self.files} of {self.expected}, lost {self.lost}, counted twice {self.twice},"
            f" kills {kills}, bodies run again {self.again}, longest pause {self.pause:.1f} s"
        )


def _paths(index: Path) -> list[str]:
    with index.open(encoding="utf-8", newline="") as file:
        return [line["path"] for line in csv.DictReader(file)]
