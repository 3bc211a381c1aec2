"""`this_step()`: what a body may ask about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from orchestrator.errors import InvalidInput
from orchestrator.records import StepAddress
from orchestrator.store.seen import seen

#: Heartbeats closer together than this are kept and written with the next one, seconds.
_HEARTBEAT_SPACING = 1.0


class ThisStep:
    """The attempt that is running.

    Attributes:
        address: the step run.
        attempt: this is the n-th try, from 1.
        key: the execution's key, None if it was started without one.
    """

    def __init__(
        self,
        address: StepAddress,
        *,
        attempt: int,
        key: str | None,
        beat: Callable[[Any], bool],
        count_failed: Callable[[], int] = lambda: 0,
    ) -> None:
        self.address = address
        self.attempt = attempt
        self.key = key
        self._beat = beat
        self._count_failed = count_failed
        self._failed: int | None = None
        self._beaten_at = float("-inf")
        self._stop = False  # nobody waits for it, so it needs no lock

    @property
    def id(self) -> str:
        """The idempotency key: stable over attempts, redeliveries and operators' retries."""
        return str(self.address.id)

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return str(self.address.execution_id)

    @property
    def scope(self) -> str:
        """Where in the fan-outs this step runs: ``""`` or like ``parse[17]``."""
        return self.address.scope

    @property
    def failed(self) -> int:
        """How many attempts have failed before this one.

        Attempts that ended with their worker, were handed back or taken over are not among them.
        """
        if self._failed is None:
            self._failed = self._count_failed() if self.attempt > 1 else 0
        return self._failed

    @property
    def cancelled(self) -> bool:
        """Whether the body is asked to stop: its execution is closing, or its lease is gone."""
        return self._stop

    def heartbeat(self, data: Any = None) -> None:
        """Store progress (any value the codec takes) and learn of a cancel; cheap to call often.

        At most one call a second reaches the database.
        """
        now = time.monotonic()
        if now - self._beaten_at < _HEARTBEAT_SPACING:
            return
        self._beaten_at = now
        if self._beat(data):
            self._stop = True

    def seen(self, connection: Any) -> bool:
        """Insert this step's key in a transaction of your own; return whether it was there already.

        For effects in another PostgreSQL database than ours: what is written in the same
        transaction as the key happens once, however often the body runs. The table
        ``orchestrator_seen`` must be there::

            CREATE TABLE orchestrator_seen (key text PRIMARY KEY, at timestamptz DEFAULT now())

        Args:
            connection: a SQLAlchemy Session or Connection, ``django.db.connection`` or a psycopg
                Connection, with a transaction that you commit.

        Raises:
            Unavailable: the table is not there.
            InvalidInput: the connection is nothing of these.
        """
        return seen(connection, self.id)

    def ask_to_stop(self) -> None:
        """Make `cancelled` true (called by the engine)."""
        self._stop = True


_current: ContextVar[ThisStep] = ContextVar("this_step")


def this_step() -> ThisStep:
    """Return what is known of the step whose body is running.

    Raises:
        InvalidInput: called outside a step's body.
    """
    try:
        return _current.get()
    except LookupError:
        raise InvalidInput(
            "this_step() was called outside the body of a step; in a test, call the step inside of"
            " `with orchestrator.testing.as_step():`"
        ) from None


def enter(step: ThisStep) -> Any:
    """Make ``step`` the running one; pass the answer to `leave`."""
    return _current.set(step)


def leave(token: Any) -> None:
    """Undo `enter`."""
    _current.reset(token)
