"""``list``, ``show``, ``history``, ``explain``: what there is, and why it stands there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import click

from orchestrator import codec
from orchestrator.cli import documents, output
from orchestrator.cli.desk import Desk, common, of_flow, pass_desk, secrets_unless, unmasking
from orchestrator.cli.documents import of_facts, of_found
from orchestrator.cli.parameters import Condition, narrowed
from orchestrator.masking import MASK, masked
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import inspection, places, queries, search
from orchestrator.runtime.answers import Answer
from orchestrator.runtime.inspection import Portrait, StepPortrait
from orchestrator.runtime.standing import Standing
from orchestrator.store.search import Found, Search

#: Values are shown so long in a table; ``--json`` has them whole.
_VALUE = 400
_CELL = 70


@click.command("list")
@click.option("--where", type=Condition(), default=Search(), help="As in `flow=x status=failed`.")
@click.option("--flow", metavar="NAMES", help="Flows, separated by commas.")
@click.option(
    "--status",
    metavar="WORDS",
    help="Statuses, separated by commas; also open, ended, paused, stuck.",
)
@click.option("--key", metavar="PATTERN", help="Key; * stands for any text.")
@click.option("--since", metavar="TIME", help="Started later: 2h ago, or 2026-01-31T12:00.")
@click.option("--until", metavar="TIME", help="Started earlier.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@common
@pass_desk
def list_(
    desk: Desk,
    /,
    *,
    where: Search,
    limit: int,
    as_json: bool,
    **fields: str | None,
) -> None:
    """List executions, the newest first."""
    wanted = narrowed(where, fields)
    with output.busy("Looking ...", quiet=as_json):
        found = list(search.matching(desk.database, wanted, limit=limit + 1))
    more = len(found) > limit
    found = found[:limit]
    if as_json:
        output.document({"executions": [of_found(one) for one in found], "more": more})
        return
    if not found:
        output.say("No execution matches.")
        return
    output.table(
        ["id", "flow", "key", "status", "steps", "started", "took", "error"],
        [_row(one) for one in found],
        right=["steps", "took"],
    )
    if more:
        output.say(f"There are more than {limit}; --limit shows more of them.", "dim")


@click.command()
@click.argument("execution")
@of_flow
@click.option("--step", metavar="PLACE", help="One step, as in `charge` or `lines[3]/reserve`.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@unmasking
@common
@pass_desk
def show(
    desk: Desk,
    *,
    execution: str,
    flow: str | None,
    step: str | None,
    limit: int,
    unmasked: bool,
    as_json: bool,
) -> None:
    """Show an execution: its state, steps, errors, durations, input and result.

    EXECUTION is an id, the beginning of one, or a key. What waits says for what. Values of fields
    that are secret by their name (the setting `masked`) are shown as ***.
    """
    known = desk.execution(execution, flow)
    secret = secrets_unless(unmasked, desk)
    if step is not None:
        found = inspection.step_portrait(desk.database, desk.known, known, step)
        shown = _step_without(found, secret)
        if as_json:
            output.document(documents.of_step_portrait(known, shown))
        else:
            _draw_step(shown)
            _tell_masked(found != shown)
        return
    seen = inspection.portrait(desk.database, desk.known, known, limit=limit)
    values = {"input": masked(seen.input, secret), "result": masked(seen.result, secret)}
    if as_json:
        output.document({**documents.of_portrait(seen), **values})
    else:
        _draw_portrait(replace(seen, **values))
        _tell_masked(values != {"input": seen.input, "result": seen.result})


@click.command()
@click.argument("execution")
@of_flow
@unmasking
@common
@pass_desk
def history(desk: Desk, *, execution: str, flow: str | None, unmasked: bool, as_json: bool) -> None:
    """Show what happened to an execution, in order."""
    known = desk.execution(execution, flow)
    secret = secrets_unless(unmasked, desk)
    facts, found = inspection.history(desk.database, desk.known, known)
    lines = [{**line, "data": masked(line["data"], secret)} for line in found]
    if as_json:
        told = [documents.of_line(line) for line in lines]
        output.document({**of_facts(facts), "history": told})
        return
    output.table(
        ["no", "at", "what", "step", "by", "detail"],
        [row for line in lines for row in _history_rows(line)],
        right=["no"],
    )
    _tell_masked(lines != found)


@click.command()
@click.argument("execution")
@of_flow
@common
@pass_desk
def explain(desk: Desk, *, execution: str, flow: str | None, as_json: bool) -> None:
    """Tell why an execution does not move, and what moves it next."""
    known = desk.execution(execution, flow)
    secret = desk.settings.masked
    found = inspection.explain(desk.database, desk.known, known, masked=secret)
    if as_json:
        output.document(
            {
                **of_facts(found.facts),
                "answer": documents.of_answer(found.whole),
                "steps": [documents.of_answer(answer) for answer in found.steps],
                "more": found.more,
            }
        )
        return
    named = _named(found.facts)
    output.say(f"{named}: {found.whole.why}.", output.STYLES.get(str(found.facts.status)))
    output.say(f"Next: {_next(found.whole)}")
    for answer in found.steps:
        output.say(f"  {answer.step} {answer.why}.")
        output.say(f"    next: {_next(answer)}", "dim")
    if found.more:
        output.say(f"  and {output.counted(found.more, 'further step')}")


# -- drawings --------------------------------------------------------------------------------------


def status_of(facts: ExecutionFacts) -> str:
    """Return an execution's status as it is shown: ``paused`` stands for a paused running one."""
    return "paused" if facts.paused and facts.finished_at is None else str(facts.status)


