"""``doctor``: versions, settings that lose work, schema, topology, workers; each with its fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from orchestrator.cli import checks, output
from orchestrator.cli.checks import OK, PROBLEM, WARNING, Check
from orchestrator.cli.desk import Desk, common, pass_desk
from orchestrator.errors import OrchestratorError


@click.command(short_help="Check versions, services, settings, schema and workers.")
@click.option("--rows", is_flag=True, help="Also read all rows, and look for contradictions.")
@common
@pass_desk
def doctor(desk: Desk, *, rows: bool, as_json: bool) -> None:
    """Check versions, services, settings known to lose work, schema, queues and workers.

    Exits with 1 if there is a problem; warnings are for you to judge.
    """
    found: list[Check] = []
    with output.busy("Looking ...", quiet=as_json):
        found += [
            *checks.programs(desk),
            *checks.settings(desk),
            *checks.modules(desk),
            *checks.celery(desk),
        ]
        found += _guarded(desk, "database", checks.database)
        is_there = not any(one.name == "database" or _lacks_schema(one) for one in found)
        found += _guarded(desk, "broker", checks.broker)
        if is_there:
            found += _guarded(desk, "queues", checks.queues)
            found += _guarded(desk, "workers", checks.work)
            found += _guarded(desk, "rows", checks.rows) if rows else ()
    problems = sum(check.verdict == PROBLEM for check in found)
    warnings = sum(check.verdict == WARNING for check in found)
    if as_json:
        output.document(
            {
                "healthy": not problems,
                "problems": problems,
                "warnings": warnings,
                "checks": [
                    {
                        "check": check.name,
                        "verdict": check.verdict,
                        "found": check.found,
                        "fix": check.fix,
                    }
                    for check in found
                ],
            }
        )
    else:
        output.table(
            ["verdict", "check", "found"],
            [[check.verdict, check.name, check.found] for check in found],
        )
        for check in found:
            if check.fix is not None:
                output.say(f"{check.verdict}: {check.name}: {check.fix}")
        told = f"{output.counted(problems, 'problem')}, {output.counted(warnings, 'warning')}"
        output.say(f"{told}.", "bold red" if problems else "green")
    if problems:
        click.get_current_context().exit(1)


def _guarded(desk: Desk, name: str, part: Callable[[Desk], Iterator[Check]]) -> list[Check]:
    """Return the checks of a part that needs a service; its absence is one problem."""
    found: list[Check] = []
    try:
        found.extend(part(desk))
    except OrchestratorError as error:
        sentence, _, fix = " ".join(str(error).split()).rpartition("; ")
        found.append(Check(name=name, verdict=PROBLEM, found=sentence, fix=fix))
    return found


def _lacks_schema(check: Check) -> bool:
    return check.name == "schema" and check.verdict != OK
