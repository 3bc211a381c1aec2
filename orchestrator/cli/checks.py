"""What the doctor looks at; each check says what was found, and the fix when it is not ok."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from orchestrator.cli.desk import Desk
from orchestrator.errors import OrchestratorError
from orchestrator.flow.graph import StepNode
from orchestrator.runtime import overview, standing
from orchestrator.runtime import queues as queues_of_steps
from orchestrator.settings import without_password
from orchestrator.store import health, migrate, situation
from orchestrator.store import search as searching

OK, WARNING, PROBLEM = "ok", "warning", "problem"

#: From, before: versions that were run, as in pyproject.toml.
_PACKAGES: Mapping[str, tuple[str, str, str]] = {
    "celery": ("5.7", "5.8", "pip install 'celery>=5.7,<5.8'"),
    "kombu": ("5.7", "5.8", "pip install 'kombu>=5.7,<5.8'"),
    "psycopg": ("3.3", "3.4", "pip install 'psycopg[binary]>=3.3,<3.4'"),
    "sqlalchemy": ("2.1", "2.2", "pip install 'sqlalchemy>=2.1,<2.2'"),
}
_FLOWER = ("2.2", "3")
_RABBITMQ = "3.10"
_POSTGRESQL = 140000
_CLOCKS_DIFFER = 5.0  # seconds; ids and times come from two clocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; ``fix`` says what to do when it is not ok."""

    name: str
    verdict: str
    found: str
    fix: str | None = None


def programs(_: Desk) -> Iterator[Check]:
    """Check Python and the packages whose versions matter."""
    python = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = None if fits else "use Python 3.11, 3.12 or 3.13"
    yield Check(name="Python", verdict=OK if fits else PROBLEM, found=python, fix=fix)
    for name, (lowest, before, cure) in _PACKAGES.items():
        yield _package(name, lowest, before, cure)
    try:
        version("flower")
    except PackageNotFoundError:
        yield Check(name="flower", verdict=OK, found="not installed; nothing needs it")
    else:
        yield _package("flower", *_FLOWER, "pip install 'celery-orchestrator[flower]'")


def _package(name: str, lowest: str, before: str, cure: str) -> Check:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name=name, verdict=PROBLEM, found="not installed", fix=cure)
    if _parts(lowest) <= _parts(found) < _parts(before):
        return Check(name=name, verdict=OK, found=found)
    return Check(
        name=name,
        verdict=PROBLEM,
        found=f"{found}, and {lowest} up to {before} was tried",
        fix=cure,
    )


def settings(desk: Desk) -> Iterator[Check]:
    """Check the settings of this process."""
    try:
        settings = desk.settings
    except OrchestratorError as error:
        raise click.ClickException(" ".join(str(error).split())) from error
    yield Check(
        name="settings",
        verdict=OK,
        found=f"{without_password(settings.database_url)}, {without_password(settings.broker_url)}",
    )


def modules(desk: Desk) -> Iterator[Check]:
    """Check that the modules with the flows can be imported."""
    try:
        flows = desk.catalogue.flows
    except OrchestratorError as error:
        yield Check(
            name="flows",
            verdict=PROBLEM,
            found=" ".join(str(error).split()),
            fix="correct ORCHESTRATOR_MODULES or PYTHONPATH: a worker with these would not start",
        )
        return
    if flows:
        yield Check(name="flows", verdict=OK, found=", ".join(sorted(flows)))
        return
    yield Check(
        name="flows",
        verdict=WARNING,
        found="no module holds a flow",
        fix="a worker needs ORCHESTRATOR_MODULES=shop.flows; without it only reading works",
    )


def database(desk: Desk) -> Iterator[Check]:
    """Check the server, its schema, and settings by which it loses work."""
    schema = migrate.status(desk.settings.database_url)
    facts = desk.database.run_calm(health.server)
    good = facts.version >= _POSTGRESQL
    yield Check(
        name="PostgreSQL",
        verdict=OK if good else PROBLEM,
        found=facts.shown_version,
        fix=None if good else "PostgreSQL 14 or later is needed",
    )
    if schema.unknown:
        word, fix = PROBLEM, "install the release of celery-orchestrator that migrated it"
    elif schema.pending:
        word, fix = PROBLEM, "run `orchestrator db upgrade`"
    else:
        word, fix = OK, None
    found = schema.current or "none"
    behind = f", this release brings {schema.newest}" if word != OK else ""
    yield Check(name="schema", verdict=word, found=f"{found}{behind}", fix=fix)
    yield from durability(facts)
    yield from reach(facts, pooled=desk.settings.transaction_pooling)