def _row(found: Found) -> list[Any]:
    facts = found.facts
    error = ""
    if found.deadline is not None:
        error = queries.passed(found.deadline)
    elif found.failed_step is not None:
        place = places.text_of(found.failed_step, found.failed_scope or "")
        error = f"{place}: {(found.error or {}).get('kind')}: {(found.error or {}).get('message')}"
    return [
        facts.id,
        facts.flow,
        facts.key,
        status_of(facts),
        f"{facts.finished}/{facts.started}",
        facts.created_at,
        output.duration(found.seconds),
        output.shortened(error, _CELL),
    ]


def _draw_portrait(seen: Portrait) -> None:
    facts = seen.facts
    counts = f"{facts.finished} of {facts.started} ended"
    failed = f", {facts.failed} failed" if facts.failed else ""
    active = sorted({step.row.address.name for step in seen.steps if step.row.ended_no is None})
    output.pairs(
        {
            "execution": facts.id,
            "flow": f"{facts.flow} (version {facts.version})",
            "key": facts.key,
            "status": status_of(facts),
            "steps": f"{counts}{failed}",
            "now at": ", ".join(active) or None,
            "started": output.moment(facts.created_at),
            "ended": None if facts.finished_at is None else output.moment(facts.finished_at),
            "took": output.duration(seen.seconds),
            "deadline": None if seen.deadline is None else output.moment(seen.deadline),
            "why": seen.passed_deadline and queries.passed(seen.passed_deadline),
            "input": output.shortened(_told(seen.input), _VALUE),
            "result": None if seen.result is None else output.shortened(_told(seen.result), _VALUE),
        }
    )
    output.say("")
    if len(seen.nodes) < len(seen.steps):
        output.table(
            ["node", "runs", "attempts", "took"],
            [
                [
                    node.path,
                    ", ".join(f"{count} {state}" for state, count in node.states.items()),
                    node.attempts,
                    output.duration(node.seconds),
                ]
                for node in seen.nodes
            ],
            right=["attempts", "took"],
        )
        output.say("")
    output.table(
        ["step", "status", "attempt", "began", "took", "note"],
        [
            [
                places.text_of(step.row.address.name, step.row.address.scope),
                step.state,
                step.runs or None,
                step.row.began_at,
                output.duration(documents.seconds_of(step)),
                _note(step),
            ]
            for step in seen.steps
        ],
        right=["attempt", "took"],
    )
    total = sum(
        count
        for node in seen.nodes
        for status, count in node.counts.items()
        if status != "superseded"
    )
    if total > len(seen.steps):
        output.say(f"{total - len(seen.steps)} more; --limit shows more of them.", "dim")


