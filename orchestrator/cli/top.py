"""``top``: everything at a glance, live on a terminal, once in a pipe."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from orchestrator.cli import output
from orchestrator.cli.desk import Desk, common, pass_desk
from orchestrator.cli.documents import of_found
from orchestrator.cli.parameters import Duration
from orchestrator.runtime import overview, places, queries
from orchestrator.runtime.overview import Overview
from orchestrator.store.search import Found
from orchestrator.store.situation import Living

_Drawn = tuple[str, list[str], list[list[Any]], list[str]]


@click.command()
@click.option(
    "--window",
    type=Duration(),
    default="1h",
    show_default=True,
    help="Count executions started so recently.",
)
@click.option(
    "--every",
    type=Duration(),
    default="2s",
    show_default=True,
    help="Look so often, on a terminal.",
)
@click.option("--once", is_flag=True, help="Look once, also on a terminal.")
@common
@pass_desk
def top(desk: Desk, *, window: timedelta, every: timedelta, once: bool, as_json: bool) -> None:
    """Show flows, queues, workers and failures at a glance; Ctrl-C ends it."""
    if as_json:
        output.document(_of(overview.overview(desk.database, window)))
    elif once or not output.on_terminal():
        seen = overview.overview(desk.database, window)
        output.say(_headline(seen))
        for title, columns, rows, right in _tables(seen):
            output.say("")
            output.table(columns, rows, right=right, title=title)
    else:
        _watch(desk, window, max(0.2, every.total_seconds()))


def _watch(desk: Desk, window: timedelta, every: float) -> None:
    with Live(console=output.console(), screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(_drawn(overview.overview(desk.database, window)), refresh=True)
                time.sleep(every)
        except KeyboardInterrupt:
            return


def _drawn(seen: Overview) -> RenderableType:
    parts: list[RenderableType] = [Text(_headline(seen), style="bold"), Text("")]
    for title, columns, rows, right in _tables(seen):
        parts += [output.drawn(columns, rows, right=right, title=title), Text("")]
    return Group(*parts)


def _headline(seen: Overview) -> str:
    parts = [
        f"{output.moment(seen.at)} UTC",
        f"{seen.open:,} open",
        f"{output.counted(len(seen.stuck), 'stuck')}".replace("stucks", "stuck"),
        f"{seen.quarantined:,} in quarantine",
        output.counted(len(seen.workers), "worker process").replace("processs", "processes"),
    ]
    return "  ".join(parts)


def _tables(seen: Overview) -> list[_Drawn]:
    drawn: list[_Drawn] = [
        (
            f"Flows, started in the last {output.duration(seen.window.total_seconds())}",
            ["flow", "started", "open", "succeeded", "failed", "cancelled", "median"],
            [
                [
                    *(flow.flow, flow.started, flow.open, flow.succeeded, flow.failed),
                    flow.cancelled,
                    output.duration(flow.seconds),
                ]
                for flow in seen.flows
            ],
            ["started", "open", "succeeded", "failed", "cancelled", "median"],
        ),
        (
            "Queues",
            ["queue", "waiting", "unsent", "later", "running", "overdue", "workers", "oldest"],
            [
                [
                    *(queue.queue, queue.waiting, queue.unsent, queue.later, queue.running),
                    *(queue.overdue, queue.consumers),
                    _age(seen, queue.oldest),
                ]
                for queue in seen.queues
            ],
            ["waiting", "unsent", "later", "running", "overdue", "workers", "oldest"],
        ),
        (
            "Workers",
            ["host", "pid", "queues", "functions", "up", "beat"],
            [
                [
                    worker.host,
                    worker.pid,
                    ", ".join(worker.queues),
                    len(worker.functions),
                    _age(seen, worker.started_at),
                    _age(seen, worker.beat_at),
                ]
                for worker in seen.workers
            ],
            ["pid", "functions", "up", "beat"],
        ),
    ]
    for title, found in (("Newest failures", seen.failures), ("Stuck", seen.stuck)):
        if found:
            columns = ["id", "flow", "key", "ended" if title != "Stuck" else "started", "error"]
            drawn.append((title, columns, [_row(one) for one in found], []))
    return [one for one in drawn if one[2]]


def _row(found: Found) -> list[Any]:
    facts = found.facts
    error = ""
    if found.deadline is not None:
        error = queries.passed(found.deadline)
    elif found.failed_step is not None:
        place = places.text_of(found.failed_step, found.failed_scope or "")
        told = found.error or {}
        error = f"{place}: {told.get('kind')}: {told.get('message')}"
    when = facts.finished_at or facts.created_at
    return [facts.id, facts.flow, facts.key, when, output.shortened(error, 70)]


def _age(seen: Overview, moment: Any) -> str:
    return "-" if moment is None else output.duration(max(0.0, (seen.at - moment).total_seconds()))


def _of(seen: Overview) -> dict[str, Any]:
    return {
        "at": seen.at,
        "window_s": seen.window.total_seconds(),
        "open": seen.open,
        "quarantined": seen.quarantined,
        "flows": [
            {
                "flow": flow.flow,
                "started": flow.started,
                "open": flow.open,
                "succeeded": flow.succeeded,
                "failed": flow.failed,
                "cancelled": flow.cancelled,
                "median_s": flow.seconds,
            }
            for flow in seen.flows
        ],
        "queues": [
            {
                "queue": queue.queue,
                "waiting": queue.waiting,
                "unsent": queue.unsent,
                "later": queue.later,
                "running": queue.running,
                "oldest": queue.oldest,
                "overdue": queue.overdue,
                "workers": queue.consumers,
            }
            for queue in seen.queues
        ],
        "workers": [_of_worker(worker) for worker in seen.workers],
        "failures": [of_found(one) for one in seen.failures],
        "stuck": [of_found(one) for one in seen.stuck],
    }


def _of_worker(worker: Living) -> dict[str, Any]:
    return {
        "id": worker.id,
        "host": worker.host,
        "pid": worker.pid,
        "queues": list(worker.queues),
        "functions": len(worker.functions),
        "started_at": worker.started_at,
        "beat_at": worker.beat_at,
    }
