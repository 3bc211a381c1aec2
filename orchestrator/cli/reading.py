"""``list``, ``show``, ``history``, ``explain``: what there is, and why it stands there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import click

from orchestrator.cli import output
from orchestrator.cli.desk import Desk, common, of_flow, pass_desk
from orchestrator.cli.parameters import Condition, narrowed
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import inspection, places, queries, search
from orchestrator.runtime.answers import Answer
from orchestrator.runtime.inspection import Portrait, StepPortrait
from orchestrator.store.search import Found, Search
from orchestrator.store.situation import StepSituation

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
@common
@pass_desk
def show(
    desk: Desk,
    *,
    execution: str,
    flow: str | None,
    step: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show an execution: its state, steps, errors, durations, input and result.

    EXECUTION is an id, the beginning of one, or a key.
    """
    known = desk.execution(execution, flow)
    if step is not None:
        found = inspection.step_portrait(desk.database, known, step)
        document = _of_step_portrait(known, found)
        if as_json:
            output.document(document)
        else:
            _draw_step(found)
        return
    seen = inspection.portrait(desk.database, desk.known, known, limit=limit)
    if as_json:
        output.document(_of_portrait(seen))
    else:
        _draw_portrait(seen)


@click.command()
@click.argument("execution")
@of_flow
@common
@pass_desk
def history(desk: Desk, *, execution: str, flow: str | None, as_json: bool) -> None:
    """Show what happened to an execution, in order."""
    known = desk.execution(execution, flow)
    facts, lines = queries.history(desk.database, known)
    if as_json:
        output.document({**of_facts(facts), "history": [_of_line(line) for line in lines]})
        return
    output.table(
        ["no", "at", "what", "step", "by", "detail"],
        [
            [
                line["position"],
                line["at"],
                line["kind"],
                _place(line),
                line["actor"],
                output.shortened(_detail(line["data"]), _CELL),
            ]
            for line in lines
        ],
        right=["no"],
    )


@click.command()
@click.argument("execution")
@of_flow
@common
@pass_desk
def explain(desk: Desk, *, execution: str, flow: str | None, as_json: bool) -> None:
    """Tell why an execution does not move, and what moves it next."""
    found = inspection.explain(desk.database, desk.known, desk.execution(execution, flow))
    if as_json:
        output.document(
            {
                **of_facts(found.facts),
                "answer": _of_answer(found.whole),
                "steps": [_of_answer(answer) for answer in found.steps],
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


# -- documents -------------------------------------------------------------------------------------


def of_facts(facts: ExecutionFacts) -> dict[str, Any]:
    """Return an execution's row as every command prints it."""
    return {
        "id": facts.id,
        "flow": facts.flow,
        "version": facts.version,
        "key": facts.key,
        "status": facts.status,
        "paused": facts.paused,
        "started": facts.started,
        "finished": facts.finished,
        "failed": facts.failed,
        "reruns": facts.reruns,
        "created_at": facts.created_at,
        "finished_at": facts.finished_at,
    }


def of_found(found: Found) -> dict[str, Any]:
    """Return an execution that was looked for, with its duration and its first error."""
    error = None
    if found.deadline is not None:
        message = queries.passed(found.deadline)
        error = {"step": None, "kind": "DeadlinePassed", "message": message}
    elif found.failed_step is not None:
        error = {
            "step": places.text_of(found.failed_step, found.failed_scope or ""),
            "kind": (found.error or {}).get("kind"),
            "message": (found.error or {}).get("message"),
        }
    return {**of_facts(found.facts), "seconds": found.seconds, "error": error}


def _of_portrait(seen: Portrait) -> dict[str, Any]:
    return {
        **of_facts(seen.facts),
        "seconds": seen.seconds,
        "input": seen.input,
        "result": seen.result,
        "deadline": seen.deadline,
        "passed_deadline": seen.passed_deadline,
        "nodes": [
            {
                "node": node.path,
                "counts": node.counts,
                "attempts": node.attempts,
                "seconds": node.seconds,
            }
            for node in seen.nodes
        ],
        "steps": [_of_step(step) for step in seen.steps],
    }


def _of_step(step: StepSituation) -> dict[str, Any]:
    return {
        "step": places.text_of(step.address.name, step.address.scope),
        "run": step.address.run,
        "id": step.address.id,
        "status": step.status,
        "queue": step.queue,
        "attempt": step.attempt,
        "deaths": step.deaths,
        "counter_updated": step.counter_updated,
        "message_sent": step.sent >= step.dispatch,
        "began_at": step.began_at,
        "ended_at": step.ended_at,
        "seconds": _seconds(step),
        "due_at": step.due_at,
        "closed_by": step.closed_by,
        "error": step.error,
    }


def _of_step_portrait(execution: UUID, found: StepPortrait) -> dict[str, Any]:
    return {
        "execution": execution,
        **_of_step(found.step),
        "output": found.output,
        "progress": found.step.progress,
        "worker": None if found.step.holder is None else found.step.holder.id,
        "earlier": [_of_step(step) for step in found.earlier],
    }


def _of_line(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "position": line["position"],
        "at": line["at"],
        "kind": line["kind"],
        "step": _place(line),
        "run": line["run"],
        "actor": line["actor"],
        "data": line["data"],
    }


def _of_answer(answer: Answer) -> dict[str, Any]:
    return {
        "code": answer.code,
        "step": answer.step,
        "why": answer.why,
        "next": answer.next,
        "command": None if answer.command is None else f"orchestrator {answer.command}",
        "until": answer.until,
    }


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
    active = sorted({step.address.name for step in seen.steps if step.ended_no is None})
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
                    ", ".join(f"{count} {status}" for status, count in node.counts.items()),
                    node.attempts,
                    output.duration(node.seconds),
                ]
                for node in seen.nodes
            ],
            right=["attempts", "took"],
        )
        output.say("")
    output.table(
        ["step", "status", "attempt", "began", "took", "error"],
        [
            [
                places.text_of(step.address.name, step.address.scope),
                step.status,
                step.attempt,
                step.began_at,
                output.duration(_seconds(step)),
                output.shortened(_error(step), _CELL),
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
    error = step.error or {}
    holder = step.holder
    output.pairs(
        {
            "step": places.text_of(step.address.name, step.address.scope),
            "run": step.address.run or None,
            "id": step.address.id,
            "status": step.status,
            "attempt": step.attempt,
            "deaths": step.deaths or None,
            "queue": step.queue,
            "worker": None if holder is None else f"{holder.pid} on {holder.host}",
            "began": None if step.began_at is None else output.moment(step.began_at),
            "took": output.duration(_seconds(step)),
            "due": None if step.due_at is None else output.moment(step.due_at),
            "progress": None if step.progress is None else _told(step.progress),
            "output": None if found.output is None else output.shortened(_told(found.output), 4000),
            "error": _error(step) or None,
            "earlier runs": ", ".join(f"{one.address.run}: {one.status}" for one in found.earlier)
            or None,
        }
    )
    if error.get("traceback"):
        output.say("")
        output.say(str(error["traceback"]).rstrip())


def _named(facts: ExecutionFacts) -> str:
    key = f" {facts.key}" if facts.key is not None else ""
    return f"{facts.flow}{key} ({facts.id})"


def _next(answer: Answer) -> str:
    command = f" -> orchestrator {answer.command}" if answer.command is not None else ""
    said = answer.until is None or "UTC" in answer.next
    until = "" if said else f" (at {output.moment(answer.until)} UTC)"
    return f"{answer.next}{until}{command}"


def _place(line: Mapping[str, Any]) -> str | None:
    return None if line["name"] is None else places.text_of(line["name"], line["scope"] or "")


def _error(step: StepSituation) -> str:
    error = step.error or {}
    return f"{error.get('kind')}: {error.get('message')}" if error else ""


def _detail(data: Any) -> str:
    """Tell what a line of history says beside its kind, an error first and as a sentence."""
    if not isinstance(data, dict):
        return _told(data)
    rest = {name: value for name, value in data.items() if name != "error"}
    error = data.get("error")
    if not isinstance(error, dict):
        return _told(rest) if rest else ""
    attempt = f" (attempt {data['attempt']})" if data.get("attempt", 1) != 1 else ""
    return f"{error.get('kind')}: {error.get('message')}{attempt}"


def _seconds(step: StepSituation) -> float | None:
    if step.began_at is None or step.ended_at is None:
        return None
    return max(0.0, (step.ended_at - step.began_at).total_seconds())


def _told(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
