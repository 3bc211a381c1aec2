"""``orchestrator db``: the schema in PostgreSQL."""

from __future__ import annotations

import json
from typing import Any

import click

from orchestrator.cli.named import Named
from orchestrator.settings import Settings, without_password
from orchestrator.store import migrate
from orchestrator.store.migrate import SchemaStatus

_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(cls=Named, short_help="Bring the schema up to date, or tell where it stands.")
def db() -> None:
    """Bring the database's schema up to date, or tell where it stands.

    The database is named by ORCHESTRATOR_DATABASE_URL.
    """


@db.command()
@_as_json
def upgrade(as_json: bool) -> None:
    """Run the migrations that the database misses.

    Safe to run from several machines at once: one does the work, the others wait for it.
    """
    settings = Settings()
    ran = migrate.upgrade(settings.database_url)
    found = migrate.status(settings.database_url)
    if as_json:
        _print_json({"ran": list(ran), **_facts(settings, found)})
    elif ran:
        click.echo(f"The schema is at {found.current} now; run: {', '.join(ran)}.")
    else:
        click.echo(f"The schema is at {found.current} already: nothing to do.")


@db.command()
@_as_json
def status(as_json: bool) -> None:
    """Tell where the schema stands."""
    settings = Settings()
    found = migrate.status(settings.database_url)
    if as_json:
        _print_json(_facts(settings, found))
    else:
        click.echo(f"database  {without_password(settings.database_url)}")
        click.echo(f"schema    {found.current or 'none'} ({_verdict(found)})")


def _verdict(found: SchemaStatus) -> str:
    if found.unknown:
        return f"newer than this release, which knows up to {found.newest}"
    if found.pending:
        return f"run `orchestrator db upgrade` for {', '.join(found.pending)}"
    return "up to date"


def _facts(settings: Settings, found: SchemaStatus) -> dict[str, Any]:
    return {
        "database": without_password(settings.database_url),
        "current": found.current,
        "newest": found.newest,
        "pending": list(found.pending),
        "unknown": found.unknown,
        "up_to_date": not found.unknown and not found.pending,
    }


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))
