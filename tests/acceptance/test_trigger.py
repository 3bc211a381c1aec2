"""Executions started by messages of another program, through kills and outages (real processes)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.site import Site
from tests.services.foreign import QUEUE, Foreign, foreign
from tests.services.postgres import PrivatePostgres
from tests.services.processes import wait_until
from tests.services.rabbitmq import PrivateRabbit
from tests.services.tunnel import Tunnel

DEAD = f"{QUEUE}.dead"


@pytest.fixture
def program(rabbitmq_url: str) -> Iterator[Foreign]:
    """A program beside the site, on the same broker."""
    with foreign(rabbitmq_url) as made:
        yield made


def request(number: int = 1, **more: Any) -> dict[str, Any]:
    return {"flow": flows.line.name, "input": {"number": number}, **more}


def executions(site: Site) -> int:
    return int(site.rows("SELECT count(*) AS n FROM orchestrator.executions")[0]["n"])


def all_ended(site: Site, expected: int, *, timeout: float = 60) -> None:
    wait_until(
        lambda: site.ended() >= expected,
        timeout=timeout,
        what=lambda: (
            f"{expected} ended executions, there are {site.ended()} of "
            f"{executions(site)}; open rows:\n{site.describe()}"
        ),
    )
    assert executions(site) == site.ended() == expected


def quiet(program: Foreign) -> None:
    """Wait until the broker has nothing more to hand out, and everything was acknowledged."""
    wait_until(lambda: program.ready() == 0, timeout=30)


@pytest.mark.req("E12")
def test_message_of_another_program_runs_a_flow_and_its_result_comes_back(
    site: Site, program: Foreign
) -> None:
    site.worker()
    answers = program.declare()

    program.publish(request(1, key="o-1"), message_id="m1", reply_to=answers, correlation_id="c")

    document, properties = program.get(answers, timeout=30)
    assert (document["status"], document["key"]) == ("succeeded", "o-1")
    assert document["result"] == site.orchestrator.wait(document["execution"], 0)
    assert properties.correlation_id == "c"
    quiet(program)
    site.sound()


@pytest.mark.chaos
@pytest.mark.req("E10")
@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
def test_worker_killed_between_commit_and_acknowledgement_starts_nothing_twice(
    site: Site, program: Foreign, named: bool
) -> None:
    tunnel = Tunnel(site.settings.broker_url)
    victim = site.worker(env={"ORCHESTRATOR_BROKER_URL": tunnel.url})
    wait_until(lambda: program.consumers() == 1)
    tunnel.mute = True  # it will believe that it has acknowledged

    for number in range(6):
        program.publish(request(number % 2), message_id=f"m{number}" if named else None)
    # of messages without an id it wants to know that they are acknowledged before it takes others
    wait_until(lambda: executions(site) == 6 if named else executions(site) > 0)
    victim.kill9()
    tunnel.close()
    site.worker()

    all_ended(site, 6)
    program.publish(request(7), message_id="last")  # behind those that came again
    all_ended(site, 7)
    quiet(program)
    site.sound()


@pytest.mark.chaos
@pytest.mark.req("E10")
@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
def test_worker_killed_before_the_commit_loses_nothing(
    site: Site, program: Foreign, named: bool
) -> None:
    victim = site.worker()
    wait_until(lambda: program.consumers() == 1)
    with psycopg.connect(site.settings.database_url) as blocker:
        blocker.execute("LOCK TABLE orchestrator.executions IN SHARE ROW EXCLUSIVE MODE")
        for number in range(6):
            program.publish(request(number % 2), message_id=f"m{number}" if named else None)
        wait_until(lambda: waits_for_lock(site), what="a transaction that has taken the messages")
        victim.kill9()
    site.worker()

    all_ended(site, 6)
    quiet(program)
    site.sound()


def waits_for_lock(site: Site) -> bool:
    found = site.rows(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    )
    return bool(found)


@pytest.mark.chaos
@pytest.mark.req("E10")
@pytest.mark.req("E12")
def test_two_workers_that_are_killed_in_turn_start_every_message_once(
    site: Site, program: Foreign
) -> None:
    crew = [site.worker(), site.worker()]
    wait_until(lambda: program.consumers() == 2)
    stop = threading.Event()
    kills = 0

    def publish() -> None:
        with foreign(site.settings.broker_url) as another:
            for number in range(200):
                another.publish(request(number), message_id=f"m{number}")
                if number % 4 == 0:
                    another.publish(request(number), message_id=f"m{number}")
                if number % 10 == 0:
                    another.publish(b"{", message_id=f"bad{number}")
        stop.set()

    thread = threading.Thread(target=publish)
    thread.start()
    while kills < 3 or not stop.is_set():
        started = executions(site)
        wait_until(lambda: executions(site) > started or stop.is_set(), timeout=60)
        victim = crew.pop(0)
        victim.kill9()
        kills += 1
        crew.append(site.worker(wait=False))
        if kills > 20:
            break
    thread.join()

    all_ended(site, 200, timeout=120)
    quiet(program)
    aside = site.rows("SELECT reason FROM orchestrator.quarantine")
    assert [row["reason"] for row in aside] == ["not JSON"] * 20
    site.sound()


@pytest.mark.chaos
@pytest.mark.req("E11")
def test_messages_published_while_the_database_is_down_start_when_it_is_back(
    open_site: OpenSite,
    own_database_url: str,
    own_postgres: PrivatePostgres,
    rabbitmq_url: str,
    program: Foreign,
) -> None:
    site = open_site(own_database_url, rabbitmq_url)
    site.worker(), site.worker()
    wait_until(lambda: program.consumers() == 2)
    program.publish(request(0), message_id="before")
    all_ended(site, 1)

    own_postgres.kill9()
    for number in range(40):
        program.publish(request(number), message_id=f"m{number}" if number % 2 else None)
    own_postgres.start()

    all_ended(site, 41, timeout=90)
    quiet(program)
    assert site.rows("SELECT 1 FROM orchestrator.quarantine") == []
    site.sound()


@pytest.mark.chaos
@pytest.mark.req("E10")
def test_messages_survive_a_killed_broker(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit
) -> None:
    site = site_on_own_broker
    site.worker()
    with foreign(own_rabbit.url) as program:
        wait_until(lambda: program.consumers() == 1)
        for number in range(30):
            program.publish(request(number), message_id=f"m{number}")
    own_rabbit.kill9()
    own_rabbit.start()
    with foreign(own_rabbit.url) as program:
        for number in range(30):
            program.publish(request(number), message_id=f"m{number}")

        all_ended(site, 30, timeout=90)
        quiet(program)
    site.sound()


def test_pool_processes_that_come_and_go_leave_the_connections_alone(
    site: Site, program: Foreign
) -> None:
    quiet_start = ("--without-mingle", "--without-gossip", "--max-tasks-per-child", "1")
    worker = site.worker(options=quiet_start)
    wait_until(lambda: program.consumers() == 1)
    answers = program.declare()

    for number in range(12):
        program.publish(request(number), message_id=f"m{number}", reply_to=answers)
        program.get(answers, timeout=30)

    all_ended(site, 12)
    assert "pauses" not in worker.log()
    assert len({call.pid for call in site.ran()}) > 6
    site.sound()


def test_worker_that_was_told_takes_triggers_only(site: Site, program: Foreign) -> None:
    site.worker(queues=[site.settings.trigger_queue])
    wait_until(lambda: program.consumers() == 1)

    program.publish(request(1, key="o-1"), message_id="m1")
    wait_until(lambda: executions(site) == 1)
    quiet(program)
    assert site.ended() == 0

    site.worker()
    all_ended(site, 1)


def test_worker_of_another_queue_takes_no_triggers(site: Site, program: Foreign) -> None:
    site.worker(queues=["reports"])

    assert program.consumers() == 0
