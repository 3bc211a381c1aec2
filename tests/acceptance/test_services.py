"""The crash table of the protocol (protocol.md 9) on real processes: rows about the services."""

from __future__ import annotations

import pytest

from orchestrator.workers import connect
from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.masses import Masses
from tests.acceptance.site import Site
from tests.services.postgres import PrivatePostgres
from tests.services.processes import wait_until
from tests.services.rabbitmq import PrivateRabbit

pytestmark = pytest.mark.chaos


def deaths(site: Site) -> int:
    return int(site.rows("SELECT sum(deaths) AS n FROM orchestrator.steps")[0]["n"])


# Broker wiped


def test_messages_of_a_wiped_broker_are_presumed_lost_and_sent_again(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit
) -> None:
    site = site_on_own_broker
    site.worker().stop()  # it has made the queue
    masses = Masses(site)
    masses.start(30)
    wait_until(
        lambda: not site.rows("SELECT 1 FROM orchestrator.steps WHERE NOT message_sent"),
        what="all confirms",
    )

    own_rabbit.wipe()
    assert site.ran() == []
    site.worker()

    masses.check_results(timeout=120)
    assert masses.bodies_run_again() == 0


def test_broker_wiped_in_the_middle_loses_nothing(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit
) -> None:
    site = site_on_own_broker
    site.worker()
    held = site.start(flows.gated_apart, "gate")
    site.reached("gate")
    masses = Masses(site)
    masses.start(30)
    wait_until(lambda: site.ended() >= 5, what="the first ends")

    own_rabbit.wipe()
    site.open("gate")

    assert site.result(held, timeout=120) == 1 + 2
    assert site.row(held, "hold")["attempt"] == 1
    site.results(masses.handles.values(), timeout=120)
    assert deaths(site) == 0
    site.sound()


# Broker restarted


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_broker_restarted_in_the_middle_loses_nothing(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit, how: str
) -> None:
    site = site_on_own_broker
    site.worker()
    held = site.start(flows.gated_apart, "gate")
    site.reached("gate")
    masses = Masses(site)
    masses.start(30)
    wait_until(lambda: site.ended() >= 5, what="the first ends")

    if how == "killed":
        own_rabbit.kill9()
        own_rabbit.start()
    else:
        own_rabbit.restart()
    site.open("gate")

    assert site.result(held, timeout=120) == 1 + 2
    assert site.row(held, "hold")["attempt"] == 1
    site.results(masses.handles.values(), timeout=120)
    assert deaths(site) == 0
    site.sound()


# Database restarted


@pytest.mark.req("E11")
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_database_restarted_in_the_middle_costs_no_attempt_and_counts_no_death(
    site_on_own_services: Site, own_postgres: PrivatePostgres, pool: str
) -> None:
    site = site_on_own_services
    site.worker(pool=pool)
    held = site.start(flows.gated_apart, "gate")
    site.reached("gate")
    masses = Masses(site)
    masses.start(20)
    wait_until(lambda: site.ended() >= 3, what="the first ends")

    own_postgres.restart(immediate=True)
    site.open("gate")

    assert site.result(held, timeout=120) == 1 + 2
    assert site.row(held, "hold")["attempt"] == 1
    masses.check_results(timeout=120)
    assert deaths(site) == 0
    assert not site.rows("SELECT 1 FROM orchestrator.workers WHERE died")


def test_database_that_is_away_for_longer_than_a_lease_kills_nobody(
    open_site: OpenSite,
    own_database_url: str,
    rabbitmq_url: str,
    own_postgres: PrivatePostgres,
) -> None:
    site = open_site(own_database_url, rabbitmq_url, lease="1s", beat_interval="300ms")
    workers = [site.worker(concurrency=1), site.worker(concurrency=1)]
    handles = [site.start(flows.gated, gate) for gate in ("one", "two")]
    for gate in ("one", "two"):
        site.reached(gate)

    own_postgres.stop(immediate=True)
    for worker in workers:
        worker.wait_for_log("could not renew leases")
        worker.wait_for_log("the pump pauses for 2 s")  # the lease is over by now
    own_postgres.start()
    # both have renewed, or nobody took their steps meanwhile: a renewal is accepted then
    wait_until(
        lambda: (
            not site.rows(
                "SELECT 1 FROM orchestrator.steps WHERE status = 'running' AND lease_until < now()"
            )
        ),
        what="renewed leases",
    )
    site.open("one", "two")

    assert site.results(handles) == [2, 2]
    assert deaths(site) == 0
    assert site.calls()["hold"] == 2
    site.sound()


@pytest.mark.req("E11")
def test_message_of_work_that_could_not_be_committed_is_not_acknowledged(
    site_on_own_services: Site, own_postgres: PrivatePostgres
) -> None:
    site = site_on_own_services
    worker = site.worker(concurrency=1)
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    own_postgres.stop(immediate=True)
    site.open("gate")
    worker.wait_for_log("could not renew leases")
    with connect.broker(site.settings)() as connection:

        def waiting() -> int:
            queue = connection.channel().queue_declare(site.settings.queue, passive=True)
            return int(queue.message_count)

        assert waiting() == 0
        worker.kill9()
        wait_until(lambda: waiting() == 1, what="the message back in its queue")
    own_postgres.start()
    site.worker()

    assert site.result(handle) == 2 + 1
    site.sound()


# Everything killed


@pytest.mark.req("E8")
def test_everything_killed_in_the_middle_of_200_executions_ends_by_itself(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit
) -> None:
    kill_everything_in_the_middle(site_on_own_broker, own_rabbit, executions=200)


def kill_everything_in_the_middle(site: Site, rabbit: PrivateRabbit, *, executions: int) -> None:
    """Kill workers, beat and broker when a third has ended; start them again; all must end."""
    workers = [site.worker(), site.worker()]
    beat = site.crew.beat()
    masses = Masses(site)
    masses.start(executions)
    wait_until(lambda: site.ended() >= executions // 3, timeout=120, what="a third of them")

    site.crew.kill9()
    rabbit.kill9()
    assert site.ended() < executions
    rabbit.start()
    for program in [*workers, beat]:
        program.start(wait=False)

    masses.check_results(timeout=60 + executions / 5)
    # each of the four pool processes had at most one body in its hands
    assert masses.bodies_run_again() <= 4
