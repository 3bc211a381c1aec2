"""``broker``: exchange, queues and dead letters in RabbitMQ."""

from __future__ import annotations

import click

from orchestrator.cli import output
from orchestrator.cli.desk import Desk, common, pass_desk
from orchestrator.cli.named import Named
from orchestrator.runtime.triggers import triggers_of


@click.group(cls=Named)
def broker() -> None:
    """Declare what RabbitMQ has to have.

    The broker is named by ORCHESTRATOR_BROKER_URL.
    """


@broker.command(short_help="Make the exchange, the queues and those of dead letters.")
@common
@click.pass_context
@pass_desk
def setup(desk: Desk, ctx: click.Context, *, as_json: bool) -> None:
    """Make the exchange, the queues with their limits, and the queues of dead letters.

    What is there stays as it is, so every deployment may run this. Queues that your flows and
    triggers name are made too. One that was declared with other arguments is told, and the exit
    code is 1: delete it while it is empty, and run this again.
    """
    # Celery takes longer to import than most commands to run
    from orchestrator.workers import setup as declaring  # noqa: PLC0415

    attached = getattr(desk.app, "orchestrator", None)
    modules = desk.modules or desk.settings.modules
    triggers = attached.triggers if attached is not None else triggers_of(modules)
    flows = desk.catalogue.flows.values()
    declared = declaring.set_up(desk.broker, desk.settings, flows, triggers)
    if as_json:
        output.document(
            {
                "queues": [
                    {"queue": one.queue, "state": one.state, "problem": one.problem or None}
                    for one in declared
                ]
            }
        )
    else:
        rows = [[one.queue, one.state, one.problem] for one in declared]
        output.table(["queue", "state", "problem"], rows)
    ctx.exit(1 if any(one.state == "differs" for one in declared) else 0)
