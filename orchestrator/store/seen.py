"""Keys of effects that were made in somebody else's database, kept in that database."""

from __future__ import annotations

import contextlib
from typing import Any

from orchestrator.errors import Unavailable
from orchestrator.store.borrowed import borrow

#: What the owner of the other database creates there, once.
TABLE = "CREATE TABLE orchestrator_seen (key text PRIMARY KEY, at timestamptz DEFAULT now())"

_TAKE = """
WITH taken AS (
    INSERT INTO orchestrator_seen (key) VALUES (%s) ON CONFLICT (key) DO NOTHING RETURNING key)
SELECT NOT EXISTS (SELECT 1 FROM taken)
"""


def seen(connection: Any, key: str) -> bool:
    """Insert a key in the caller's transaction; return whether it was there already.

    Whoever inserts the same key at the same time waits for the end of the first transaction.

    Raises:
        Unavailable: the database has no table for it.
        InvalidInput: the connection is none that a caller's transaction can be.
    """
    try:
        found: bool = borrow(connection).fetch(_TAKE, [key])[0]
    except Exception as error:
        if not _is_missing_table(error):
            raise
        raise Unavailable(
            f"this database has no table orchestrator_seen, in which keys are kept: {TABLE}"
        ) from error
    return found


def _is_missing_table(error: BaseException) -> bool:
    """The error is psycopg's, or that of the library around it."""
    cause: BaseException | None = error
    while cause is not None:
        with contextlib.suppress(AttributeError):
            if cause.sqlstate == "42P01":  # type: ignore[attr-defined]  # suppressed above
                return True
        cause = cause.__cause__
    return False
