"""``orchestrator broker``: exchange, queues and dead letters in RabbitMQ."""

from __future__ import annotations

import json

import click

from orchestrator.errors import InvalidInput
from orchestrator.settings import Settings, without_password


@click.group()
def broker() -> None:
    """Declare what RabbitMQ has to have.

    The broker is named by ORCHESTRATOR_BROKER_URL, the flows whose queues are declared by
    ORCHESTRATOR_MODULES.
    """


@broker.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def setup(ctx: click.Context, as_json: bool) -> None:
    """Make the exchange, the queues with their limits, and the queues of dead letters.

    What is there stays as it is, so this may be run by every deployment. A queue of ours that was
    declared with other arguments is named, and the exit code is 1: delete it while it is empty, and
    run this again.
    """
    from workers import setup as declaring  # noqa: PLC0415 - Celery is loaded only where needed

    settings = Settings()
    if settings.broker_url.startswith("filesystem:"):
        raise InvalidInput(
            "there is nothing to declare on a broker of files: set ORCHESTRATOR_BROKER_URL to "
            "RabbitMQ"
        )
    declared = declaring.set_up(settings)
    differing = [one for one in declared if one.state == "differs"]
    if as_json:
        rows = [
            {"queue": one.queue, "state": one.state, "problem": one.problem or None}
            for one in declared
        ]
        document = {"broker": without_password(settings.broker_url), "queues": rows}
        click.echo(json.dumps(document, ensure_ascii=False))
    else:
        width = max(len(one.queue) for one in declared)
        for one in declared:
            click.echo(f"{one.queue:{width}}  {one.state}")
        for one in differing:
            click.echo(f"{one.queue} differs: {one.problem}", err=True)
    ctx.exit(1 if differing else 0)
