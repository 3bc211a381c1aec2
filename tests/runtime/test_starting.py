"""Starting: keys, tombstones, validation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from orchestrator import flow
from orchestrator.errors import Conflict, InvalidInput
from orchestrator.runtime import sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store.database import Database
from tests.runtime import flows
from tests.runtime.lab import Lab


@pytest.mark.req("E2")
def test_the_same_key_again_is_the_same_execution(lab: Lab) -> None:
    one = lab.start(flows.single, 1, key="order-7")
    two = lab.start(flows.single, 1, key="order-7")

    assert (one.created, two.created) == (True, False)
    assert one.id == two.id
    assert len(lab.mail) == 1
    lab.drain()
    assert lab.start(flows.single, 1, key="order-7").result(0) == 2


def test_the_same_key_with_another_input_is_a_conflict_that_shows_both(lab: Lab) -> None:
    handle = lab.start(flows.single, 1, key="order-7")

    with pytest.raises(Conflict, match=f"'order-7' .* {handle.id} with another input"):
        lab.start(flows.single, 2, key="order-7")


def test_one_key_may_serve_two_flows(lab: Lab) -> None:
    assert lab.start(flows.single, 1, key="k").id != lab.start(flows.chain, 1, key="k").id


@pytest.mark.req("E10")
def test_a_key_started_at_once_by_eight_threads_is_one_execution(lab: Lab) -> None:
    barrier = Barrier(8)

    def race(_: int) -> tuple[str, bool]:
        barrier.wait()
        handle = lab.start(flows.single, 1, key="same")
        return handle.id, handle.created

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(8)))

    assert len({identity for identity, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1
    assert len(lab.mail) == 1


def test_an_input_that_does_not_fit_is_refused_before_anything_is_stored(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="single"):
        lab.start(flows.single, "many")

    assert lab.database.hot().execute(
        "SELECT count(*) FROM orchestrator.executions"
    ).fetchone() == (0,)


def test_an_input_that_is_too_large_is_refused(open_lab) -> None:
    lab = open_lab(max_input_bytes=10)
    with pytest.raises(InvalidInput, match="at most 10 are allowed"):
        lab.start(flows.single, 10**12)
    with pytest.raises(InvalidInput, match="a key has 1 to 500 characters, this one 501"):
        open_lab().start(flows.single, 1, key="k" * 501)


@pytest.mark.req("E14")
def test_ended_executions_expire_and_their_keys_stay_as_tombstones(lab: Lab) -> None:
    ended = lab.start(flows.single, 1, key="old")
    lab.drain()
    open_one = lab.start(flows.single, 1, key="open")
    run = lab.database.run
    assert run(sweeps.expire_completed, lab.settings) == 0

    lab.advance(days=8)
    assert run(sweeps.expire_completed, lab.settings) == 1

    with pytest.raises(Conflict, match="finished and expired"):
        lab.start(flows.single, 1, key="old")
    assert open_one.view().facts.id == open_one.execution_id
    for table in ("steps", "journal", "execution_state"):
        left = lab.database.hot().execute(
            f"SELECT count(*) FROM orchestrator.{table} WHERE execution_id = %s",
            (ended.execution_id,),
        )
        assert left.fetchone() == (0,)
    lab.advance(days=21)
    assert run(sweeps.expire_keys, lab.settings) == 0
    lab.advance(days=2)
    assert run(sweeps.expire_keys, lab.settings) == 1
    assert lab.start(flows.single, 1, key="old").created is True


def test_the_same_version_with_another_graph_is_refused_with_the_difference(lab: Lab) -> None:
    lab.start(flows.single, 1)

    @flow(name="single", version=flows.single.definition.version)
    def other(n: int) -> int:
        return flows.second(flows.first(n))

    catalogue = Catalogue([other])
    with pytest.raises(Conflict, match=r"single.*is stored with another graph: new second"):
        lab.database.run(catalogue.registered, "single")


def test_an_execution_stays_on_the_graph_it_was_started_with(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)

    @flow(name="single")
    def newer(n: int) -> int:
        return flows.second(flows.first(n))

    worker = lab.worker(catalogue=Catalogue([newer]))
    lab.drain(worker)

    assert handle.result(0) == 2


def test_a_worker_without_the_function_offers_the_step_again_without_an_attempt(lab: Lab) -> None:
    knowing, ignorant = lab.worker(), lab.worker(catalogue=Catalogue([]))
    handle = lab.start(flows.single, 1)
    message = lab.mail.popleft()

    ignorant.deliver(message)
    ignorant.deliver(message)

    row = lab.row(handle, "first")
    assert (row["status"], row["attempt"], row["error"]["kind"]) == ("ready", 0, "postponed")
    lab.advance(seconds=6)
    assert [sent.number for sent in lab.sweep().messages] == [2]
    lab.drain(knowing)
    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_step_that_no_living_worker_has_is_parked_and_woken_by_registration(lab: Lab) -> None:
    ignorant = lab.worker(catalogue=Catalogue([]))
    handle = lab.start(flows.single, 1)
    ignorant.deliver()
    assert lab.row(handle, "first")["error"]["kind"] == "parked"
    assert "no living worker" in lab.row(handle, "first")["error"]["message"]
    lab.advance(seconds=6)
    assert lab.sweep().messages == []

    knowing = lab.worker()
    assert len(lab.sweep().messages) == 1
    lab.drain(knowing)

    assert handle.result(0) == 2


def test_a_closed_database_object_opens_again_on_use(database_url: str) -> None:
    database = Database(database_url)
    assert database.run(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    database.close()
    assert database.run(lambda connection: connection.execute("SELECT 2").fetchone()) == (2,)
    database.close()
