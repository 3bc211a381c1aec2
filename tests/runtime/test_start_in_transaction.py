"""Starting inside the caller's own transaction: both or neither, and sent with the commit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from orchestrator import Conflict, InvalidInput
from orchestrator.records import StepMessage
from orchestrator.store.bell import Bell
from tests.runtime import flows
from tests.runtime.callers import KINDS, Caller, Undo
from tests.runtime.lab import Lab
from tests.services.databases import Databases


@pytest.fixture(params=KINDS)
def caller(request: pytest.FixtureRequest, database_url: str) -> Iterator[Caller]:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (id integer PRIMARY KEY)")
    made = KINDS[request.param](database_url)
    yield made
    made.close()


@pytest.fixture
def bell(lab: Lab) -> Iterator[Bell]:
    """Listens as a pump does."""
    made = Bell(lab.database)
    assert made.wait(5), "it has looked once since it listens"
    yield made
    made.close()


def executions(lab: Lab) -> int:
    found = lab.database.hot().execute("SELECT count(*) FROM orchestrator.executions").fetchone()
    assert found is not None
    return int(found[0])


def orders(lab: Lab) -> int:
    found = lab.database.hot().execute("SELECT count(*) FROM orders").fetchone()
    assert found is not None
    return int(found[0])


def sent(lab: Lab, caller: Caller, bell: Bell) -> list[StepMessage]:
    """The messages that a commit sent: by its own process, or by the pump that it woke."""
    if not caller.hears:
        assert lab.mail == type(lab.mail)(), "nobody here knows of the commit"
        assert bell.wait(5), "no pump was woken"
        lab.sweep()
    return list(lab.mail)


def silent(lab: Lab, bell: Bell) -> bool:
    """Whether nothing was sent, and nobody was asked to send."""
    lab.sweep()
    return not lab.mail and not bell.wait(0.1)


@pytest.mark.req("E12")
def test_a_commit_stores_and_sends_both(lab: Lab, caller: Caller, bell: Bell) -> None:
    with caller.transaction():
        caller.execute("INSERT INTO orders VALUES (1)")
        handle = lab.client.start(flows.single, 1, key="order-1", session=caller.session)
        assert handle.created
        assert executions(lab) == 0, "it is not there for others before the commit"
        assert silent(lab, bell)

    [message] = sent(lab, caller, bell)
    assert message.address.execution_id == handle.execution_id
    lab.drain()
    assert handle.result(0) == 2
    assert orders(lab) == 1
    lab.sound(handle)


@pytest.mark.req("E10")
def test_a_rollback_stores_and_sends_neither(lab: Lab, caller: Caller, bell: Bell) -> None:
    with suppress(Undo), caller.transaction():
        caller.execute("INSERT INTO orders VALUES (1)")
        lab.client.start(flows.single, 1, key="order-1", session=caller.session)
        raise Undo

    assert executions(lab) == orders(lab) == 0
    assert silent(lab, bell)
    with caller.transaction():
        assert lab.client.start(flows.single, 1, key="order-1", session=caller.session).created
    assert len(sent(lab, caller, bell)) == 1


def test_a_rollback_to_a_savepoint_undoes_what_began_after_it(
    lab: Lab, caller: Caller, bell: Bell
) -> None:
    with caller.transaction():
        with caller.transaction():
            kept = lab.client.start(flows.single, 1, session=caller.session)
        with suppress(Undo), caller.transaction():
            lab.client.start(flows.single, 2, session=caller.session)
            raise Undo
        too = lab.client.start(flows.single, 3, session=caller.session)

    messages = sent(lab, caller, bell)
    assert {message.address.execution_id for message in messages} == {
        kept.execution_id,
        too.execution_id,
    }
    assert executions(lab) == 2


def test_many_start_in_one_transaction(lab: Lab, caller: Caller, bell: Bell) -> None:
    with caller.transaction():
        handles = lab.client.start_many(
            flows.single, range(1_200), keys=map(str, range(1_200)), session=caller.session
        )
        assert executions(lab) == 0

    if caller.hears:
        assert len(lab.mail) == 1_200
    else:
        assert bell.wait(5)
    assert executions(lab) == len({handle.id for handle in handles}) == 1_200


def test_the_same_key_again_finds_the_start_of_the_same_transaction(
    lab: Lab, caller: Caller, bell: Bell
) -> None:
    with caller.transaction():
        one = lab.client.start(flows.single, 1, key="k", session=caller.session)
        two = lab.client.start(flows.single, 1, key="k", session=caller.session)

    assert (one.id, one.created, two.created) == (two.id, True, False)
    assert len(sent(lab, caller, bell)) == 1


def test_a_conflict_leaves_the_transaction_as_it_was(lab: Lab, caller: Caller, bell: Bell) -> None:
    lab.start(flows.single, 1, key="taken")
    lab.mail.clear()

    with caller.transaction():
        caller.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(Conflict, match="'taken'"):
            lab.client.start_many(
                flows.single, [3, 2], keys=["free", "taken"], session=caller.session
            )
        caller.execute("INSERT INTO orders VALUES (2)")

    assert (orders(lab), executions(lab)) == (2, 1)
    assert silent(lab, bell)
    assert lab.start(flows.single, 3, key="free").created


def test_a_transaction_in_another_database_is_refused_and_goes_on(
    lab: Lab, database_url: str, databases: Databases, subtests_of: Callable[..., Any]
) -> None:
    with databases.empty() as elsewhere:
        for kind in subtests_of(KINDS):
            caller = KINDS[kind](elsewhere)
            with caller.transaction():
                with pytest.raises(
                    InvalidInput, match=r"transaction in database .* and executions"
                ):
                    lab.client.start(flows.single, 1, session=caller.session)
                assert caller.execute("SELECT 1") == 1
            caller.close()
    assert executions(lab) == 0


@pytest.fixture
def subtests_of() -> Callable[..., Any]:
    """What is tried one after another in one test."""
    return list


def test_a_key_of_an_open_transaction_is_waited_for(
    lab: Lab, caller: Caller, database_url: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with caller.transaction():
            one = lab.client.start(flows.single, 1, key="k", session=caller.session)
            other = pool.submit(lab.client.start, flows.single, 1, key="k")
            _wait_for_a_lock(database_url)
            assert not other.done()
        two = other.result(timeout=10)

    assert (two.id, two.created) == (one.id, False)


def _wait_for_a_lock(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            waiting = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            ).fetchone()
            if waiting != (0,):
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


# What is the caller's own stays so.


def test_settings_of_the_connection_are_neither_changed_nor_relied_on(
    lab: Lab, caller: Caller, bell: Bell
) -> None:
    strange = {
        "search_path": '"$user"',
        "DateStyle": "German, DMY",
        "IntervalStyle": "sql_standard",
        "TimeZone": "Asia/Kathmandu",
        "extra_float_digits": "0",
        "bytea_output": "escape",
        "plan_cache_mode": "auto",
    }
    with caller.transaction():
        for name, value in strange.items():
            caller.execute(
                f"SET LOCAL {name} = '{value}'"
                if name != "search_path"
                else "SET LOCAL search_path = pg_temp"
            )
        before = {name: caller.execute(f"SHOW {name}") for name in strange}

        handle = lab.client.start(flows.single, 1, session=caller.session)

        assert {name: caller.execute(f"SHOW {name}") for name in strange} == before
    assert len(sent(lab, caller, bell)) == 1
    lab.drain()
    assert handle.result(0) == 2
    lab.sound(handle)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_any_isolation_level_will_do(lab: Lab, caller: Caller, bell: Bell, level: str) -> None:
    with caller.transaction():
        caller.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        caller.execute("SELECT count(*) FROM orders")
        handle = lab.client.start(flows.single, 1, key="k", session=caller.session)
        assert caller.execute("SHOW transaction_isolation") == level.lower()

    assert len(sent(lab, caller, bell)) == 1
    assert lab.client.facts(handle).started == 1


def test_rows_and_cursors_of_a_psycopg_connection_stay_the_callers(
    lab: Lab, database_url: str, bell: Bell
) -> None:
    with psycopg.connect(
        database_url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor
    ) as connection:
        connection.prepare_threshold = 0
        with connection.transaction():
            lab.client.start(flows.single, 1, session=connection)
        prepared = connection.execute(
            "SELECT count(*) AS n FROM pg_prepared_statements WHERE statement LIKE '%start_exec%'"
        ).fetchone()
    assert prepared == {"n": 0}
    assert bell.wait(5)


def test_a_statement_of_its_own_starts_at_once_in_autocommit(
    lab: Lab, database_url: str, bell: Bell
) -> None:
    engine = sqlalchemy.create_engine(
        database_url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    django = KINDS["django"](database_url)
    assert lab.client.start(flows.single, 1, session=django.session).created
    assert len(lab.mail) == 1
    with Session(engine) as session:
        lab.client.start(flows.single, 1, session=session)
        assert len(lab.mail) == 2, "there will be no commit to wait for"
    with psycopg.connect(database_url, autocommit=True) as connection:
        lab.client.start(flows.single, 1, session=connection)
        assert bell.wait(5)
    with engine.connect() as connection:
        lab.client.start(flows.single, 1, session=connection)
        assert bell.wait(5)
    assert executions(lab) == 4
    django.close()
    engine.dispose()


def test_django_transactions_by_hand_wake_a_pump(lab: Lab, database_url: str, bell: Bell) -> None:
    caller = KINDS["django"](database_url)
    caller.session.set_autocommit(False)
    lab.client.start(flows.single, 1, session=caller.session)
    assert silent(lab, bell)

    caller.session.commit()

    assert bell.wait(5)
    assert len(lab.sweep().messages) == 1
    caller.session.set_autocommit(True)
    caller.close()


def test_a_transaction_in_two_phases_may_not_notify_and_is_found_by_looking(
    lab: Lab, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        [allowed] = connection.execute("SHOW max_prepared_transactions").fetchone() or ("0",)
    engine = sqlalchemy.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        both = connection.begin_twophase()
        handle = lab.client.start(flows.single, 1, session=connection)
        if (
            allowed == "0"
        ):  # this server cannot prepare: what matters here is that we did not NOTIFY
            both.commit()
        else:
            both.prepare()
            assert executions(lab) == 0
            both.commit()
    engine.dispose()

    assert [m.address.execution_id for m in lab.sweep().messages] == [handle.execution_id]


def test_a_scoped_session_and_a_sessionmaker_are_sessions(lab: Lab, database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    registry = scoped_session(sessionmaker(engine))
    handle = lab.client.start(flows.single, 1, session=registry)
    registry.commit()
    assert [m.address.execution_id for m in lab.mail] == [handle.execution_id]
    lab.client.start(flows.single, 2, session=registry)
    registry.remove()  # without a commit
    lab.client.start(flows.single, 3, session=registry)
    registry.commit()
    assert len(lab.mail) == executions(lab) == 2
    registry.remove()
    engine.dispose()


def test_asynchronous_code_starts_in_its_session(lab: Lab, database_url: str) -> None:
    async def program() -> str:
        engine = create_async_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
        async with AsyncSession(engine) as session, session.begin():
            with pytest.raises(InvalidInput, match=r"await session\.run_sync"):
                lab.client.start(flows.single, 1, session=session)  # type: ignore[call-overload]  # tried
            handle = await session.run_sync(
                lambda inner: lab.client.start(flows.single, 1, session=inner)
            )
            assert not lab.mail
        await engine.dispose()
        return handle.id

    identity = asyncio.run(program())

    assert [str(message.address.execution_id) for message in lab.mail] == [identity]


@pytest.mark.parametrize("what", ["engine", "sqlite", "text"])
def test_what_is_no_transaction_of_ours_is_refused_by_what_it_is(
    lab: Lab, database_url: str, what: str
) -> None:
    given: Any = "text"
    said = "takes a SQLAlchemy Session or Connection"
    engine = sqlalchemy.create_engine(
        "sqlite://"
        if what == "sqlite"
        else database_url.replace("postgresql:", "postgresql+psycopg:")
    )
    if what == "engine":
        given, said = engine, r"not a sqlalchemy\.engine\.base\.Engine"
    elif what == "sqlite":
        given, said = engine.connect(), "a transaction of sqlite: executions are rows in PostgreSQL"

    with pytest.raises(InvalidInput, match=said):
        lab.client.start(flows.single, 1, session=given)

    if what == "sqlite":
        given.close()
    engine.dispose()


def test_a_session_of_several_databases_must_say_which(lab: Lab) -> None:
    with Session() as session, pytest.raises(InvalidInput, match="pass the connection to ours"):
        lab.client.start(flows.single, 1, session=session)


@pytest.mark.parametrize("kind", ["session", "django"])
def test_a_commit_does_not_fail_by_what_follows_it(
    open_lab: Callable[..., Lab], database_url: str, kind: str
) -> None:
    lab = open_lab()
    client = lab.client
    caller = KINDS[kind](database_url)

    def refuse(_: object) -> None:
        raise ConnectionError("the broker is away")

    client._publish = refuse
    with caller.transaction():
        handle = client.start(flows.single, 1, session=caller.session)
    caller.close()

    assert handle.status() == "running"
    lab.advance(seconds=6)
    assert len(lab.sweep().messages) == 1, "the sweep finds it"


def test_the_server_may_be_another_one_after_a_while(lab: Lab, database_url: str) -> None:
    """What we remember of our database is asked again before anybody is refused."""
    client = lab.client
    client._identity = "what it was before it was started again"
    with psycopg.connect(database_url) as connection:
        assert client.start(flows.single, 1, session=connection).created