def durability(facts: health.ServerFacts) -> Iterator[Check]:
    """Check the settings by which a server loses what it has committed."""
    for name, bad, verdict, loses in (
        ("fsync", {"off"}, PROBLEM, "a crash of the machine may lose or damage everything"),
        ("full_page_writes", {"off"}, PROBLEM, "a crash of the machine may damage tables"),
        ("synchronous_commit", {"off"}, PROBLEM, "a crash loses commits of the last moments"),
        ("autovacuum", {"off"}, WARNING, "tables grow, and every step becomes slower"),
    ):
        value = facts.settings[name]
        is_bad = value in bad
        yield Check(
            name=name,
            verdict=verdict if is_bad else OK,
            found=f"{value}: {loses}" if is_bad else value,
            fix=f"set {name} = on in postgresql.conf (or ALTER DATABASE .. SET)"
            if is_bad
            else None,
        )
    if facts.encoding != "UTF8":
        yield Check(
            name="encoding",
            verdict=PROBLEM,
            found=f"{facts.encoding} cannot hold every text",
            fix="make the database with ENCODING 'UTF8'",
        )


def reach(facts: health.ServerFacts, *, pooled: bool) -> Iterator[Check]:
    """Check what stands between this process and the server."""
    if facts.is_standby:
        yield Check(
            name="server",
            verdict=PROBLEM,
            found="a standby, which takes no writes",
            fix="point ORCHESTRATOR_DATABASE_URL at the primary",
        )
    if not facts.same_session and not pooled:
        yield Check(
            name="pooler",
            verdict=PROBLEM,
            found="transactions of one connection reach different server processes",
            fix="point workers at PostgreSQL itself, or set ORCHESTRATOR_TRANSACTION_POOLING=true",
        )
    share = facts.used / facts.most
    yield Check(
        name="connections",
        verdict=WARNING if share > 0.8 else OK,
        found=f"{facts.used} of {facts.most}",
        fix="raise max_connections: a worker needs 3, and 2 more per process of its pool"
        if share > 0.8
        else None,
    )
    apart = abs((datetime.now(UTC) - facts.now).total_seconds())
    yield Check(
        name="clocks",
        verdict=WARNING if apart > _CLOCKS_DIFFER else OK,
        found=f"{apart:.1f} s between this machine and the database",
        fix="synchronise the clocks (NTP): ids are drawn here, times there"
        if apart > _CLOCKS_DIFFER
        else None,
    )


def broker(desk: Desk) -> Iterator[Check]:
    """Check which broker answers."""
    from orchestrator.workers import inspection  # noqa: PLC0415 - imports Celery

    facts = inspection.facts(desk.broker)
    if not facts.is_amqp:
        yield Check(
            name="broker",
            verdict=WARNING,
            found=f"{facts.product}: a killed worker takes its messages with it",
            fix="fine for development: the sweeps send them again; use RabbitMQ in production",
        )
        return
    known = facts.version or "of unknown version"
    fits = facts.version is None or _parts(facts.version) >= _parts(_RABBITMQ)
    yield Check(
        name="broker",
        verdict=OK if fits else PROBLEM,
        found=f"{facts.product} {known}",
        fix=None if fits else f"RabbitMQ {_RABBITMQ} or later is needed, for quorum queues",
    )


def queues(desk: Desk) -> Iterator[Check]:
    """Check the queues of steps against the declaration of this release."""
    from orchestrator.workers import inspection  # noqa: PLC0415 - imports Celery

    names = {desk.settings.queue, desk.settings.long_queue}
    names |= {tally.queue for tally in overview.queues(desk.database)}
    depths = inspection.depths(desk.broker, sorted(names))
    differing = inspection.differences(desk.broker, sorted(names))
    foreign = _foreign(desk) - {desk.settings.queue, desk.settings.long_queue}
    for depth in depths:
        name, problem = depth.queue, differing.get(depth.queue)
        yield queue(name, depth.messages, depth.dead, problem, foreign=name in foreign)


def _foreign(desk: Desk) -> set[str]:
    """Return the queues that the user's own application declares: those of adopted tasks."""
    found = {
        flow.definition.step_options(path).queue
        for flow in desk.known.flows.values()
        for path in flow.definition.graph.paths()
        if isinstance(node := standing.node_at(path, flow.definition.graph), StepNode)
        and desk.known.functions[node.function].task is not None
    }
    if desk.attached:
        found.add(desk.app.conf.task_default_queue)
    return {name for name in found if name is not None}


