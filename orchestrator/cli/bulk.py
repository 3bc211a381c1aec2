"""One act on many executions: shown first, at a rate, the first few as a canary.

Each execution is its own transaction, so what is interrupted can be given again: what was done is
then refused or found done, one by one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import click

from orchestrator import codec
from orchestrator.cli import output
from orchestrator.cli.desk import Desk
from orchestrator.cli.documents import of_facts
from orchestrator.cli.reading import status_of
from orchestrator.codec import JSON
from orchestrator.errors import Conflict, InvalidInput, NotFound, OrchestratorError
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import queries, search
from orchestrator.store.search import Found, Search

#: So long a canary may take to end, in seconds.
CANARY_PATIENCE = 300.0
_LOOK = 0.5
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """An act in words.

    Attributes:
        name: the command.
        done: what is said of an execution to which it was done, as in ``cancelled``.
        carry_out: does it; False when the execution was so already.
    """

    name: str
    done: str
    carry_out: Callable[[UUID], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how many first.

    Attributes:
        rate: executions a second; None as fast as it goes.
        canary: executions that must succeed before the others are touched.
        patience: seconds within which they must.
    """

    rate: float | None = None
    canary: int = 0
    patience: float = CANARY_PATIENCE


@dataclass(slots=True)
class Tally:
    """What came of it."""

    done: list[UUID] = field(default_factory=list)
    unchanged: list[UUID] = field(default_factory=list)
    refused: dict[UUID, str] = field(default_factory=dict)
    left_alone: int = 0
    canary: str | None = None

    @property
    def as_asked(self) -> bool:
        """Whether everything that was asked for is so now."""
        return not self.refused and not self.left_alone


def chosen(
    desk: Desk, names: Sequence[str], flow: str | None, where: Search | None
) -> list[ExecutionFacts]:
    """Return the executions that were named or that match.

    Raises:
        click.UsageError: neither or both were given.
    """
    if bool(names) == (where is not None):
        raise click.UsageError("Name one or more executions, or choose them by --where.")
    if where is None:
        ids = dict.fromkeys(desk.execution(name, flow) for name in names)
        return [queries.facts(desk.database, known) for known in ids]
    if flow is not None:
        where = search.with_field(where, "flow", flow)
    with output.busy("Looking ..."):
        found: Iterable[Found] = search.matching(desk.database, where)
        return [one.facts for one in found]


def confirm(
    verb: str, wanted: Sequence[ExecutionFacts], *, named: bool, yes: bool, as_json: bool
) -> None:
    """Ask a person before many executions are changed; a program says beforehand that it means it.

    Args:
        named: they were named one by one, so a program has nothing further to say.

    Raises:
        click.UsageError: a condition chose them, ``yes`` is not given, and nobody can be asked.
    """
    if yes or not wanted:
        return
    many = output.counted(len(wanted), "execution")
    if not (sys.stdin.isatty() and output.on_terminal() and not as_json):
        if not named:
            raise click.UsageError(f"this would {verb} {many}: say --yes, or --dry-run to see them")
        return
    if len(wanted) < 2:
        return
    flows = ", ".join(sorted({facts.flow for facts in wanted}))
    click.confirm(f"{verb.capitalize()} {many} of {flows}?", abort=True)


def carry_out(
    desk: Desk, wanted: Sequence[ExecutionFacts], verb: Verb, pace: Pace, *, quiet: bool
) -> Tally:
    """Do it to one after another."""
    tally = Tally()
    # the oldest first: what has waited longest
    ids = [facts.id for facts in sorted(wanted, key=lambda facts: facts.id)]
    with output.progress(verb.name.capitalize(), len(ids), quiet=quiet) as show:
        first, rest = ids[: pace.canary], ids[pace.canary :]
        _do(first, verb, pace, tally, show)
        if first and rest:
            tally.canary = _judge(desk, first, tally, pace, quiet=quiet)
            if tally.canary is not None:
                tally.left_alone = len(rest)
                return tally
        _do(rest, verb, pace, tally, show)
    return tally


