"""The command line of the product: ``orchestrator db upgrade``, ``orchestrator worker``.

Exit codes: 0 done, 1 what was asked did not happen, 2 bad usage. Errors are one sentence on stderr.
"""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.db import db
from orchestrator.cli.starters import beat, worker
from orchestrator.errors import OrchestratorError


class Commands(click.Group):
    """A group that tells our errors in one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command that was asked for."""
        try:
            return super().invoke(ctx)
        except OrchestratorError as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Addresses and limits are read from ORCHESTRATOR_* variables; see docs/operations.md.",
)
@click.version_option(package_name="celery-orchestrator", prog_name="orchestrator")
def cli() -> None:
    """Durable flows on Celery and PostgreSQL."""


cli.add_command(db)
cli.add_command(worker)
cli.add_command(beat)


def main() -> None:
    """Run the command line of this process."""
    cli(prog_name="orchestrator")