def _draw_step(found: StepPortrait) -> None:
    step = found.step
    row, holder = step.row, step.row.holder
    error = row.error or {}
    output.pairs(
        {
            "step": places.text_of(row.address.name, row.address.scope),
            "run": row.address.run or None,
            "id": row.address.id,
            "status": step.state,
            "waits": None if step.wait is None else step.wait.words,
            "attempt": step.runs or None,
            "deaths": row.deaths or None,
            "queue": row.queue,
            "worker": None if holder is None or step.wait else f"{holder.pid} on {holder.host}",
            "began": None if row.began_at is None else output.moment(row.began_at),
            "took": output.duration(documents.seconds_of(step)),
            "due": None if row.due_at is None or step.wait else output.moment(row.due_at),
            "progress": None if row.progress is None else _told(row.progress),
            "output": None if found.output is None else output.shortened(_told(found.output), 4000),
            "error": _error(step) or None,
            "note": step.absorption,
            "earlier runs": ", ".join(
                f"{one.row.address.run}: {one.state}" for one in found.earlier
            )
            or None,
        }
    )
    if error.get("traceback"):
        output.say("")
        output.say(str(error["traceback"]).rstrip())


def _step_without(found: StepPortrait, secret: tuple[str, ...]) -> StepPortrait:
    """Return a step in whose values nothing is left that is secret by its name."""
    row = found.step.row
    shown = replace(row, progress=masked(row.progress, secret))
    return replace(found, step=replace(found.step, row=shown), output=masked(found.output, secret))


def _tell_masked(is_masked: bool) -> None:
    if is_masked:
        output.say(f"{MASK} stands for what is secret by its name; --unmasked shows it.", "dim")


def _named(facts: ExecutionFacts) -> str:
    key = f" {facts.key}" if facts.key is not None else ""
    return f"{facts.flow}{key} ({facts.id})"


def _next(answer: Answer) -> str:
    command = f" -> orchestrator {answer.command}" if answer.command is not None else ""
    said = answer.until is None or "UTC" in answer.next
    until = "" if said else f" (at {output.moment(answer.until)} UTC)"
    return f"{answer.next}{until}{command}"


def _note(step: Standing) -> str:
    """Return what a step run waits for, and the error of its last attempt."""
    waits = "" if step.wait is None else step.wait.words
    error = output.shortened(_error(step), _CELL)
    told = "; ".join(part for part in (waits, error) if part)
    if step.absorption is None:
        return told
    return f"{told} ({step.absorption})" if told else step.absorption


def _error(step: Standing) -> str:
    error = step.row.error or {}
    return f"{error.get('kind')}: {error.get('message')}" if error else ""


def _history_rows(line: Mapping[str, Any]) -> list[list[Any]]:
    """Return a line of history, and under an act how the steps had ended that it opened again."""
    data = line["data"]
    told = [*([line[name] for name in ("position", "at", "kind")]), documents.place_of(line)]
    rows = [[*told, line["actor"], output.shortened(_detail(data), _CELL)]]
    wiped = data.get("reopened", ()) if isinstance(data, dict) else ()
    for one in wiped:
        at = None if one["at"] is None else datetime.fromisoformat(one["at"])
        rest = {name: one[name] for name in ("attempt", "deaths", "error") if name in one}
        detail = output.shortened(_detail(rest if "error" in rest else {}), _CELL)
        rows.append([None, at, f"was {one['was']}", one["step"], None, detail or None])
    if wiped and "reopened_more" in data:
        rows.append([None, None, f"and {data['reopened_more']:,} more", None, None, None])
    return rows


def _detail(data: Any) -> str:
    """Tell what a line of history says beside its kind, an error first and as a sentence."""
    if not isinstance(data, dict):
        return _told(data)
    apart = {"error", "deaths", "reopened", "reopened_more"}
    rest = {name: value for name, value in data.items() if name not in apart}
    error = data.get("error")
    attempt = f" (attempt {data['attempt']})" if data.get("attempt", 1) > 1 else ""
    told = _told(rest) if rest else ""
    if isinstance(error, dict):
        told = f"{error.get('kind')}: {error.get('message')}{attempt}"
    if not data.get("deaths"):
        return told
    times = "once" if data["deaths"] == 1 else f"{data['deaths']} times"
    return f"taken over {times}{'; ' * bool(told)}{told}"


def _told(value: Any) -> str:
    if value is None:
        return ""
    value = codec.plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
