"""The crash table of the protocol (protocol.md 9) on real processes: rows about workers.

A gate holds the body, so every kill hits the moment that its row of the table names.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.workers import connect
from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.proxy import AnswerLost
from tests.acceptance.site import Site
from tests.services.processes import wait_until
from tests.services.rabbitmq import PrivateRabbit

pytestmark = pytest.mark.chaos


def deaths(site: Site) -> int:
    return int(site.rows("SELECT sum(deaths) AS n FROM orchestrator.steps")[0]["n"])


# Killed before the record commits


@pytest.mark.req("E10")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_step_of_a_killed_worker_is_run_again_by_another_with_the_same_key(
    site: Site, pool: str
) -> None:
    victim = site.worker(pool=pool)
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    victim.kill9()
    site.worker()
    site.reached("gate", attempt=2)
    site.open("gate")

    assert site.result(handle) == 2 + 1
    row = site.row(handle, "hold")
    assert (row["attempt"], row["deaths"]) == (2, 1)
    assert {call.key for call in site.ran("hold")} == {str(site.ran("hold")[0].key)}
    assert site.calls() == {"hold": 2, "add": 1}
    site.sound()


@pytest.mark.req("E3")
def test_killed_worker_repeats_nothing_that_it_had_recorded_inline(site: Site) -> None:
    victim = site.worker()
    handle = site.start(flows.gated_behind, "gate")
    site.reached("gate")

    victim.kill9()
    site.worker()
    site.open("gate")

    assert site.result(handle) == 2 + 1
    assert site.row(handle, "before")["attempt"] == 1
    assert site.row(handle, "hold")["deaths"] == 1
    assert [call.body for call in site.ran()] == ["add", "hold", "hold", "add"]
    site.sound()


def test_step_of_a_killed_pool_process_is_run_again_by_its_own_worker(site: Site) -> None:
    worker = site.worker()
    handle = site.start(flows.gated, "gate")
    pid = site.reached("gate")

    worker.kill9_child(pid)
    assert site.reached("gate", attempt=2) != pid
    site.open("gate")

    assert site.result(handle) == 2 + 1
    assert site.row(handle, "hold")["deaths"] == 1
    site.sound()


def test_main_process_killed_alone_leaves_nothing_running_for_ever(site: Site) -> None:
    victim = site.worker()
    handle = site.start(flows.gated, "gate")
    site.reached("gate")
    orphans = victim.children()

    victim.child.signal(9)
    site.worker()
    site.open("gate")

    assert site.result(handle) in {1 + 1, 2 + 1}
    assert site.calls()["add"] == 1
    wait_until(lambda: not any(orphan.is_running() for orphan in orphans), what="their end")
    site.sound()


# After the commit, before publish


@pytest.mark.req("E4")
def test_message_lost_between_commit_and_publish_is_sent_by_a_sweep(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit
) -> None:
    site = site_on_own_broker
    victim = site.worker()
    handle = site.start(flows.gated_apart, "gate")
    site.reached("gate")
    own_rabbit.settle()
    own_rabbit.child.signal_group(19)  # SIGSTOP: it takes bytes and does nothing with them

    site.open("gate")
    wait_until(lambda: site.has_row(handle, "add_apart", dispatch=1, sent=0), what="the commit")
    victim.kill9()
    own_rabbit.child.kill9()  # and with it what it had not read
    own_rabbit.start()
    site.worker()

    assert site.result(handle) == 1 + 2
    assert site.row(handle, "hold")["attempt"] == 1
    row = site.row(handle, "add_apart")
    assert (row["attempt"], row["deaths"], row["dispatch"] > 1) == (1, 0, True)
    assert site.calls() == {"hold": 1, "add_apart": 1, "add": 1}
    site.sound()


# After publish, before the mark


@pytest.mark.req("E4")
def test_message_sent_but_not_marked_is_sent_again_and_counts_once(
    open_site: OpenSite, database_url: str, rabbitmq_url: str
) -> None:
    site = open_site(database_url, rabbitmq_url, unsent_after="4s")
    elsewhere = f"{site.settings.queue}.elsewhere"
    victim = site.worker(queues=[site.settings.queue])
    # a worker that consumes the other queue makes it, and takes nothing from it when it is gone
    site.worker(queues=["elsewhere"]).stop()
    with connect.broker(site.settings)() as connection:
        channel = connection.channel()

        def waiting() -> int:
            return int(channel.queue_declare("elsewhere", passive=True).message_count)

        handle = site.start(flows.gated_elsewhere, "gate")
        site.reached("gate")
        site.open("gate")
        wait_until(lambda: waiting() == 1, interval=0.005, what=f"the message in {elsewhere}")
        victim.freeze()  # answers are collected once a second: it has not marked it yet
        assert site.has_row(handle, "add_elsewhere", status="ready", dispatch=1, sent=0)
        victim.kill9()

        site.worker(queues=[site.settings.queue])
        wait_until(lambda: waiting() == 2, what="the second message")
    site.worker(queues=["elsewhere"])

    assert site.result(handle) == 1 + 2
    assert site.calls() == {"hold": 1, "add_elsewhere": 1, "add": 1}
    assert site.row(handle, "add_elsewhere")["attempt"] == 1
    site.sound()


# In the commit, answer lost


@pytest.fixture
def proxy(database_url: str) -> Iterator[AnswerLost]:
    made = AnswerLost(database_url)
    yield made
    made.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("move", ["claim_steps_3", "record_step_2", "record_steps_2"])
def test_lost_answer_of_a_commit_is_asked_for_again(
    site: Site, proxy: AnswerLost, move: str, pool: str
) -> None:
    proxy.lose_answer_to(f"orchestrator.{move}")
    site.worker(env={"ORCHESTRATOR_DATABASE_URL": proxy.url}, pool=pool)

    handles = [site.start(flows.fan, 3), site.start(flows.line, 1)]

    assert site.results(handles) == [5, 5]
    assert proxy.lost.is_set()
    assert site.calls() == {"numbers": 1, "square": 3, "total": 1, "add": 4}
    # a fan-out's own row is taken twice: to order its items, and when they have ended
    attempts = site.rows(
        "SELECT max(attempt) AS attempt, max(token) AS token, sum(deaths) AS deaths"
        " FROM orchestrator.steps WHERE items IS NULL"
    )
    assert attempts == [{"attempt": 1, "token": 1, "deaths": 0}]
    site.sound()


# After the claim, worker gone for good


def test_step_of_a_worker_that_is_gone_for_good_is_taken_on_proof_before_its_lease_ends(
    open_site: OpenSite, database_url: str, own_rabbit: PrivateRabbit
) -> None:
    site = open_site(
        database_url, own_rabbit.url, lease="10m", lost_after="1h", lost_idle_after="1h"
    )
    victim = site.worker()
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    victim.kill9()
    own_rabbit.wipe()  # nobody delivers its message again
    site.worker()
    site.open("gate")

    assert site.result(handle) == 2 + 1
    assert site.row(handle, "hold")["deaths"] == 1
    site.sound()


# Worker stopped or cut off, alive


@pytest.mark.req("E10")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_late_outcome_of_a_stopped_worker_is_refused(site: Site, pool: str) -> None:
    stopped = site.worker(pool=pool, concurrency=1)
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    stopped.freeze()
    site.worker()
    site.reached("gate", attempt=2)
    site.open("gate")
    assert site.result(handle) == 2 + 1
    before = site.row(handle, "hold")
    stopped.thaw()
    stopped.wait_for_log(r"Task gated\.hold\[.*succeeded in .*nothing to do")

    assert site.row(handle, "hold") == before
    assert (before["attempt"], before["token"], before["deaths"]) == (2, 2, 0)
    assert site.calls() == {"hold": 2, "add": 1}
    # it has noticed nothing and works on
    assert site.result(site.start(flows.line, 1)) == 5
    site.sound()


# Beat stopped, or two beats


def test_two_beats_change_nothing_and_no_beat_stops_nothing(site: Site) -> None:
    site.worker()
    beats = [site.crew.beat(), site.crew.beat()]

    handles = [site.start(flow, 7) for flow in (flows.failing_twice, flows.mixed, flows.hops)]
    assert site.results(handles) == [8, 5 + 8, 11]
    calls = site.calls()
    for beat in beats:
        beat.wait_for_log("Sending due task wake-due")
        beat.kill9()
    handles = [site.start(flow, 7) for flow in (flows.failing_twice, flows.mixed, flows.hops)]

    assert site.results(handles) == [8, 5 + 8, 11]
    assert site.calls() == {body: 2 * times for body, times in calls.items()}
    assert calls["fail_twice"] == 3
    assert deaths(site) == 0
    site.sound()


def test_beat_rings_and_workers_do_its_duties(site: Site) -> None:
    worker = site.worker()
    site.crew.beat()
    worker.wait_for_log(r"Task orchestrator\.wake_due\[.*succeeded")

    for duty in ("wake_due", "redrive", "recover", "expire"):
        site.duty(duty)
        worker.wait_for_log(rf"Task orchestrator\.{duty}\[.*succeeded")
