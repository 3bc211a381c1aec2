"""``worker``, ``beat`` and ``flower``: Celery's own programs with fitting options.

They are thin: what they start is ``celery -A orchestrator.workers.app worker`` in this very
process, and all options of Celery may follow. What they add is said in each command's help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.desk import not_imported
from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.settings import Settings

_hands_on = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_options = click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[CELERY OPTIONS]")


@click.command(
    context_settings=_hands_on, short_help="Start a worker for the flows of ORCHESTRATOR_MODULES."
)
@_options
@click.pass_context
def worker(ctx: click.Context, options: tuple[str, ...]) -> None:
    """Start a worker that runs the flows of the modules in ORCHESTRATOR_MODULES.

    This is `celery -A orchestrator.workers.app worker --loglevel INFO` under a name of its own, so
    that several may run on one host; SIGTERM means a soft shutdown: bodies get 20 seconds to end,
    the rest is handed back. All options of Celery may follow:

    \b
        orchestrator worker --concurrency 4
        orchestrator worker --pool threads --concurrency 50 --queues orchestrator,reports
    """
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # Celery reads it when it is imported
    ctx.exit(_celery("worker", (*_name(options), *options)))


@click.command(context_settings=_hands_on, short_help="Start beat, the alarm clock of the sweeps.")
@_options
@click.pass_context
def beat(ctx: click.Context, options: tuple[str, ...]) -> None:
    """Start beat, the alarm clock of the sweeps; two of them do no harm.

    This is `celery -A orchestrator.workers.app beat --loglevel INFO`, without a pid file. Beat
    keeps nothing: it may be killed and run elsewhere at any time. All options of Celery may follow.
    """
    ctx.exit(_celery("beat", ("--pidfile", "", *options)))


@click.command(
    context_settings=_hands_on, short_help="Start Flower, which shows workers and executions."
)
@_options
@click.pass_context
def flower(ctx: click.Context, options: tuple[str, ...]) -> None:
    """Start Flower, which shows workers, executions and steps in a browser.

    This is `celery -A orchestrator.workers.app flower`; it needs the extra
    celery-orchestrator[flower]. Flower forgets what it has shown when it ends, the database does
    not. All options of Flower may follow:

    \b
        orchestrator flower --port=5555 --basic-auth=ann:secret
    """
    if find_spec("flower") is None:
        raise InvalidInput(
            "Flower is not installed: pip install 'celery-orchestrator[flower]', then try again"
        )
    ctx.exit(_celery("flower", options))


def _name(options: Sequence[str]) -> tuple[str, ...]:
    """Return options for a node name of its own, unless one is given.

    RabbitMQ refuses the second of two workers of one name, which by default all of a host have.
    """
    given = any(option.startswith(("-n", "--hostname")) for option in options)
    return () if given else ("-n", f"worker-{os.getpid()}@%h")


def _celery(program: str, options: Sequence[str]) -> int:
    """Run one of Celery's programs until it ends; return its exit code."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as Celery's own command does
    settings = Settings()
    if program == "worker" and not settings.modules:
        raise InvalidInput(
            "there is nothing to run: name the modules of your flows, as in "
            "ORCHESTRATOR_MODULES=shop.flows,shop.reports"
        )
    _look_for(settings.modules)
    _look_at_broker(settings)
    celery: click.Group = import_module("celery.bin.celery").celery
    level = () if program == "flower" else ("--loglevel", "INFO")
    words = ["--app", "orchestrator.workers.app", program, *level, *options]
    try:
        code: Any = celery.main(words, prog_name="celery", standalone_mode=False)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        broken = [name for name in settings.modules if name not in sys.modules]
        if not broken:
            raise
        raise not_imported(broken[0], error) from error
    return code or 0


def _look_at_broker(settings: Settings) -> None:
    """Say at once what is waited for; refuse where waiting does not help."""
    from orchestrator.workers import connect, inspection  # noqa: PLC0415 - imports Celery

    try:
        inspection.facts(connect.broker(settings))
    except Unavailable as error:
        click.echo(f"Note: {error}. It is asked again until it answers.", err=True)


def _look_for(modules: Sequence[str]) -> None:
    """Refuse modules that are not there, without running them: Celery does that in its own time."""
    for module in modules:
        try:
            missing = None if find_spec(module) is not None else module
        except ModuleNotFoundError as error:
            missing = error.name or module
        if missing is not None:
            raise InvalidInput(
                f"ORCHESTRATOR_MODULES names {module}, but there is no module {missing} on the "
                "Python path: start this in the folder that holds it, or set PYTHONPATH"
            )
