"""A transaction that belongs to a caller: how to say something in it, and how to hear of its end.

What we write there goes through the caller's own library, so that it keeps its books: SQLAlchemy
begins its transaction, Django knows that a query failed. Nothing of the caller's is changed or
relied on: not search_path, isolation level, autocommit, row factory, cursor class nor prepared
statements.

Whether and when such a transaction commits is heard from the library where it tells exactly:
a Session bound to an engine, a Django connection. A SQLAlchemy connection speaks before its commit
and not after it, a psycopg connection not at all, and a Session that joined somebody's transaction
commits nothing: there the database itself has to tell, by a NOTIFY (protocol.md 8).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Connection as CoreConnection
from sqlalchemy import TwoPhaseTransaction, event, exc, text

from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session

    #: What ``session=`` takes.
    CallersTransaction: TypeAlias = (
        Session
        | scoped_session[Any]
        | CoreConnection
        | psycopg.Connection[Any]
        | "DjangoConnection"
    )

_PENDING = "orchestrator.pending"


class DjangoConnection(Protocol):
    """What is used of ``django.db.connection``, and of those in ``django.db.connections``."""

    @property
    def vendor(self) -> str:
        """Which database it is."""
        ...

    @property
    def in_atomic_block(self) -> bool:
        """Whether Django holds a transaction open."""
        ...

    def cursor(self) -> Any:
        """Return a cursor."""
        ...

    def get_autocommit(self) -> bool:
        """Return whether Django commits each statement outside of atomic blocks."""
        ...

    def on_commit(self, func: Callable[[], object], robust: bool = ...) -> None:
        """Call after the commit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Borrowed:
    """A caller's transaction.

    Attributes:
        fetch: run one statement with ``%s`` for its parameters; return its only row.
        on_commit: have something called after the commit, and never after a rollback of the whole;
            None where nobody in this process hears of it.
        may_notify: False for a prepared transaction, in which PostgreSQL refuses NOTIFY.
    """

    fetch: Callable[[str, Sequence[object]], tuple[Any, ...]]
    on_commit: Callable[[Callable[[], None]], None] | None = None
    may_notify: bool = True


def borrow(session: Any) -> Borrowed:
    """Return how to use a caller's transaction.

    Raises:
        InvalidInput: it is nothing of what ``session=`` takes, or not to PostgreSQL.
    """
    if isinstance(session, psycopg.Connection):
        return _of_psycopg(session)
    if isinstance(session, CoreConnection):
        return _of_core(session)
    orm: Any = sys.modules.get("sqlalchemy.orm")  # who has a Session has loaded it
    if orm is not None and isinstance(session, orm.scoped_session):
        session = session()
    if orm is not None and isinstance(session, orm.Session):
        return _of_session(session)
    if hasattr(session, "in_atomic_block") and hasattr(session, "on_commit"):
        return _of_django(session)
    hint = ""
    kind = type(session)
    if kind.__name__.startswith("Async") and kind.__module__.startswith("sqlalchemy"):
        hint = (
            ": in asynchronous code write await session.run_sync(lambda s: start(..., session=s))"
        )
    raise InvalidInput(
        "session= takes a SQLAlchemy Session or Connection, django.db.connection or a psycopg"
        f" Connection, not a {kind.__module__}.{kind.__qualname__}{hint}"
    )


def _of_psycopg(connection: psycopg.Connection[Any]) -> Borrowed:
    def fetch(statement: str, parameters: Sequence[object]) -> tuple[Any, ...]:
        # Not the connection's own cursor: its class and rows are the caller's choice.
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(statement, parameters, prepare=False)
            return tuple(_only(cursor.fetchone()))

    return Borrowed(fetch=fetch)


def _of_core(connection: CoreConnection) -> Borrowed:
    _require_postgresql(connection.dialect.name)

    def fetch(statement: str, parameters: Sequence[object]) -> tuple[Any, ...]:
        # Through Core, so that its transaction has begun; typed, as not every driver lets the
        # server find out the types.
        first, *rest = statement.split("%s")
        named = {f"p{number}": value for number, value in enumerate(parameters)}
        written = first + "".join(
            f"CAST(:{name} AS {_TYPES[type(value)]}){piece}"
            for (name, value), piece in zip(named.items(), rest, strict=True)
        )
        return tuple(_only(connection.execute(text(written), named).fetchone()))

    prepared = isinstance(connection.get_transaction(), TwoPhaseTransaction)
    return Borrowed(fetch=fetch, may_notify=not prepared)


def _of_session(session: Session) -> Borrowed:
    try:
        connection = session.connection()
    except exc.UnboundExecutionError as error:
        raise InvalidInput(
            f"session= is a Session of several databases, or of none ({error}): pass the"
            " connection to ours, session.connection(bind_arguments=...)"
        ) from error
    borrowed = _of_core(connection)
    if isinstance(session.get_bind(), CoreConnection):
        return borrowed  # it joined a transaction: its own commit is not the end

    def on_commit(call: Callable[[], None]) -> None:
        _pending_of(session).append((connection.get_transaction(), call))

    return Borrowed(fetch=borrowed.fetch, on_commit=on_commit, may_notify=borrowed.may_notify)


def _of_django(connection: DjangoConnection) -> Borrowed:
    _require_postgresql(connection.vendor)

    def fetch(statement: str, parameters: Sequence[object]) -> tuple[Any, ...]:
        with connection.cursor() as cursor:
            cursor.execute(statement, list(parameters))
            return tuple(_only(cursor.fetchone()))

    if not connection.in_atomic_block and not connection.get_autocommit():
        return Borrowed(fetch=fetch)  # transactions by hand, of whose commits Django does not tell

    def on_commit(call: Callable[[], None]) -> None:
        connection.on_commit(call, robust=True)

    return Borrowed(fetch=fetch, on_commit=on_commit)


def _pending_of(session: Session) -> list[tuple[Any, Callable[[], None]]]:
    """What waits for this session's commit; its listeners are there from the first use on."""
    pending: list[tuple[Any, Callable[[], None]]] | None = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = []
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_transaction_end", _ended)
    return pending


def _committed(session: Session) -> None:
    """Call what waited, unless this was the release of a savepoint."""
    pending = _pending_of(session)
    over = [call for root, call in pending if root is None or not root.is_active]
    pending[:] = [(root, call) for root, call in pending if root is not None and root.is_active]
    for call in over:
        call()


def _ended(session: Session, transaction: SessionTransaction) -> None:
    """Forget what waited for a commit that did not come."""
    if transaction.parent is None:
        _pending_of(session).clear()


def _require_postgresql(kind: str) -> None:
    if kind != "postgresql":
        raise InvalidInput(
            f"session= is a transaction of {kind}: executions are rows in PostgreSQL, so they can"
            " only be started together with rows of the same PostgreSQL database"
        )


def _only(row: Any) -> Any:
    assert row is not None  # noqa: S101  # our statements here return exactly one row
    return row


_TYPES: dict[type, str] = {
    str: "text",
    int: "integer",
    float: "double precision",
    bool: "boolean",
    type(None): "text",
}
