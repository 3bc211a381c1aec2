"""What PostgreSQL refuses, as a sentence for a person; errors of ours have theirs already."""

from __future__ import annotations

import psycopg
from sqlalchemy import exc

#: A table, function, schema, column or type of ours is not there.
_NO_SCHEMA = frozenset({"42P01", "42883", "3F000", "42703", "42704"})
_NO_RIGHT = "42501"


def sentence(error: BaseException) -> str | None:
    """Return what to say of an error of the database; None if it is another kind of error."""
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    if not isinstance(original, psycopg.Error):
        return None
    reason = str(original).strip().splitlines()[0] if str(original).strip() else "no reason given"
    state = original.sqlstate or ""
    if state in _NO_SCHEMA:
        return (
            f"the database lacks a part of the schema ({reason}): "
            "run `orchestrator db upgrade`, with the release that this command is of"
        )
    if state == _NO_RIGHT:
        return f"the database's user may not do this ({reason}): grant it, or use another user"
    return f"the database refused this ({reason}); `orchestrator doctor` looks at it"
