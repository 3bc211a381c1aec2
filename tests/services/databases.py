"""A fresh, migrated database per test: a clone of a template made once per session.

Names carry the run (process and time), so that two test runs on one server never meet. A run that
was killed leaves databases behind; the next run drops those that are older than a day.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator

import psycopg
from psycopg import sql

PREFIX = "orchestrator_test"
TEMPLATE_PREFIX = "orchestrator_template"
_OURS = re.compile(rf"^(?:{PREFIX}|{TEMPLATE_PREFIX})_(\d+)_\d+(?:_\d+)?$")
_A_DAY = 24 * 3600


class Databases:
    """Makes and drops databases on one server, all under the name of this run."""

    def __init__(self, server_url: str, *, migrate: Callable[[str], None]) -> None:
        self.server_url = server_url
        self._migrate = migrate
        self._run = f"{int(time.time())}_{os.getpid()}"
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._made: list[str] = []
        self.drop_stale()

    def url(self, name: str) -> str:
        """The address of one database of this server."""
        return with_database(self.server_url, name)

    @contextlib.contextmanager
    def empty(self) -> Iterator[str]:
        """The address of a new database without our schema."""
        with self._made_from("template0") as url:
            yield url

    @contextlib.contextmanager
    def migrated(self) -> Iterator[str]:
        """The address of a new database at the newest migration."""
        if self._template is None:
            self._template = self._make_template()
        with self._made_from(self._template) as url:
            yield url

    def close(self) -> None:
        """Drop what this run made."""
        for name in [*self._made, *([self._template] if self._template else [])]:
            self._drop(name)
        self._made.clear()
        self._template = None

    def drop_stale(self) -> None:
        """Drop what runs that were killed more than a day ago left behind."""
        with self._connect() as conn:
            names = [row[0] for row in conn.execute("SELECT datname FROM pg_database")]
        for name in names:
            match = _OURS.match(name)
            if match and time.time() - int(match[1]) > _A_DAY:
                with contextlib.suppress(psycopg.Error):  # another run may be quicker
                    self._drop(name)

    def _make_template(self) -> str:
        name = f"{TEMPLATE_PREFIX}_{self._run}"
        self._create(name, "template0")
        try:
            self._migrate(self.url(name))
        except BaseException:
            self._drop(name)
            raise
        return name

    @contextlib.contextmanager
    def _made_from(self, template: str) -> Iterator[str]:
        name = f"{PREFIX}_{self._run}_{next(self._numbers)}"
        self._create(name, template)
        self._made.append(name)
        try:
            yield self.url(name)
        finally:
            # A test may have killed the server: then the run's end drops it, or nobody needs to.
            with contextlib.suppress(psycopg.OperationalError):
                self._drop(name)
                self._made.remove(name)

    def _create(self, name: str, template: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING 'UTF8'").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with self._connect() as conn:
            conn.execute(statement)

    def _drop(self, name: str) -> None:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with contextlib.suppress(psycopg.OperationalError), self._connect() as conn:
            conn.execute(statement)

    def _connect(self) -> psycopg.Connection[tuple[str, ...]]:
        return psycopg.connect(self.server_url, autocommit=True, connect_timeout=10)


def with_database(server_url: str, name: str) -> str:
    """The same address with another database; query parameters stay."""
    match = re.fullmatch(r"(\w+://[^/?]*)(?:/[^?]*)?(\?.*)?", server_url)
    if match is None:
        raise ValueError(f"not a database address: {server_url!r}")
    return f"{match[1]}/{name}{match[2] or ''}"
