"""The schema is what the migrations make, and the database refuses what must not be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import sql
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Engine, make_url

from orchestrator import lifecycle
from orchestrator.store import tables
from tests.services.databases import Databases

# What a row needs at least; a test adds what it is about.
MINIMAL: dict[str, dict[str, Any]] = {
    "definitions": {
        "name": "f",
        "version": "1",
        "fingerprint": "0",
        "graph": "{}",
        "options": "{}",
    },
    "keys": {"definition": "f", "key": "k", "execution_id": "a" * 32, "input_hash": "0"},
    "executions": {
        "id": "a" * 32,
        "created_at": "now",
        "definition_id": 1,
        "started": 3,
        "status": "running",
    },
    "steps": {"execution_id": "a" * 32, "name": "s", "status": "ready", "queue": "q"},
    "payloads": {
        "execution_id": "a" * 32,
        "name": "s",
        "scope": "",
        "run": 0,
        "kind": "output",
        "value": "1",
    },
    "inbox": {
        "queue": "q",
        "kind": "message",
        "message_id": "m",
        "content": "0",
        "taken_at": "now",
    },
    "quarantine": {"at": "now", "reason": "deaths", "detail": "{}"},
    "replies": {"execution_id": "a" * 32, "reply_to": "q"},
    "journal": {"execution_id": "a" * 32, "at": "now", "position": 1, "kind": "started"},
    "workers": {
        "id": "b" * 32,
        "host": "h",
        "pid": 1,
        "born_at": 1.0,
        "started_at": "now",
        "beat_at": "now",
        "queues": "{}",
        "functions": "{}",
    },
}
HELD = {"status": "running", "holder": "b" * 32, "lease_until": "now", "token": 1}
ENDED_STATUSES = sorted({*lifecycle.ENDED_STEP, lifecycle.StepStatus.SUPERSEDED})


@pytest.fixture(scope="module")
def url(databases: Databases) -> Iterator[str]:
    with databases.migrated() as made:
        yield made


@pytest.fixture
def connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose transaction is rolled back: these tests share one database."""
    with psycopg.connect(url) as opened:
        yield opened
        opened.rollback()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    yield made
    made.dispose()


def insert(connection: psycopg.Connection[Any], table: str, **values: Any) -> None:
    row = MINIMAL[table] | values
    connection.execute(
        sql.SQL("INSERT INTO orchestrator.{} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join([sql.Placeholder()] * len(row)),
        ),
        list(row.values()),
    )


def test_tables_are_what_the_migrations_make(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "compare_type": True,
                "compare_server_default": True,
                "version_table": "schema_version",
                "version_table_schema": "orchestrator",
                "include_name": lambda name, kind, _: kind != "schema" or name == "orchestrator",
            },
        )
        found = compare_metadata(context, tables.metadata)

    changes = [change for change in found if "comment" not in str(_name_of(change))]
    assert changes == []


def _name_of(change: Any) -> Any:
    # a changed column comes as a list of tuples; comments are the SQL files' own
    return change[0][0] if isinstance(change, list) else change[0]


def test_keys_generated_columns_and_collations_agree_too(engine: Engine) -> None:
    inspected = inspect(engine)

    for name, table in tables.metadata.tables.items():
        short = name.removeprefix("orchestrator.")
        columns = {c["name"]: c for c in inspected.get_columns(short, schema="orchestrator")}
        key = inspected.get_pk_constraint(short, schema="orchestrator")["constrained_columns"]
        assert {c.name for c in table.primary_key} == set(key), name
        for column in table.columns:
            stored = columns[column.name]
            collation = getattr(stored["type"], "collation", None)
            assert getattr(column.type, "collation", None) == collation, column
            assert (column.computed is not None) == ("computed" in stored), column
            assert (column.identity is not None) == ("identity" in stored), column


def test_the_history_view_has_the_columns_tables_says(engine: Engine) -> None:
    found = inspect(engine).get_columns("history", schema="orchestrator")

    assert [(c.name, c.type.python_type) for c in tables.history.columns] == [
        (c["name"], c["type"].python_type) for c in found
    ]


def test_no_table_refers_to_another_by_a_foreign_key(
    connection: psycopg.Connection[Any],
) -> None:
    found = connection.execute("SELECT conname FROM pg_constraint WHERE contype = 'f'").fetchall()

    assert found == []


def _words(connection: psycopg.Connection[Any], function: str) -> set[str]:
    row = connection.execute(
        "SELECT prosrc FROM pg_proc WHERE oid = %s::regproc", (f"orchestrator.{function}",)
    ).fetchone()
    assert row is not None
    return set(re.findall(r"'(\w+)'", row[0]))


def test_the_statuses_of_the_constraints_are_those_of_lifecycle(
    connection: psycopg.Connection[Any],
) -> None:
    assert set(lifecycle.ExecutionStatus) == _words(connection, "execution_is_lawful_1")
    assert set(lifecycle.StepStatus) == _words(connection, "step_is_lawful_2")


@pytest.mark.parametrize("status", sorted(lifecycle.ExecutionStatus))
def test_every_status_of_an_execution_has_a_lawful_row(
    connection: psycopg.Connection[Any], status: lifecycle.ExecutionStatus
) -> None:
    ended = status in lifecycle.TERMINAL_EXECUTION
    finished = {"finished": 3, "finished_at": "now"} if ended else {}

    insert(connection, "executions", status=str(status), **finished)


