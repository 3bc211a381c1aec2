"""Migrations: linear Alembic revisions inside the package, run under an advisory lock.

Alembic is imported when it is needed: every command would take a sixth longer to start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, create_engine, exc, text
from sqlalchemy.pool import NullPool

from orchestrator.errors import Unavailable
from orchestrator.store import reaching
from orchestrator.store.database import parse_url, shown

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x0F10_0057_A7E5
_FOLDER = Path(__file__).parent / "migrations"
MINIMUM_SERVER = 140000


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaStatus:
    """Where a database's schema stands.

    Attributes:
        current: revision of the database, None when it has none of our tables.
        newest: revision this release brings.
        pending: revisions still to run, oldest first.
        unknown: the database was migrated by a later release than this one.
    """

    current: str | None
    newest: str
    pending: tuple[str, ...]
    unknown: bool


def look(database_url: str) -> None:
    """Connect once, and leave.

    Raises:
        Unavailable: the database cannot be reached, but may come, or is older than PostgreSQL 14.
        InvalidInput: it refuses this address: no such database or user, or another password.
    """
    _connect(database_url).close()


def upgrade(database_url: str) -> tuple[str, ...]:
    """Bring the schema to the newest revision; return the revisions run, oldest first.

    Safe to call from several processes at once: the work is done under an advisory lock, the others
    wait.

    Raises:
        Unavailable: the database cannot be reached, is older than PostgreSQL 14, or was migrated by
            a later release.
        InvalidInput: it refuses this address.
    """
    from alembic import command  # noqa: PLC0415

    with _connect(database_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.commit()
        try:
            connection.execute(text("CREATE SCHEMA IF NOT EXISTS orchestrator"))
            connection.commit()
            before = _status(connection)
            if before.unknown:
                raise Unavailable(_too_new(before))
            if before.pending:
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            return before.pending
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
            connection.commit()


def status(database_url: str) -> SchemaStatus:
    """Return where the schema stands.

    Raises:
        Unavailable: the database cannot be reached or is older than PostgreSQL 14.
    """
    with _connect(database_url) as connection:
        return _status(connection)


def require_current(database_url: str) -> None:
    """Refuse to go on with a schema this release does not know (protocol.md 6).

    Raises:
        Unavailable: migrations are missing, or the schema belongs to a later release.
    """
    found = status(database_url)
    if found.unknown:
        raise Unavailable(_too_new(found))
    if found.pending:
        raise Unavailable(
            f"the database's schema is at {found.current or 'nothing'}, "
            f"this release needs {found.newest}: "
            "run `orchestrator db upgrade`"
        )


def _too_new(found: SchemaStatus) -> str:
    return (
        f"the database's schema {found.current} is newer than this release, "
        f"which knows up to {found.newest}: "
        "install the release that migrated it"
    )


def _status(connection: Connection) -> SchemaStatus:
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": "orchestrator"}
    )
    current = context.get_current_revision()
    scripts = ScriptDirectory.from_config(_config())
    known = [script.revision for script in reversed(list(scripts.walk_revisions()))]
    unknown = current is not None and current not in known
    behind = () if unknown else tuple(known[known.index(current) + 1 :] if current else known)
    return SchemaStatus(current=current, newest=known[-1], pending=behind, unknown=unknown)


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config


def _connect(database_url: str) -> Connection:
    url = parse_url(database_url)
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    try:
        connection = engine.connect()
    except exc.OperationalError as error:
        raise reaching.unreached(shown(url), error.orig or error) from error
    version = connection.execute(text("SHOW server_version_num")).scalar_one()
    connection.rollback()
    if int(version) < MINIMUM_SERVER:
        connection.close()
        raise Unavailable(f"PostgreSQL 14 or later is needed, this server is {version}")
    return connection
