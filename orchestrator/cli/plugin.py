"""The same commands as a sub-command of Celery: ``celery -A orchestrator.workers.app flow list``.

Celery finds it by the entry point ``celery.commands``, and every program of Celery loads it,
workers too: so the commands are imported when one is asked for. An application that was attached
(`orchestrator.workers.app.attach`) brings its flows, its settings and its broker; for any other one
they are those of the environment. Worker, beat and Flower are Celery's own commands there.
"""

from __future__ import annotations

import os
from typing import Any

import click
from celery.bin.base import handle_preload_options


@click.command(
    "flow",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGS]...")
@click.pass_context
@handle_preload_options
def flow(ctx: click.Context, words: tuple[str, ...]) -> Any:
    """Read and operate durable flows; the same as `orchestrator`."""
    from orchestrator.cli.desk import Desk  # noqa: PLC0415 - see above

    given: Any = ctx.obj
    if given.no_color:
        os.environ["NO_COLOR"] = "1"
    desk = Desk(app=given.app)
    ctx.call_on_close(desk.close)
    group = shared()
    with group.make_context("flow", list(words), parent=ctx.parent, obj=desk) as asked:
        return group.invoke(asked)


def shared() -> click.Group:
    """Return the group of the commands that stand here, too."""
    from orchestrator.cli import SHARED, Commands  # noqa: PLC0415 - see above

    return Commands("flow", help=flow.help, commands=SHARED)
