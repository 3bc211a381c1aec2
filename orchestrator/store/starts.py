"""Starting many executions at once, and inside a transaction that belongs to a caller.

Both are one call of a function of migration 0007, whose arguments and answer are plain text and
numbers: any driver a caller has can carry them, whatever adapters or row factories it uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from orchestrator.records import Start, Started
from orchestrator.store import moves
from orchestrator.store.borrowed import Borrowed
from orchestrator.store.database import Connection

_START = """
SELECT pg_catalog.pg_current_xact_id()::text,
       (SELECT pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_array(id, execution_id, input_hash, expired))
          FROM orchestrator.start_executions_2(%s, %s, %s::jsonb, %s::jsonb, %s, %s, %s))::text
"""
# Two connections are to one database if its server started at one moment and gave it one number:
# names and addresses differ by aliases and poolers.
_DATABASE = """
SELECT d.oid::text || ' ' || extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text,
       d.datname::text, pg_catalog.pg_current_xact_id()::text
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""


def start_executions(
    connection: Connection,
    *,
    flow: str,
    definition_id: int,
    starts: Sequence[Start],
    orders: Sequence[tuple[str, str, str]],
    unsent_after: timedelta,
    actor: str | None,
    deadline: timedelta | None = None,
) -> list[Started]:
    """Create executions with their first step runs, or read who holds their keys; all or nothing.

    The same ids again get the same answers.

    Args:
        starts: no key may be there twice.
        orders: (name, scope, queue) of the first step runs of each.
        deadline: how long after this start an execution fails that has not ended.
    """
    parameters = (flow, definition_id, _document(starts), moves.first_orders(orders, deadline))
    settings = (unsent_after.total_seconds(), actor, False)
    row = connection.execute(_START, (*parameters, *settings)).fetchone()
    assert row is not None  # noqa: S101  # a query without FROM returns one row
    return _started(starts, row[1])


def start_in(
    borrowed: Borrowed,
    *,
    flow: str,
    definition_id: int,
    starts: Sequence[Start],
    orders: Sequence[tuple[str, str, str]],
    unsent_after: timedelta,
    actor: str | None,
    deadline: timedelta | None = None,
) -> tuple[str, list[Started]]:
    """The same inside the caller's transaction; return that transaction's number too.

    Where nobody in this process will hear of the commit, a pump is woken by it and finds the first
    step runs due.
    """
    heard = borrowed.on_commit is not None
    parameters = (flow, definition_id, _document(starts), moves.first_orders(orders, deadline))
    attend_after = unsent_after.total_seconds() if heard else 0.0
    settings = (attend_after, actor, not heard and borrowed.may_notify)
    transaction, held = borrowed.fetch(_START, (*parameters, *settings))
    return transaction, _started(starts, held)


def database_of(connection: Connection) -> str:
    """Return what tells the database of a connection from every other one."""
    row = connection.execute(_DATABASE).fetchone()
    assert row is not None  # noqa: S101  # a session is in a database
    return str(row[0])


def database_of_caller(borrowed: Borrowed) -> tuple[str, str, str]:
    """Return what tells the caller's database from others, its name, and the transaction's number.

    In autocommit every statement has a number of its own.
    """
    identity, name, transaction = borrowed.fetch(_DATABASE, ())
    return identity, name, transaction


def existing(connection: Connection, executions: Iterable[UUID]) -> set[UUID]:
    """Return which of these executions are there: what was rolled back never was."""
    rows = connection.execute(
        "SELECT id FROM orchestrator.executions WHERE id = ANY (%s)", (list(executions),)
    ).fetchall()
    return {row[0] for row in rows}


def _document(starts: Sequence[Start]) -> str:
    return "[" + ",".join(_written(one) for one in starts) + "]"


def _written(one: Start) -> str:
    # The input is JSON text already; decoding it to encode it again would double the cost.
    return (
        f'{{"id":"{one.execution_id}","key":{json.dumps(one.key)},'
        f'"hash":"{one.input_hash}","input":{one.document}}}'
    )


def _started(starts: Sequence[Start], held: str | None) -> list[Started]:
    others = {UUID(row[0]): row for row in json.loads(held or "[]")}
    answers = []
    for one in starts:
        other = others.get(one.execution_id)
        if other is None:
            answers.append(
                Started(
                    execution_id=one.execution_id,
                    created=True,
                    input_hash=one.input_hash,
                    expired=False,
                )
            )
        else:
            _, execution_id, input_hash, expired = other
            answers.append(
                Started(
                    execution_id=UUID(execution_id),
                    created=False,
                    input_hash=input_hash,
                    expired=expired,
                )
            )
    return answers
