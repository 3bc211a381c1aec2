"""Why an execution does not move, and what moves it next: a pure function over its rows.

Nothing here asks a broker or a worker: what the rows say is what every worker and sweep goes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.lifecycle import TERMINAL_EXECUTION, ExecutionStatus, StepStatus
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import queries, standing
from orchestrator.runtime.answers import Answer, Situation, when
from orchestrator.runtime.step_answers import of_step, place_of
from orchestrator.store.situation import StepSituation

_E, _S = ExecutionStatus, StepStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole execution in one answer, then each step that is open or failed.

    Attributes:
        more: how many further steps there are that are not listed.
    """

    facts: ExecutionFacts
    whole: Answer
    steps: tuple[Answer, ...]
    more: int = 0


def explain(situation: Situation) -> Explanation:
    """Answer why an execution does not move and what moves it next."""
    facts = situation.facts
    paused = facts.paused and facts.status is _E.RUNNING
    # a loser that still runs is waited for: it is counted at its end
    rows = [row for row in situation.steps if row.absorbed_by is None or row.status is _S.RUNNING]
    if facts.status in TERMINAL_EXECUTION:
        rows = [row for row in rows if row.status is _S.FAILED]
    answers = tuple(of_step(row, situation, paused=paused) for row in rows)
    return Explanation(
        facts=facts,
        whole=_of_execution(situation, rows, answers, paused=paused),
        steps=answers,
        more=situation.more,
    )


def _of_execution(
    situation: Situation,
    rows: Sequence[StepSituation],
    answers: Sequence[Answer],
    *,
    paused: bool,
) -> Answer:
    facts = situation.facts
    match facts.status:
        case _E.SUCCEEDED:
            return _whole("succeeded", f"it succeeded {when(facts.finished_at)}", "nothing: done")
        case _E.CANCELLED:
            return _whole(
                "cancelled",
                f"it was cancelled {when(facts.finished_at)}",
                "an operator may run it again from a step",
                f"retry {facts.id} --from STEP",
            )
        case _E.FAILED:
            return _failed(situation, answers)
        case _E.FAILING | _E.CANCELLING:
            return _closing(situation, rows)
        case _E.RUNNING:
            return _running(situation, rows, answers, paused=paused)


def _failed(situation: Situation, answers: Sequence[Answer]) -> Answer:
    facts = situation.facts
    if situation.deadline is not None:
        return _whole(
            "deadline",
            queries.passed(situation.deadline),
            "an operator retries it, and it goes on without a deadline",
            f"retry {facts.id}",
        )
    first = next((answer for answer in answers if answer.code == "quarantined"), None) or next(
        iter(answers), None
    )
    if first is None:
        why, command = "it failed, and no failed step is left", f"retry {facts.id} --from STEP"
        return _whole("failed", why, "an operator runs it again from a step", command)
    why = f"step {first.step} {first.why}"
    return _whole("failed", why, "an operator retries it", first.command)


def _closing(situation: Situation, rows: Sequence[StepSituation]) -> Answer:
    running = [row for row in rows if row.status is _S.RUNNING]
    word = "failing" if situation.facts.status is _E.FAILING else "being cancelled"
    names = _listed([place_of(row) for row in running])
    return _whole(
        str(situation.facts.status),
        f"it is {word}, and {_are(running)} still running: {names}" if running else f"it is {word}",
        "it ends when these have ended or their workers are gone",
        until=max((row.lease_until for row in running if row.lease_until), default=None),
    )


def _running(
    situation: Situation,
    rows: Sequence[StepSituation],
    answers: Sequence[Answer],
    *,
    paused: bool,
) -> Answer:
    if paused:
        running = [row for row in rows if row.status is _S.RUNNING]
        still = f"; {_are(running)} still running" if running else ""
        return _whole(
            "paused",
            f"it is paused{still}",
            "an operator resumes it",
            f"resume {situation.facts.id}",
        )
    at_work = [pair for pair in zip(rows, answers, strict=True) if pair[1].code == "running"]
    lost = [row for row, _ in at_work if standing.has_lost(row)]
    moving = [answer for row, answer in at_work if not standing.has_lost(row)]
    if moving:
        names = _listed([answer.step or "" for answer in moving])
        return _whole("moving", f"it is moving: {names} {_run(moving)}", "nothing is to be done")
    for code in _WEIGHTS:
        first = next((answer for answer in answers if answer.code == code), None)
        if first is not None:
            return _whole(
                first.code,
                f"step {first.step} {first.why}",
                first.next,
                first.command,
                until=first.until,
            )
    if lost:
        return _losers(lost)
    return _whole(
        "nothing-open",
        "no step of it is open: its rows contradict its counters",
        "`orchestrator doctor --rows` says more",
        "doctor --rows",
    )


def _losers(rows: Sequence[StepSituation]) -> Answer:
    """Tell that what lost still runs: it is counted at its end."""
    names = _listed([place_of(row) for row in rows])
    merges = _listed(sorted({row.absorbed_by for row in rows if row.absorbed_by}))
    return _whole(
        "loser-awaited",
        f"it waits for the end of {names}, which lost to others at {merges} and still {_run(rows)}",
        "it goes on when the body notices that it is asked to stop, or ends by itself",
        until=max((row.lease_until for row in rows if row.lease_until), default=None),
    )


#: Codes of steps by how much they explain, the gravest first.
_WEIGHTS = (
    "no-sweep",
    "no-worker",
    "no-function",
    "no-consumer",
    "orphaned",
    "lease-over",
    "unsent",
    "unordered-message",
    "unclaimed",
    "overdue",
    "postponed",
    "retry-due",
    "due-later",
    "child-awaited",
    "signal-awaited",
    "sleeping",
    "items-open",
    "join-waits",
    "merge-waits",
    "failed",
)


def _whole(
    code: str, why: str, next_: str, command: str | None = None, until: datetime | None = None
) -> Answer:
    return Answer(code=code, step=None, why=why, next=next_, command=command, until=until)


def _are(rows: Sequence[object]) -> str:
    return f"{len(rows)} {'step is' if len(rows) == 1 else 'steps are'}"


def _run(answers: Sequence[object]) -> str:
    return "runs" if len(answers) == 1 else "run"


def _listed(names: Sequence[str], shown: int = 3) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest
