"""The servers of the tests: shared ones are untouched, private ones may be killed."""

import time

import psycopg
import pytest

from tests.services.databases import PREFIX, Databases, with_database
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit


def test_every_database_is_new(databases: Databases) -> None:
    with databases.empty() as one, databases.empty() as other:
        assert one != other
        with psycopg.connect(one) as conn:
            conn.execute("CREATE TABLE mine (id int)")
        with psycopg.connect(other) as conn:
            assert conn.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_database_is_gone_after_its_test(databases: Databases) -> None:
    with databases.empty() as url:
        held = psycopg.connect(url)

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    held.close()


def test_database_is_migrated(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        tables = conn.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'orchestrator'")
        assert tables.fetchone()


def test_leavings_of_runs_killed_long_ago_are_dropped(databases: Databases) -> None:
    long_ago, just_now = f"{PREFIX}_1_1_1", f"{PREFIX}_{int(time.time())}_1_1"
    with psycopg.connect(databases.server_url, autocommit=True) as conn:
        for name in (long_ago, just_now):
            conn.execute(f"CREATE DATABASE {name}")

        databases.drop_stale()

        left = [row[0] for row in conn.execute("SELECT datname FROM pg_database")]
        conn.execute(f"DROP DATABASE {just_now}")
    assert long_ago not in left
    assert just_now in left


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("postgresql://u@h:1/a", "postgresql://u@h:1/b"),
        ("postgresql://u@h", "postgresql://u@h/b"),
        ("postgresql://u@/a?host=/tmp/x", "postgresql://u@/b?host=/tmp/x"),
    ],
)
def test_address_of_another_database(server: str, expected: str) -> None:
    assert expected == with_database(server, "b")


@pytest.mark.system
def test_private_postgres_keeps_what_was_committed_when_it_is_killed(
    private_postgres: PrivatePostgres,
) -> None:
    with psycopg.connect(private_postgres.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    held = psycopg.connect(private_postgres.url)
    backends = private_postgres.child.children()

    private_postgres.kill9()

    assert not private_postgres.answers()
    assert backends
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")
    held.close()
    private_postgres.start()
    private_postgres.restart(immediate=True)
    with psycopg.connect(private_postgres.url) as conn:
        assert conn.execute("SELECT seven FROM kept").fetchone() == (7,)


@pytest.mark.system
def test_private_rabbit_keeps_its_queues_until_it_is_wiped(private_rabbit: PrivateRabbit) -> None:
    queue = '{resource, <<"/">>, queue, <<"kept">>}'
    make = f'rabbit_amqqueue:declare({queue}, true, false, [], none, <<"tests">>), ok.'
    count = "length(rabbit_amqqueue:list())."
    private_rabbit.eval(make)

    private_rabbit.kill9()

    assert not private_rabbit.answers()
    private_rabbit.start()
    assert private_rabbit.eval(count).strip() == "1"
    private_rabbit.wipe()
    assert private_rabbit.eval(count).strip() == "0"
    private_rabbit.stop()
    assert not private_rabbit.child.running()
