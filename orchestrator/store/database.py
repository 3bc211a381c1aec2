"""Connections, and the one place that re-runs a transaction.

A process has two small pools, made lazily and after a fork. The *hot* one hands each thread one
psycopg connection (the one under SQLAlchemy's) in autocommit with settings that keep the plans of
the hot moves in lock order (hotpath.md 7). The *calm* one serves everything that is not hot through
SQLAlchemy Core. Isolation is READ COMMITTED, set by us (protocol.md). `Database.run` re-runs a
whole transaction function with tenacity on serialization failures, deadlocks and lost connections,
and on nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.rows import TupleRow, tuple_row
from sqlalchemy import Connection as CoreConnection
from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.pool import PoolProxiedConnection, QueuePool
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_exponential_jitter

from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.store import reaching

#: What every function of `store` that is hot takes: a psycopg connection.
Connection = psycopg.Connection[TupleRow]

P = ParamSpec("P")
T = TypeVar("T")

_TRANSIENT_STATES = frozenset(
    {
        *("40001", "40P01", "55P03"),  # serialization failure, deadlock, lock timeout
        *("57P01", "57P02", "57P03", "53300"),  # the server stops, starts, or is full
        *("25P03", "57P05"),  # it ended a session that was idle for too long
        "25006",  # it became a standby
    }
)
_ORDINARY = (
    "SET default_transaction_isolation = 'read committed'",
    "SET timezone = 'UTC'",
    "SET idle_in_transaction_session_timeout = '5s'",
    "SET lock_timeout = '{lock_ms}ms'",
)
_HOT = (
    "SET jit = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
)


#: In a forked child: what its parent's threads hold, never to be given back here.
_OF_THE_PARENT: list[PoolProxiedConnection] = []


def is_transient(error: BaseException) -> bool:
    """Return whether running the same transaction again may succeed.

    True for lost or refused connections, serialization failures, deadlocks, lock timeouts and
    servers that are starting or stopping; classified by SQLSTATE, never by class name.
    """
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or (error.orig is not None and is_transient(error.orig))
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return state in _TRANSIENT_STATES or state.startswith("08")


def is_refusal(error: BaseException) -> bool:
    """Return whether the database will refuse these values whenever they are written.

    True for values that it cannot hold, that are too large, or that break a constraint.
    """
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")


def is_of_database(error: BaseException) -> bool:
    """Return whether an error was raised by the database or on the way to it."""
    return isinstance(error, psycopg.Error | exc.SQLAlchemyError)


def is_cancelled(error: BaseException) -> bool:
    """Return whether a statement was ended because it took longer than it may."""
    return isinstance(error, psycopg.errors.QueryCanceled)


def parse_url(url: str) -> URL:
    """Return a PostgreSQL address as SQLAlchemy takes it.

    Raises:
        InvalidInput: it is no address, or one of another kind of database.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:  # a port that is no number
        raise InvalidInput(
            "the database address is not a URL; write postgresql://user:password@host:5432/name, "
            "special characters of a password as %40 for @"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        raise InvalidInput(
            f"the database address names {parsed.drivername!r}; only postgresql:// is supported"
        )
    return parsed.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """Return an address as messages show it: as it was written, without its password."""
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


class Database:
    """The database of one process.

    Args:
        url: a PostgreSQL address, ``postgresql://user@host/name`` (libpq parameters after ``?``).
        lock_timeout: longest wait for a row lock before the transaction is run again.
        patience: for how long a transaction is run again while the database is away, before
            `Unavailable`.
        transaction_pooling: between us and the server is a pooler that gives a connection a server
            session for one transaction (PgBouncer): nothing may be left in a session.
        clock_offset: moves the database's clock for this process (the virtual clock of tests).
    """

    def __init__(
        self,
        url: str,
        *,
        lock_timeout: timedelta = timedelta(seconds=10),
        patience: timedelta = timedelta(seconds=30),
        transaction_pooling: bool = False,
        clock_offset: timedelta = timedelta(),
    ) -> None:
        self._url = parse_url(url)
        self._lock_ms = int(lock_timeout.total_seconds() * 1000)
        self._patience = patience.total_seconds()
        self.transaction_pooling = transaction_pooling
        self._clock_offset = clock_offset
        self._engines: dict[str, Engine] = {}
        self._guard = threading.Lock()
        self._local = threading.local()
        self._held: dict[threading.Thread, PoolProxiedConnection] = {}

    @property
    def address(self) -> str:
        """The address as messages show it, without a password."""
        return shown(self._url)

    # -- connections ---------------------------------------------------------------------------

    def hot(self) -> Connection:
        """Return this thread's hot connection: psycopg, autocommit, opened on first use."""
        held: PoolProxiedConnection | None = getattr(self._local, "held", None)
        if held is None:
            held = self._engine("hot").raw_connection()
            self._local.held = held
            self._keep(held)
        connection: Connection = held.driver_connection  # type: ignore[assignment]
        return connection

    @contextmanager
    def calm(self) -> Iterator[CoreConnection]:
        """Open a Core transaction on the calm pool; it commits unless the block raises."""
        with self._engine("calm").begin() as connection:
            yield connection

    def direct(self) -> Connection:
        """Open a connection for a session that lives as long as its owner (advisory locks)."""
        connection = self._connect()
        self._prepare_session(connection, hot=False)
        return connection

    def meets_a_pooler(self) -> bool:
        """Return whether it is seen that a pooler shares server sessions between connections.

        True is certain: two connections open at the same time were served by one session. False is
        not, when others use the pooler too.
        """
        with self._connect() as one, self._connect() as other:
            session, again = (
                connection.execute("SELECT pg_backend_pid()").fetchone()
                for connection in (one, other)
            )
            return session == again

    def forget(self) -> None:
        """Drop this thread's hot connection; the next use opens a new one."""
        held: PoolProxiedConnection | None = getattr(self._local, "held", None)
        self._local.held = None
        with self._guard:
            self._held.pop(threading.current_thread(), None)
        if held is not None:
            held.invalidate()

    def close_after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone and start with none."""
        _OF_THE_PARENT.extend(self._held.values())
        for engine in self._engines.values():
            engine.dispose(close=False)
        self._engines, self._local, self._held = {}, threading.local(), {}
        self._guard = threading.Lock()

    def close(self) -> None:
        """Close this process's pools."""
        self._local, self._held = threading.local(), {}
        for engine in self._engines.values():
            engine.dispose()
        self._engines = {}

    # -- running transactions ------------------------------------------------------------------

    def run(
        self,
        transaction: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a transaction on this thread's hot connection, again while errors are transient.

        Raises:
            Unavailable: the database stayed away for longer than the patience of this `Database`.
        """

        def once() -> T:
            try:
                return transaction(self.hot(), *args, **kwargs)
            except (psycopg.Error, exc.DBAPIError) as error:
                if is_transient(error):
                    self.forget()
                raise

        try:
            # Nearly all succeed at once; tenacity's bookkeeping costs more than planning a record.
            return once()
        except (psycopg.Error, exc.DBAPIError) as error:
            if not is_transient(error):
                raise
        return self._again(once)

    def run_calm(
        self,
        transaction: Callable[Concatenate[CoreConnection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function in one Core transaction, again while errors are transient."""

        def once() -> T:
            with self.calm() as connection:
                return transaction(connection, *args, **kwargs)

        return self._again(once)

    def move_clock(self, by: timedelta) -> None:
        """Move the virtual clock of this thread's connections (tests)."""
        self._clock_offset += by
        self.hot().execute(
            "SELECT set_config('orchestrator.clock_offset', %s, false)",
            [f"{self._clock_offset.total_seconds()} s"],
        )
        for name in ("calm",):
            if name in self._engines:
                self._engines.pop(name).dispose()

    def _again(self, once: Callable[[], T]) -> T:
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_exponential_jitter(multiplier=0.02, max=1, jitter=0.05),
            stop=stop_before_delay(self._patience),
            reraise=True,
        )
        try:
            return attempts(once)
        except (psycopg.Error, exc.DBAPIError) as error:
            if not is_transient(error):
                raise
            told = error.orig if isinstance(error, exc.DBAPIError) else error
            raise Unavailable(
                f"the database {shown(self._url)} did not serve this transaction "
                f"within {self._patience:.0f} s: {reaching.reason(told or error)}; "
                f"{reaching.cure(told or error)} (`orchestrator db status` looks for it)"
            ) from error

    def _keep(self, held: PoolProxiedConnection) -> None:
        """Hold on to a connection beside its thread, and give back those whose thread has ended.

        A forked child loses the data of all threads but its own. Were a connection held there
        alone, SQLAlchemy would give it back in the child: wait for the lock of a statement that the
        parent is in the middle of, or roll back on the parent's socket.
        """
        with self._guard:
            over = [thread for thread in self._held if not thread.is_alive()]
            unused = [self._held.pop(thread) for thread in over]
            self._held[threading.current_thread()] = held
        for connection in unused:
            connection.close()

    def _engine(self, kind: str) -> Engine:
        with self._guard:
            if kind not in self._engines:
                engine = create_engine(
                    self._url,
                    poolclass=QueuePool,
                    pool_size=8,
                    max_overflow=120,
                    pool_pre_ping=kind == "calm",
                    connect_args=_KEEPALIVES,
                )

                @event.listens_for(engine, "connect")
                def prepare(connection: Any, _record: object) -> None:
                    self._prepare_session(connection, hot=kind == "hot")

                self._engines[kind] = engine
            return self._engines[kind]

    def _connect(self) -> Connection:
        url = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url, autocommit=True, **_KEEPALIVES)

    def _prepare_session(self, connection: Connection, *, hot: bool) -> None:
        """Set what the session needs; behind a pooler its role has these settings."""
        previous, connection.autocommit = connection.autocommit, True
        if self.transaction_pooling:
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        else:
            statements = [line.format(lock_ms=self._lock_ms) for line in _ORDINARY]
            connection.execute("; ".join([*statements, *(_HOT if hot else ())]))
        if self._clock_offset:
            connection.execute(
                "SELECT set_config('orchestrator.clock_offset', %s, false)",
                [f"{self._clock_offset.total_seconds()} s"],
            )
        connection.prepare_threshold = None if self.transaction_pooling else 1 if hot else 5
        if hot:
            _keep_cursor(connection)
        else:
            connection.autocommit = previous


def _keep_cursor(connection: Connection) -> None:
    """Let `execute` use one cursor for ever: making one costs as much as a third of a record.

    So on a hot connection a result is fetched before the next statement, as all of `store` does.
    """
    kept = psycopg.Cursor(connection)

    def cursor(asking: Any, *, row_factory: Any) -> psycopg.Cursor[Any]:
        if row_factory is tuple_row and not kept.closed:
            return kept
        return psycopg.Cursor(asking, row_factory=row_factory)

    connection.cursor_factory = cursor  # type: ignore[assignment]  # any callable will do


_KEEPALIVES: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "orchestrator",
}
