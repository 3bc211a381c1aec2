"""What operators do: retry, skip, complete, fail, cancel, pause, resume.

Every act is one transaction per execution, written into its journal and the audit with its actor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import click

from orchestrator.cli import bulk, output
from orchestrator.cli.bulk import Pace, Verb
from orchestrator.cli.desk import Desk, by_operator, common, of_flow, pass_desk
from orchestrator.cli.documents import of_facts
from orchestrator.cli.parameters import Condition, Duration, Json, Rate
from orchestrator.cli.reading import status_of
from orchestrator.codec import JSON
from orchestrator.errors import Conflict
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.masking import masked
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import edits, places, queries
from orchestrator.store.search import Search

F = TypeVar("F", bound=Callable[..., Any])

_executions = click.argument("executions", nargs=-1, metavar="[EXECUTION]...")
_where = click.option(
    "--where",
    type=Condition(),
    help="Choose executions instead of naming them, as in `flow=checkout status=failed`.",
)
_steps = click.argument("steps", nargs=-1, required=True, metavar="STEP...")


def _many(command: F) -> F:
    """Give a command what an act on many executions takes."""
    for option in (
        click.option("--rate", type=Rate(), help="At most so many: 20/s, 100/m."),
        click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
        click.option(
            "--yes",
            "-y",
            is_flag=True,
            help="Do not ask before many are changed; --where without a terminal needs it.",
        ),
        _where,
        of_flow,
        _executions,
    ):
        command = option(command)
    return command


@click.command(short_help="Retry executions from their failed steps, or from chosen ones.")
@_many
@click.option(
    "--from",
    "from_steps",
    multiple=True,
    metavar="STEP",
    help="Run this step and all after it again, under new keys; a place as in lines[3]/reserve.",
)
@click.option(
    "--input",
    "changes",
    type=Json(),
    help="New values of parameters, as JSON by name or @file; the others stay.",
)
@click.option(
    "--canary", type=click.IntRange(min=1), help="Retry so many first; go on if they end well."
)
@click.option(
    "--canary-wait",
    type=Duration(),
    default=f"{bulk.CANARY_PATIENCE:.0f}s",
    show_default=True,
    help="How long the canary may take.",
)
@by_operator
@common
@pass_desk
def retry(
    desk: Desk,
    *,
    executions: Sequence[str],
    flow: str | None,
    where: Search | None,
    from_steps: Sequence[str],
    changes: Any,
    canary: int | None,
    canary_wait: timedelta,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    actor: str,
    as_json: bool,
) -> None:
    """Retry executions from their failed steps, or from chosen ones, also with another input.

    Finished steps are not run again unless --from chooses them. With --input the steps that are run
    again get new idempotency keys.
    """
    if not from_steps:  # nothing else can be retried
        where = _meant(where, statuses=(ExecutionStatus.FAILED,))
    wanted = bulk.chosen(desk, executions, flow, where)
    for step in from_steps:
        places.read(step)
    inputs, about = None, {}
    if changes is not None:
        known_code = all(edits.checks_input(desk.database, desk.known, one) for one in wanted)
        about = _of_check("input", known_code, as_json=as_json)
    if dry_run:
        if changes is not None:
            inputs = {one.id: _new_input(desk, one, changes) for one in wanted}
        bulk.rehearse("retry", wanted, as_json=as_json, inputs=inputs, about=about)
        return

    def carry_out(known: UUID) -> bool:
        desk.orchestrator.retry(known, from_steps=from_steps, input=changes, actor=actor)
        return True

    bulk.confirm("retry", wanted, named=where is None, yes=yes, as_json=as_json)
    pace = Pace(rate=rate, canary=canary or 0, patience=canary_wait.total_seconds())
    verb = Verb(name="retry", done="retried", carry_out=carry_out)
    tally = bulk.carry_out(desk, wanted, verb, pace, quiet=as_json)
    bulk.report(desk, "retry", "retried", wanted, tally, as_json=as_json, about=about)


@click.command()
@_many
@by_operator
@common
@pass_desk
def cancel(desk: Desk, /, **given: Any) -> None:
    """Cancel executions: what is not running ends now, what runs is asked to stop."""

    def carry_out(known: UUID) -> bool:
        if desk.orchestrator.cancel(known, actor=given["actor"]):
            return True
        facts = queries.facts(desk.database, known)
        if facts.status in {ExecutionStatus.CANCELLED, ExecutionStatus.CANCELLING}:
            return False
        raise Conflict(f"execution {known} is {facts.status}: it cannot be cancelled any more")

    verb = Verb(name="cancel", done="cancelled", carry_out=carry_out)
    _act_on_many(desk, verb, open=True, **given)


@click.command()
@_many
@by_operator
@common
@pass_desk
def pause(desk: Desk, /, **given: Any) -> None:
    """Pause executions: what runs ends and is counted, nothing further is begun."""

    def carry_out(known: UUID) -> bool:
        return desk.orchestrator.pause(known, actor=given["actor"])

    verb = Verb(name="pause", done="paused", carry_out=carry_out)
    _act_on_many(desk, verb, open=True, paused=False, **given)


@click.command()
@_many
@by_operator
@common
@pass_desk
def resume(desk: Desk, /, **given: Any) -> None:
    """Resume paused executions: what is ready is sent."""

    def carry_out(known: UUID) -> bool:
        return desk.orchestrator.resume(known, actor=given["actor"])

    verb = Verb(name="resume", done="resumed", carry_out=carry_out)
    _act_on_many(desk, verb, open=True, paused=True, **given)


@click.command(short_help="End steps by hand as succeeded, with a result.")
@click.argument("execution")
@_steps
@of_flow
@click.option(
    "--output", "value", type=Json(), required=True, help="The result that stands for it, as JSON."
)
@by_operator
@common
@pass_desk
def complete(desk: Desk, /, *, value: Any, **given: Any) -> None:
    """End steps by hand as succeeded, with the result that they would have had.

    A failed execution goes on with it. A step that runs is taken from its worker.
    """
    _act_on_steps(desk, "complete", "completed", value=value, **given)


@click.command()
@click.argument("execution")
@_steps
@of_flow
@click.option(
    "--output", "value", type=Json(), help="What stands for its result; null if not given."
)
@by_operator
@common
@pass_desk
def skip(desk: Desk, /, *, value: Any, **given: Any) -> None:
    """Go on without the work of these steps; those after them get null, or --output.

    A failed execution goes on with it. A step that runs is taken from its worker.
    """
    _act_on_steps(desk, "skip", "skipped", value=value, **given)


@click.command()
@click.argument("execution")
@click.argument("step")
@of_flow
@click.option("--reason", default="", help="Why, for those who look at the execution later.")
@by_operator
@common
@pass_desk
def fail(
    desk: Desk,
    *,
    execution: str,
    step: str,
    flow: str | None,
    reason: str,
    actor: str,
    as_json: bool,
) -> None:
    """Fail a step that is ready or running, without another attempt."""
    known = desk.execution(execution, flow)
    desk.orchestrator.fail(known, step, reason=reason, actor=actor)
    _tell_of_steps(desk, known, "fail", "failed", [step], as_json=as_json)


def _act_on_many(
    desk: Desk,
    verb: Verb,
    *,
    executions: Sequence[str],
    flow: str | None,
    where: Search | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
    actor: str,
    as_json: bool,
    **meant: Any,
) -> None:
    _ = actor  # the verb has it
    wanted = bulk.chosen(desk, executions, flow, _meant(where, **meant))
    if dry_run:
        bulk.rehearse(verb.name, wanted, as_json=as_json)
        return
    bulk.confirm(verb.name, wanted, named=where is None, yes=yes, as_json=as_json)
    tally = bulk.carry_out(desk, wanted, verb, Pace(rate=rate), quiet=as_json)
    bulk.report(desk, verb.name, verb.done, wanted, tally, as_json=as_json)


def _act_on_steps(
    desk: Desk,
    act: str,
    done: str,
    *,
    execution: str,
    steps: Sequence[str],
    flow: str | None,
    value: Any,
    actor: str,
    as_json: bool,
) -> None:
    known = desk.execution(execution, flow)
    deed = desk.orchestrator.complete if act == "complete" else desk.orchestrator.skip
    deed(known, *steps, output=value, actor=actor)
    about = {}
    if value is not None:
        facts = queries.facts(desk.database, known)
        known_code = all(
            edits.checks_output(desk.database, desk.known, facts, step) for step in steps
        )
        about = _of_check("output", known_code, as_json=as_json)
    _tell_of_steps(desk, known, act, done, steps, as_json=as_json, about=about)


def _of_check(what: str, known_code: bool, *, as_json: bool) -> dict[str, bool]:
    """Tell a person that a value was not checked; return what the document says of it."""
    if not known_code and not as_json:
        click.echo(f"Note: the {what} was not checked: name the module with -A", err=True)
    return {"checked": known_code}


def _new_input(desk: Desk, facts: ExecutionFacts, changes: Any) -> JSON:
    """Return the input that an execution would have, without what is secret by its name."""
    new = edits.rehearsed(desk.database, desk.known, facts, changes, desk.settings)
    shown: JSON = masked(new, desk.settings.masked)
    return shown


def _tell_of_steps(
    desk: Desk,
    known: UUID,
    act: str,
    done: str,
    steps: Sequence[str],
    *,
    as_json: bool,
    about: Mapping[str, bool] | None = None,
) -> None:
    facts = queries.facts(desk.database, known)
    if as_json:
        output.document({"act": act, "steps": list(steps), **of_facts(facts), **(about or {})})
        return
    words = f"{', '.join(steps)} {'was' if len(steps) == 1 else 'were'} {done}"
    output.say(f"{words}; {facts.flow} ({known}) is {status_of(facts)}.")


def _meant(where: Search | None, **fields: Any) -> Search | None:
    """Return a condition that says nothing of the status narrowed to what the act is for."""
    if where is None or where.statuses or where.stuck:
        return where
    if where.open is not None or where.paused is not None:
        return where
    return replace(where, **fields)
