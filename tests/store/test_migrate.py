"""Migrating: once, whoever else does it too, and never onto a schema nobody here knows."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.store import migrate

REVISIONS = tuple(
    sorted(file.stem[:4] for file in (Path(migrate.__file__).parent / "migrations").rglob("0*.py"))
)
NEWEST = REVISIONS[-1]


def _claim_to_be(url: str, revision: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE orchestrator.schema_version SET version_num = %s", (revision,))


def test_an_empty_database_is_brought_to_the_newest_revision_once(empty_database_url: str) -> None:
    before = migrate.status(empty_database_url)

    assert (before.current, before.newest, before.pending) == (None, REVISIONS[-1], REVISIONS)
    assert migrate.upgrade(empty_database_url) == REVISIONS
    assert migrate.upgrade(empty_database_url) == ()
    after = migrate.status(empty_database_url)
    assert (after.current, after.pending, after.unknown) == (REVISIONS[-1], (), False)
    migrate.require_current(empty_database_url)


def test_of_four_that_migrate_at_once_one_does_it_and_three_wait(empty_database_url: str) -> None:
    barrier = Barrier(4)

    def upgrade() -> tuple[str, ...]:
        barrier.wait()
        return migrate.upgrade(empty_database_url)

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(upgrade) for _ in range(4)]]

    assert sorted(done) == [(), (), (), REVISIONS]


def test_a_migration_that_fails_leaves_the_revision_before_it(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA orchestrator")
        connection.execute("CREATE TABLE orchestrator.audit (mine text)")

    with pytest.raises(Exception, match='relation "audit" already exists'):
        migrate.upgrade(empty_database_url)

    assert migrate.status(empty_database_url).current is None
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("DROP TABLE orchestrator.audit")
    assert migrate.upgrade(empty_database_url) == REVISIONS


def test_working_on_an_unmigrated_database_names_the_command(empty_database_url: str) -> None:
    with pytest.raises(Unavailable) as refused:
        migrate.require_current(empty_database_url)

    assert str(refused.value) == (
        f"the database's schema is at nothing, this release needs {NEWEST}: "
        "run `orchestrator db upgrade`"
    )


def test_a_schema_one_revision_behind_is_refused_and_upgraded(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url)
    before = REVISIONS[-2]
    _claim_to_be(empty_database_url, before)

    with pytest.raises(Unavailable, match=f"schema is at {before}, this release needs {NEWEST}"):
        migrate.require_current(empty_database_url)
    assert migrate.status(empty_database_url).pending == (NEWEST,)


@pytest.mark.parametrize("act", [migrate.upgrade, migrate.require_current])
def test_a_schema_of_a_later_release_is_refused(database_url: str, act: object) -> None:
    _claim_to_be(database_url, "9999")

    assert callable(act)
    with pytest.raises(Unavailable) as refused:
        act(database_url)

    assert migrate.status(database_url).unknown
    assert str(refused.value) == (
        f"the database's schema 9999 is newer than this release, which knows up to {NEWEST}: "
        "install the release that migrated it"
    )


def test_no_server_is_told_in_one_sentence_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as refused:
            migrate.status(f"postgresql://ann:hunter2@127.0.0.1:{port}/nothing")

    told = str(refused.value)
    assert told.startswith(f"the database postgresql://ann:***@127.0.0.1:{port}/nothing")
    assert told.endswith("start it, or correct ORCHESTRATOR_DATABASE_URL")
    assert "\n" not in told
    assert "hunter2" not in told


def test_an_unknown_database_is_told_in_one_sentence(empty_database_url: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        migrate.upgrade(f"{empty_database_url}_missing")

    assert '_missing" does not exist; make it with createdb' in str(refused.value)


@pytest.mark.parametrize("url", ["nonsense", "mysql://root@localhost/test"])
def test_an_address_that_is_not_postgresql_is_told_in_one_sentence(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^the database address .*postgresql://"):
        migrate.status(url)
