"""The command line of the product: read, start and operate executions, and look after services.

Exit codes: 0 done, 1 what was asked did not happen, 2 bad usage. Errors are one sentence on stderr.
The same commands stand under ``celery -A orchestrator.workers.app flow``; see
`orchestrator.cli.plugin`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import click

from orchestrator.cli import maintenance, operating, reading, starting
from orchestrator.cli.broker import broker
from orchestrator.cli.db import db
from orchestrator.cli.demo import demo
from orchestrator.cli.desk import Desk
from orchestrator.cli.dev import dev
from orchestrator.cli.doctor import doctor
from orchestrator.cli.drawing import diagram
from orchestrator.cli.named import Named, brief
from orchestrator.cli.quarantine import quarantine
from orchestrator.cli.starters import beat, flower, worker
from orchestrator.cli.top import top
from orchestrator.errors import OrchestratorError
from orchestrator.store import problems


class Commands(Named):
    """A group that tells errors in one sentence, without a traceback, and lists by kind."""

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke the command that was asked for."""
        try:
            return super().invoke(ctx)
        except OrchestratorError as error:
            raise click.ClickException(_one_line(error)) from error
        except BrokenPipeError:  # the reader has gone, as `head` does: click ends without a word
            raise
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(f"{error.strerror or error}{where}") from error
        except Exception as error:
            said = problems.sentence(error)
            if said is None:
                raise
            raise click.ClickException(said) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, by what one wants to do."""
        named = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        left = {name: command for name, command in named.items() if command is not None}
        for title, names in (*SECTIONS.items(), ("Commands", tuple(left))):
            rows = [(name, brief(left.pop(name))) for name in names if name in left]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


#: In which order commands are listed.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Start and read": ("start", "list", "show", "explain", "history", "diagram", "top"),
    "Operate": (
        *("retry", "skip", "complete", "fail", "send", "cancel", "pause", "resume"),
        "quarantine",
    ),
    "Look after": ("doctor", "db", "broker", "queue-depth", "sweep", "purge"),
    "Programs": ("demo", "dev", "worker", "beat", "flower"),
}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Addresses and limits are read from ORCHESTRATOR_* variables; see docs/operations.md.",
)
@click.version_option(package_name="celery-orchestrator", prog_name="orchestrator")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Durable flows on Celery and PostgreSQL."""
    # what a command says itself must not be said by the log as well
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())
    if ctx.obj is None:
        ctx.obj = Desk()
        ctx.call_on_close(ctx.obj.close)


#: Commands of both groups; those that start Celery's programs are Celery's own there.
SHARED: tuple[click.Command, ...] = (
    starting.start,
    reading.list_,
    reading.show,
    reading.history,
    reading.explain,
    diagram,
    operating.retry,
    operating.skip,
    operating.complete,
    operating.fail,
    operating.cancel,
    operating.pause,
    operating.resume,
    starting.send,
    quarantine,
    maintenance.queue_depth,
    maintenance.sweep,
    maintenance.purge,
    top,
    doctor,
    db,
    broker,
)

for command in (*SHARED, demo, dev, worker, beat, flower):
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    cli(prog_name="orchestrator")
