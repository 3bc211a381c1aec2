"""The same commands as a sub-command of Celery: ``celery -A orchestrator.workers.app flow list``.

Celery finds the group by the entry point ``celery.commands``. An application that was attached
(`orchestrator.workers.app.attach`) brings its flows, its settings and its broker; for any other
one they are those of the environment. Worker, beat and Flower are Celery's own commands there.
"""

from __future__ import annotations

import os
from typing import Any

import click
from celery.bin.base import handle_preload_options

from orchestrator.cli import SHARED, Commands
from orchestrator.cli.desk import Desk


@click.group("flow", cls=Commands)
@click.pass_context
@handle_preload_options
def flow(ctx: click.Context) -> None:
    """Read and operate durable flows; the same as `orchestrator`."""
    given: Any = ctx.obj
    if given.no_color:
        os.environ["NO_COLOR"] = "1"
    ctx.obj = Desk(app=given.app)
    ctx.call_on_close(ctx.obj.close)


for command in SHARED:
    flow.add_command(command)
