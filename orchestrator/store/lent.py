"""The transaction that a transactional step is handed, and in which its outcome is stored.

The body writes first, the record comes last, and both are one commit: an old token rolls back what
the body wrote. So the body must not end the transaction itself; whether it did is seen by the
transaction's id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeAlias, cast

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection as CoreConnection
from sqlalchemy.orm import Session

from orchestrator.errors import StepFailed
from orchestrator.store.database import Connection

#: What a body asks for by the annotation of its first parameter.
Kind: TypeAlias = Literal["core", "session", "psycopg"]
#: The connection whose transaction is lent.
Lender: TypeAlias = CoreConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """An open transaction in two hands.

    Attributes:
        to_body: what the body is given.
        to_record: the psycopg connection under it, for the record.
    """

    to_body: Any
    to_record: Connection
    transaction_id: str

    def take_back(self, step: str) -> None:
        """Write what the body's session still holds, and make sure that nothing was ended.

        Raises:
            StepFailed: the body committed, rolled back, or went on after an error of the database.
        """
        if isinstance(self.to_body, Session):
            self.to_body.flush()
        if self.to_record.info.transaction_status is TransactionStatus.INERROR:
            raise StepFailed(
                f"step {step!r} caught an error of the database and returned: what it wrote is lost"
                " with the transaction; let the error pass, or use a savepoint"
            )
        row = self.to_record.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
        if row is None or row[0] != self.transaction_id:
            raise StepFailed(
                f"step {step!r} committed or rolled back the transaction that it was handed: its"
                " outcome cannot be stored together with what it wrote; leave the end to the step"
            )


def lend(core: Lender, kind: Kind, timeout: timedelta) -> Lent:
    """Lend an open Core transaction to a body for as long as its timeout."""
    connection = cast("Connection", core.connection.driver_connection)
    row = connection.execute(
        "SELECT pg_current_xact_id()::text, set_config('idle_in_transaction_session_timeout', %s,"
        " true)",
        [f"{int(timeout.total_seconds() * 1000) + 5000}ms"],
    ).fetchone()
    assert row is not None  # noqa: S101  # it returns one row
    match kind:
        case "core":
            to_body: Any = core
        case "session":
            to_body = Session(bind=core, join_transaction_mode="control_fully")
        case "psycopg":
            to_body = connection
    return Lent(to_body=to_body, to_record=connection, transaction_id=row[0])