def queue(
    name: str,
    messages: int | None,
    dead: int | None,
    problem: str | None,
    *,
    foreign: bool = False,
) -> Check:
    """Check one queue; ``problem`` is what the broker has against our declaration of it.

    Args:
        foreign: the user's application made it in its own way, for its own messages as well.
    """
    if messages is None:
        found = "not made yet: the first worker that consumes it makes it"
        return Check(name=f"queue {name}", verdict=OK, found=found)
    if problem is not None and foreign:
        return Check(
            name=f"queue {name}",
            verdict=WARNING,
            found=f"{messages} messages; your application made it, without a delivery limit and "
            "dead letters",
            fix="nothing if you can live with it: a step whose message kills its worker is set "
            "aside by its row, but a message that is none of ours may circle; give the steps a "
            "queue of their own with queue=",
        )
    if problem is not None:
        return Check(
            name=f"queue {name}",
            verdict=PROBLEM,
            found=f"not as this release declares it: {problem}",
            fix="delete it when it is empty and let a worker make it anew: without a delivery "
            "limit and dead letters a message that kills its worker circles for ever",
        )
    if dead:
        return Check(
            name=f"queue {name}",
            verdict=WARNING,
            found=f"{messages} messages, {dead} dead letters",
            fix="`orchestrator list --status stuck` and `quarantine list` tell what they belong to",
        )
    return Check(name=f"queue {name}", verdict=OK, found=f"{messages} messages")


def celery(desk: Desk) -> Iterator[Check]:
    """Check the settings of the Celery application by which work is known to be lost."""
    if not desk.attached:
        return
    wanted: tuple[tuple[str, Any, str], ...] = (
        ("task_acks_late", True, "a worker that dies takes unfinished messages with it"),
        ("task_reject_on_worker_lost", True, "a killed process loses its message"),
        ("broker_channel_error_retry", True, "a channel the broker closes ends the whole worker"),
        ("task_time_limit", None, "one task runs many steps: it would be killed in the middle"),
        ("task_soft_time_limit", None, "one task runs many steps: it would be stopped midway"),
    )
    for name, right, loses in wanted:
        value = getattr(desk.app.conf, name, None)
        wrong = bool(value) != bool(right)
        yield Check(
            name=name,
            verdict=WARNING if wrong else OK,
            found=f"{value}: {loses}" if wrong else str(value),
            fix=f"set {name} = {right} in your Celery configuration" if wrong else None,
        )


def work(desk: Desk) -> Iterator[Check]:
    """Check that there are workers, that sweeps come by, and that executions move."""
    workers = [one for one in desk.database.run_calm(situation.living) if one.functions]
    hosts = sorted({worker.host for worker in workers})
    yield Check(
        name="workers",
        verdict=OK if workers else WARNING,
        found=f"{_processes(len(workers))} on {', '.join(hosts)}" if workers else "none is alive",
        fix=None if workers else "start one: `orchestrator worker`",
    )
    overdue = sum(tally.overdue for tally in overview.queues(desk.database))
    yield Check(
        name="sweeps",
        verdict=WARNING if overdue else OK,
        found=f"{overdue} rows that nobody has looked at" if overdue else "up to date",
        fix="start a worker or beat, or run `orchestrator sweep`" if overdue else None,
    )
    yield from untaken(desk)
    stuck = desk.database.run_calm(searching.find, searching.Search(stuck=True), limit=100)
    yield Check(
        name="executions",
        verdict=WARNING if stuck else OK,
        found=f"{len(stuck)}{'' if len(stuck) < 100 else ' or more'} do not move"
        if stuck
        else "all move",
        fix=f"`orchestrator explain {stuck[0].facts.id}` says why" if stuck else None,
    )


def untaken(desk: Desk) -> Iterator[Check]:
    """Check that no steps wait where nobody takes them."""
    found = overview.untaken(desk.database, desk.settings)
    if not found:
        yield Check(name="steps", verdict=OK, found="none waits in a queue without a worker")
    for name, count in found:
        steps = "1 step waits" if count == 1 else f"{count} steps wait"
        yield Check(
            name="steps",
            verdict=PROBLEM,
            found=f"{steps} in queue {name!r}, which no living worker consumes",
            fix=f"start a worker for it: `orchestrator worker -Q {queues_of_steps.asked(name)}`, "
            "or add it to -Q of your application's worker",
        )


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def rows(desk: Desk) -> Iterator[Check]:
    """Check that the rows contradict each other nowhere."""
    found = desk.database.run_calm(health.unsound)
    if not found:
        yield Check(name="rows", verdict=OK, found="no contradictions")
    for one in found:
        yield Check(
            name="rows",
            verdict=PROBLEM,
            found=f"{one.count} {one.what}, as {one.example}",
            fix="rows were deleted, restored or changed by hand: restore what is missing, or "
            "delete what is left over",
        )


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