def report(
    desk: Desk,
    verb: str,
    done: str,
    wanted: Sequence[ExecutionFacts],
    tally: Tally,
    *,
    as_json: bool,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Tell what came of it, and exit with 1 if not everything is as it was asked for.

    Args:
        about: what the document says beside.
    """
    if as_json:
        output.document({**_document(desk, verb, wanted, tally), **(about or {})})
    else:
        _tell(desk, verb, done, wanted, tally)
    if not tally.as_asked:
        click.get_current_context().exit(1)


def rehearse(
    verb: str,
    wanted: Sequence[ExecutionFacts],
    *,
    as_json: bool,
    inputs: Mapping[UUID, JSON] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Show what would be done.

    Args:
        inputs: the input that each would have, without what is secret; None if it stays.
        about: what the document says beside.
    """
    if as_json:
        output.document(
            {
                "act": verb,
                "dry_run": True,
                "matched": len(wanted),
                "done": 0,
                "unchanged": 0,
                "refused": 0,
                "left_alone": 0,
                "canary": None,
                "executions": [
                    {**of_facts(facts), "done": False, "reason": None}
                    | ({} if inputs is None else {"input": inputs[facts.id]})
                    for facts in wanted
                ],
                **(about or {}),
            }
        )
        return
    if not wanted:
        output.say("No execution matches: nothing would be done.")
        return
    output.table(
        ["id", "flow", "key", "status", "started"],
        [
            [facts.id, facts.flow, facts.key, status_of(facts), facts.created_at]
            for facts in wanted[:_SHOWN]
        ],
    )
    if len(wanted) > _SHOWN:
        output.say(f"... and {len(wanted) - _SHOWN} more", "dim")
    for facts in wanted[:_SHOWN] if inputs is not None else ():
        text = json.dumps(codec.plain((inputs or {})[facts.id]), ensure_ascii=False)
        output.say(f"The input of {facts.key or facts.id} would be {text}.")
    output.say(f"{verb} would be tried on {output.counted(len(wanted), 'execution')}.")


def _do(
    ids: Sequence[UUID], verb: Verb, pace: Pace, tally: Tally, show: Callable[[int], None]
) -> None:
    began = time.monotonic()
    for number, known in enumerate(ids):
        if pace.rate is not None:
            ahead = began + number / pace.rate - time.monotonic()
            time.sleep(max(0.0, ahead))
        try:
            changed = verb.carry_out(known)
        except (Conflict, NotFound, InvalidInput) as error:
            tally.refused[known] = str(error)
        else:
            (tally.done if changed else tally.unchanged).append(known)
        show(len(tally.done) + len(tally.unchanged) + len(tally.refused))


def _judge(
    desk: Desk, first: Sequence[UUID], tally: Tally, pace: Pace, *, quiet: bool
) -> str | None:
    """Wait for the canary; return why the others are left alone, or None."""
    if tally.refused:
        return f"{len(tally.refused)} of the first {len(first)} were refused"
    desk.orchestrator.flush()
    until = time.monotonic() + pace.patience
    with output.busy(f"Waiting for the first {len(first)} ...", quiet=quiet):
        while True:
            seen = [queries.facts(desk.database, known) for known in first]
            open_ = [facts for facts in seen if facts.finished_at is None]
            failed = [
                facts
                for facts in seen
                if facts.finished_at is not None and facts.status is not ExecutionStatus.SUCCEEDED
            ]
            if failed:
                return f"{len(failed)} of the first {len(first)} did not succeed ({failed[0].id})"
            if not open_:
                return None
            if time.monotonic() > until:
                return (
                    f"{len(open_)} of the first {len(first)} have not ended within "
                    f"{output.duration(pace.patience)}"
                )
            time.sleep(_LOOK)


def _document(
    desk: Desk, verb: str, wanted: Sequence[ExecutionFacts], tally: Tally
) -> dict[str, Any]:
    done, unchanged = set(tally.done), set(tally.unchanged)
    single = len(wanted) == 1
    shown = [_now(desk, facts) if single else facts for facts in wanted]
    return {
        "act": verb,
        "dry_run": False,
        "matched": len(wanted),
        "done": len(done),
        "unchanged": len(unchanged),
        "refused": len(tally.refused),
        "left_alone": tally.left_alone,
        "canary": tally.canary,
        "executions": [
            {**of_facts(facts), "done": facts.id in done, "reason": tally.refused.get(facts.id)}
            for facts in shown
        ],
    }


def _tell(desk: Desk, verb: str, done: str, wanted: Sequence[ExecutionFacts], tally: Tally) -> None:
    if not wanted:
        output.say("No execution matches: nothing was done.")
        return
    if len(wanted) == 1:
        [facts] = wanted
        if facts.id in tally.refused:
            raise click.ClickException(tally.refused[facts.id])
        now = _now(desk, facts)
        key = f" {facts.key}" if facts.key is not None else ""
        word = done if tally.done else f"{done} already"
        output.say(f"{facts.flow}{key} ({facts.id}): {word}; it is {status_of(now)}.")
        return
    parts = [f"{len(tally.done)} of {output.counted(len(wanted), 'execution')} {done}"]
    if tally.unchanged:
        parts.append(f"{len(tally.unchanged)} were so already")
    if tally.refused:
        parts.append(f"{len(tally.refused)} refused")
    output.say(", ".join(parts) + ".")
    for known, reason in list(tally.refused.items())[:_SHOWN]:
        output.say(f"  {known}: {reason}")
    if tally.canary is not None:
        output.say(
            f"Stopped after the canary: {tally.canary}. "
            f"{output.counted(tally.left_alone, 'execution')} left alone; "
            f"`orchestrator explain` says why, then {verb} again."
        )


def _now(desk: Desk, facts: ExecutionFacts) -> ExecutionFacts:
    try:
        return queries.facts(desk.database, facts.id)
    except OrchestratorError:
        return facts
