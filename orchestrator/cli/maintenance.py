"""``queue-depth``, ``sweep``, ``purge``: what workers and beat do by themselves, done by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.desk import Desk, by_operator, common, pass_desk
from orchestrator.cli.parameters import Duration
from orchestrator.errors import InvalidInput, NotFound, Unavailable
from orchestrator.flow.functions import near_miss
from orchestrator.runtime import events, overview, purging, sweeps
from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store.overview import QueueTally


@click.command("queue-depth")
@click.argument("queue", required=False)
@common
@pass_desk
def queue_depth(desk: Desk, *, queue: str | None, as_json: bool) -> None:
    """Tell how much waits in the queues: by the database, and by the broker."""
    tallies = overview.queues(desk.database)
    known = {tally.queue: tally for tally in tallies}
    for name in (desk.settings.queue, desk.settings.long_queue):
        known.setdefault(name, QueueTally(queue=name))
    if queue is not None:
        if queue not in known:
            hint = near_miss(queue, known) or f"; there are {', '.join(sorted(known))}"
            raise NotFound(f"no step and no worker uses the queue {queue!r}{hint}")
        known = {queue: known[queue]}
    depths, problem = _broker_depths(desk, list(known))
    rows = [{**_of_tally(known[name]), "broker": depths.get(name)} for name in sorted(known)]
    if as_json:
        output.document({"queues": rows, "broker_problem": problem})
    else:
        _draw_queues(rows, problem)
    if problem is not None:
        click.get_current_context().exit(1)


@click.command()
@click.argument("name", required=False)
@common
@pass_desk
def sweep(desk: Desk, *, name: str | None, as_json: bool) -> None:
    """Do once what beat and the workers' pumps do: all of it, or the sweep NAME.

    recover looks for workers that died on this machine; relay delivers what executions tell each
    other; redrive sends what is due or unsent; expire deletes what ended long ago. Expired leases
    are left to workers, who know whether the database was away.
    """
    if name is not None and name not in _SWEEPS:
        hint = near_miss(name, _SWEEPS) or f"; there are {', '.join(_SWEEPS)}"
        raise click.UsageError(f"there is no sweep {name!r}{hint}")
    done = []
    for one, carry_out in _SWEEPS.items():
        if name in {None, one}:
            began = time.monotonic()
            with output.busy(f"Sweeping: {one} ...", quiet=as_json):
                count = carry_out(desk)
            done.append({"sweep": one, "count": count, "seconds": time.monotonic() - began})
    if as_json:
        output.document({"sweeps": done})
        return
    for line in done:
        output.say(f"{line['sweep']}: {_COUNTED[str(line['sweep'])].format(line['count'])}")


@click.command(short_help="Delete executions that ended long ago.")
@click.option(
    "--older-than",
    type=Duration(),
    help="Delete what ended longer ago; by default what the setting `keep` says, 7d.",
)
@by_operator
@common
@pass_desk
def purge(desk: Desk, *, older_than: timedelta | None, actor: str, as_json: bool) -> None:
    """Delete executions that ended long ago, with all their rows; open ones are never deleted.

    Their keys stay as tombstones, so that no late message starts their work again.
    """
    keep = desk.settings.keep if older_than is None else older_than
    with output.busy("Deleting ...", quiet=as_json):
        count = purging.purge(desk.database, desk.settings, keep, actor=actor)
    if as_json:
        output.document({"deleted": count, "older_than_s": keep.total_seconds()})
    else:
        age = output.duration(keep.total_seconds())
        output.say(f"{output.counted(count, 'execution')} deleted that ended more than {age} ago.")


def _broker_depths(desk: Desk, names: list[str]) -> tuple[dict[str, dict[str, Any]], str | None]:
    from orchestrator.workers import inspection  # noqa: PLC0415 - imports Celery

    try:
        found = inspection.depths(desk.broker, names)
    except (InvalidInput, Unavailable) as error:
        return {}, str(error)
    return {
        depth.queue: {
            "messages": depth.messages,
            "consumers": depth.consumers,
            "dead_letters": depth.dead,
        }
        for depth in found
    }, None


def _of_tally(tally: QueueTally) -> dict[str, Any]:
    return {
        "queue": tally.queue,
        "waiting": tally.waiting,
        "unsent": tally.unsent,
        "later": tally.later,
        "running": tally.running,
        "oldest": tally.oldest,
        "overdue": tally.overdue,
        "workers": tally.consumers,
    }


def _draw_queues(rows: list[dict[str, Any]], problem: str | None) -> None:
    numbers = ["waiting", "unsent", "later", "running", "overdue", "workers"]
    output.table(
        ["queue", *numbers, "oldest", "messages", "dead"],
        [
            [
                row["queue"],
                *(row[name] for name in numbers),
                row["oldest"],
                None if row["broker"] is None else row["broker"]["messages"],
                None if row["broker"] is None else row["broker"]["dead_letters"],
            ]
            for row in rows
        ],
        right=[*numbers, "messages", "dead"],
    )
    if problem is not None:
        output.say(f"The broker's own numbers are missing: {problem}", "yellow")


def _redrive(desk: Desk) -> int:
    from orchestrator.workers import pump  # noqa: PLC0415 - imports Celery

    total = 0
    while (
        looked := pump.redrive(desk.database, desk.sender, desk.settings, steady=False)
    ) >= desk.settings.sweep_limit:
        total += looked
    return total + looked


def _relay(desk: Desk) -> int:
    messages, handled = events.deliver_all(desk.database, desk.known, desk.settings)
    if messages:
        desk.sender.publish(messages)
    return handled


def _recover(desk: Desk) -> int:
    watch = DeathWatch(confirmed_broker="amqp" in desk.settings.broker_url.partition("://")[0])
    return len(desk.database.run(watch.look, steady=False))


def _expire(desk: Desk) -> int:
    total = 0
    batches = (
        sweeps.expire_completed,
        sweeps.expire_keys,
        sweeps.expire_inbox,
        sweeps.expire_quarantine,
        sweeps.forget_incarnations,
    )
    for batch in batches:
        while (deleted := desk.database.run(batch, desk.settings)) > 0:
            total += deleted
    return total


_SWEEPS: Mapping[str, Callable[[Desk], int]] = {
    "recover": _recover,
    "relay": _relay,
    "redrive": _redrive,
    "expire": _expire,
}
_COUNTED: Mapping[str, str] = {
    "recover": "{} dead worker processes found",
    "relay": "{} events between executions delivered",
    "redrive": "{} rows looked at",
    "expire": "{} rows deleted",
}
