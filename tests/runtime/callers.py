"""Programs that start executions inside transactions of their own, each with its library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import django
import psycopg
import sqlalchemy
from django.conf import settings
from sqlalchemy.orm import Session


class Undo(Exception):
    """Raised by a test to roll back."""


class Caller(ABC):
    """One program: a connection, its transactions, its own table."""

    #: Whether this process hears of its commits, or a pump must.
    hears: bool

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    @abstractmethod
    def session(self) -> Any:
        """What ``session=`` is given."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[object]:
        """A transaction, or a savepoint inside one: rolled back by an exception."""

    @abstractmethod
    def execute(self, statement: str) -> Any:
        """Run a statement; return the first column of its first row, if it has rows."""

    @abstractmethod
    def close(self) -> None:
        """Let go."""


class WithSession(Caller):
    hears = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        self._session = Session(self.engine)

    @property
    def session(self) -> Any:
        return self._session

    @contextmanager
    def transaction(self) -> Iterator[object]:
        if self._session.in_transaction():
            with self._session.begin_nested():
                yield
        else:
            with self._session.begin():
                yield

    def execute(self, statement: str) -> Any:
        done = self._session.execute(sqlalchemy.text(statement))
        return done.scalar() if done.returns_rows else None

    def close(self) -> None:
        self._session.close()
        self.engine.dispose()


class WithConnection(Caller):
    hears = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        self.connection = self.engine.connect()

    @property
    def session(self) -> Any:
        return self.connection

    @contextmanager
    def transaction(self) -> Iterator[object]:
        nested = self.connection.in_transaction()
        with self.connection.begin_nested() if nested else self.connection.begin():
            yield

    def execute(self, statement: str) -> Any:
        done = self.connection.execute(sqlalchemy.text(statement))
        return done.scalar() if done.returns_rows else None

    def close(self) -> None:
        self.connection.close()
        self.engine.dispose()


class WithJoinedSession(WithConnection):
    """A Session in a transaction that somebody else commits, as test suites have it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._session: Session | None = None

    @property
    def session(self) -> Any:
        return self._session

    @contextmanager
    def transaction(self) -> Iterator[object]:
        if self._session is not None:
            with self._session.begin_nested():
                yield
            return
        try:
            with super().transaction(), Session(self.connection) as self._session:
                yield
                self._session.commit()  # which is not the end
        finally:
            self._session = None


class WithPsycopg(Caller):
    hears = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connection: psycopg.Connection[Any] = psycopg.connect(url)

    @property
    def session(self) -> Any:
        return self.connection

    def transaction(self) -> AbstractContextManager[object]:
        return self.connection.transaction()

    def execute(self, statement: str) -> Any:
        cursor = psycopg.Cursor(self.connection).execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def close(self) -> None:
        self.connection.close()


class WithDjango(Caller):
    hears = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        if not settings.configured:
            settings.configure(DATABASES={}, USE_TZ=True, LOGGING_CONFIG=None)
            django.setup()
        from django.db import connections  # noqa: PLC0415 - only once there are settings

        parts = urlsplit(url)
        # As `django.db.connection` is it, but to the database of this test.
        connections.settings = connections.configure_settings(
            {
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": parts.path.lstrip("/"),
                    "HOST": parts.hostname or "",
                    "PORT": parts.port or "",
                    "USER": parts.username or "",
                    "PASSWORD": parts.password or "",
                }
            }
        )
        self._connections = connections

    @property
    def session(self) -> Any:
        return self._connections["default"]

    def transaction(self) -> AbstractContextManager[object]:
        from django.db import transaction  # noqa: PLC0415 - only once there are settings

        return transaction.atomic()

    def execute(self, statement: str) -> Any:
        with self.session.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def close(self) -> None:
        self.session.close()
        del self._connections["default"]


KINDS: dict[str, type[Caller]] = {
    "session": WithSession,
    "connection": WithConnection,
    "joined session": WithJoinedSession,
    "psycopg": WithPsycopg,
    "django": WithDjango,
}