@pytest.mark.parametrize("status", sorted(lifecycle.StepStatus))
def test_every_status_of_a_step_has_a_lawful_row(
    connection: psycopg.Connection[Any], status: lifecycle.StepStatus
) -> None:
    needs = {
        lifecycle.StepStatus.RUNNING: HELD,
        lifecycle.StepStatus.WAITING: {"wanted": 2, "live": 1},
        lifecycle.StepStatus.READY: {},
    }

    insert(connection, "steps", **(needs.get(status, {"ended_no": 1}) | {"status": str(status)}))


def test_a_message_counts_as_sent_when_its_newest_number_is_confirmed(
    connection: psycopg.Connection[Any],
) -> None:
    for number, (dispatch, sent) in enumerate([(0, 0), (1, 0), (1, 1), (2, 1), (1, 2)]):
        insert(connection, "steps", name=f"s{number}", dispatch=dispatch, sent=sent)
    found = connection.execute("SELECT message_sent FROM orchestrator.steps ORDER BY name")

    assert [row[0] for row in found] == [True, False, True, False, True]
    with pytest.raises(psycopg.errors.GeneratedAlways):
        connection.execute("UPDATE orchestrator.steps SET message_sent = true")


@pytest.mark.req("D1")
@pytest.mark.parametrize(
    ("constraint", "table", "values"),
    [
        ("executions_lawful", "executions", {"status": "waiting"}),
        ("executions_lawful", "executions", {"finished_at": "now"}),
        ("executions_lawful", "executions", {"status": "failing", "finished_at": "now"}),
        *(
            ("executions_lawful", "executions", {"status": str(status)})
            for status in sorted(lifecycle.TERMINAL_EXECUTION)
        ),
        ("executions_lawful", "executions", {"finished": 4}),
        ("executions_lawful", "executions", {"finished": 1, "failed": 2}),
        ("executions_lawful", "executions", {"failed": -1}),
        ("executions_lawful", "executions", {"finished": 3}),
        ("executions_lawful", "executions", {"finished": 3, "status": "failing"}),
        ("executions_lawful", "executions", {"finished": 3, "status": "cancelling"}),
        ("steps_lawful", "steps", {"status": "paused"}),
        ("steps_lawful", "steps", HELD | {"holder": None}),
        ("steps_lawful", "steps", HELD | {"lease_until": None}),
        ("steps_lawful", "steps", HELD | {"token": 0}),
        ("steps_lawful", "steps", {"status": "waiting"}),
        ("steps_lawful", "steps", {"status": "waiting", "wanted": 2}),
        ("steps_lawful", "steps", {"status": "waiting", "wanted": 2, "live": 2}),
        ("steps_lawful", "steps", {"status": "waiting", "wanted": 2, "live": 3}),
        ("steps_lawful", "steps", {"ended_no": 1}),
        ("steps_lawful", "steps", HELD | {"ended_no": 1}),
        *(("steps_lawful", "steps", {"status": str(status)}) for status in ENDED_STATUSES),
        ("payloads_kind", "payloads", {"kind": "input"}),
        ("workers_died", "workers", {"died": True}),
        ("inbox_kind", "inbox", {"kind": "guess"}),
        ("inbox_held", "inbox", {"holder": "b" * 32}),
        ("quarantine_message", "quarantine", {"queue": "q"}),
        ("quarantine_message", "quarantine", {"body": b"{}"}),
        ("quarantine_ended", "quarantine", {"released_at": "now", "dropped_at": "now"}),
        ("replies_answered", "replies", {"attend_at": "now", "answered_at": "now"}),
    ],
)
def test_a_row_that_must_not_be_is_refused(
    connection: psycopg.Connection[Any], constraint: str, table: str, values: dict[str, Any]
) -> None:
    with connection.transaction(force_rollback=True):
        insert(connection, table)  # the row is fine without the values at fault

    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        insert(connection, table, **values)

    assert constraint == refused.value.diag.constraint_name


@pytest.mark.parametrize(
    ("constraint", "table", "other"),
    [
        ("keys_pkey", "keys", {"execution_id": "c" * 32}),
        ("definitions_name_version", "definitions", {"fingerprint": "1"}),
        ("executions_pkey", "executions", {"definition_id": 2}),
        ("steps_pkey", "steps", {"queue": "other"}),
        ("payloads_pkey", "payloads", {"value": "2"}),
        ("journal_pkey", "journal", {"kind": "paused"}),
        ("inbox_pkey", "inbox", {"content": "1"}),
        ("replies_pkey", "replies", {"tries": 1}),
    ],
)
def test_what_is_unique_is_refused_the_second_time(
    connection: psycopg.Connection[Any], constraint: str, table: str, other: dict[str, Any]
) -> None:
    insert(connection, table)

    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        insert(connection, table, **other)

    assert constraint == refused.value.diag.constraint_name


def test_no_index_but_one_names_a_column_of_steps_that_changes(
    connection: psycopg.Connection[Any],
) -> None:
    """An update is HOT only if no column named by any index changes (protocol.md 8)."""
    found = connection.execute(
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'orchestrator'"
        " AND tablename IN ('steps', 'executions')"
    ).fetchall()

    shown = sorted((table, re.sub(r"^.* USING btree ", "", text)) for table, text in found)
    assert shown == [
        ("executions", "(definition_id, id)"),
        ("executions", "(id)"),
        ("steps", "(attend_at) WHERE (attend_at IS NOT NULL)"),
        ("steps", "(execution_id, name, scope, run)"),
    ]
