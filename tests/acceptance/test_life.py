"""What steps and executions go through besides crashes: pools, timeouts, retries, operators."""

from __future__ import annotations

import contextlib

import psutil
import pytest

from orchestrator import ExecutionFailed
from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.masses import Masses
from tests.acceptance.site import Site
from tests.services.processes import wait_until
from tests.services.workers import WorkerProcess

# Pools


def test_pool_processes_share_no_connection(site: Site) -> None:
    worker = site.worker()
    masses = Masses(site)
    masses.start(60)
    wait_until(lambda: len({call.pid for call in site.ran()}) == 2, what="both pool processes")

    def own_ports() -> list[set[int]]:
        ports = local_ports(worker)
        inherited = ports.pop(worker.pid)  # open in the pool's processes too, and left alone there
        return [used - inherited for used in ports.values()]

    wait_until(
        lambda: [len(used) >= 3 for used in own_ports()] == [True, True],
        what="database, proof of life and broker of both",
    )
    own = own_ports()
    masses.check_results(timeout=60)
    assert not own[0] & own[1]
    assert masses.bodies_run_again() == 0


def local_ports(worker: WorkerProcess) -> dict[int, set[int]]:
    """The local ends of all connections, by process; a socket in two processes shows up twice."""
    found = {}
    for process in [psutil.Process(worker.pid), *worker.children()]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found[process.pid] = {
                connection.laddr.port
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_ESTABLISHED
            }
    return found


def test_coroutine_steps_of_one_process_wait_beside_each_other(site: Site) -> None:
    site.worker(pool="threads", concurrency=8)
    handles = [site.start(flows.resting, 1.0) for _ in range(8)]

    pids = site.results(handles, timeout=20)

    assert len(set(pids)) == 1
    spans = site.rows(
        "SELECT max(began_at) < min(ended_at) AS together FROM orchestrator.steps"
        " WHERE name = 'rest'"
    )
    assert spans == [{"together": True}]


# Timeouts


def test_body_that_never_ends_is_killed_and_run_again_by_its_retry_policy(
    worked_site: Site,
) -> None:
    site = worked_site
    handle = site.start(flows.hanging_once, "gate")
    other = site.start(flows.line, 1)

    assert site.results([handle, other]) == [2 + 1, 5]
    row = site.row(handle, "hang_once")
    assert (row["attempt"], row["deaths"]) == (2, 0)
    first, second = site.ran("hang_once")
    assert (first.key, first.pid != second.pid) == (second.key, True)
    site.sound()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_timeout_without_retry_fails_the_execution(site: Site, pool: str) -> None:
    site.worker(pool=pool)
    handles = [site.start(flow, flow.name) for flow in (flows.hanging, flows.hanging_gently)]

    for handle in handles:
        with pytest.raises(ExecutionFailed, match=r"took longer than 0:00:00\.5"):
            site.result(handle)
    if pool == "threads":  # nobody can kill a thread: it is asked
        site.reached("hanging.asked")
    assert site.calls() == {"hang": 1, "hang_gently": 1}
    site.sound()


# Shutdown


def test_soft_shutdown_hands_a_lease_back_without_death_or_attempt(
    open_site: OpenSite, database_url: str, rabbitmq_url: str
) -> None:
    site = open_site(database_url, rabbitmq_url, lease="10m", lost_after="1h", lost_idle_after="1h")
    leaving = site.worker(app="tests.acceptance.hasty_app")
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    leaving.soft_stop()
    row = site.row(handle, "hold")
    assert (row["status"], row["attempt"], row["deaths"], row["holder"]) == ("ready", 0, 0, None)
    site.open("gate")
    site.worker()

    assert site.result(handle) == 1 + 1, "the attempt was spent"
    assert site.row(handle, "hold")["deaths"] == 0
    assert not site.rows("SELECT 1 FROM orchestrator.workers WHERE died")
    assert [call.attempt for call in site.ran("hold")] == [1, 1]
    site.sound(begun_anew=True)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_warm_shutdown_finishes_the_running_body_and_leaves_the_rest(site: Site, pool: str) -> None:
    leaving = site.worker(pool=pool)
    handle = site.start(flows.gated, "gate")
    site.reached("gate")

    leaving.child.signal(15)
    leaving.wait_for_log("Warm shutdown")
    site.open("gate")
    leaving.child.wait(30)

    row = site.row(handle, "hold")
    assert (row["status"], row["attempt"], row["deaths"]) == ("succeeded", 1, 0)
    assert not site.rows("SELECT 1 FROM orchestrator.workers WHERE died OR ended_at IS NULL")
    site.worker(pool=pool)  # what follows is left to others
    assert site.result(handle) == 1 + 1
    site.sound()


# Deaths


def test_step_that_kills_every_process_goes_to_quarantine_and_others_go_on(site: Site) -> None:
    site.worker()
    deadly = site.start(flows.deadly, 1)
    masses = Masses(site)
    masses.start(15)

    with pytest.raises(ExecutionFailed, match="Quarantined: 3 workers died"):
        site.result(deadly)

    row = site.row(deadly, "kill_own_process")
    assert (row["status"], row["deaths"]) == ("failed", 3)
    assert site.calls()["kill_own_process"] == 3
    (set_aside,) = site.rows("SELECT * FROM orchestrator.quarantine")
    assert (set_aside["execution_id"], set_aside["name"]) == (
        deadly.execution_id,
        "kill_own_process",
    )
    # an execution whose step shared a process with it may be one attempt older, never worse
    masses.check_results(timeout=60)


# Retries


def test_retry_policy_waits_longer_each_time_and_then_goes_on(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.failing_twice, 7)

    assert site.result(handle) == 8
    first, second, third = site.ran("fail_twice")
    assert first.key == second.key == third.key
    assert [first.attempt, second.attempt, third.attempt] == [1, 2, 3]
    began = site.row(handle, "fail_twice")["began_at"]
    started = site.rows("SELECT created_at FROM orchestrator.executions")[0]["created_at"]
    assert (began - started).total_seconds() >= 0.3 + 0.6
    site.sound()


# Operators


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_cancel_is_seen_by_the_running_body(site: Site, pool: str) -> None:
    site.worker(pool=pool)
    handle = site.start(flows.telling, "gate")
    site.reached("gate")
    wait_until(lambda: site.row(handle, "beat_until_told")["progress"], what="progress")

    site.orchestrator.cancel(handle.execution_id)

    site.reached("gate.told")
    with pytest.raises(ExecutionFailed, match="cancelled"):
        site.result(handle)
    site.sound()


def test_paused_execution_orders_but_sends_nothing_until_it_is_resumed(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.gated_apart, "gate")
    site.reached("gate")

    site.orchestrator.pause(handle.execution_id)
    site.open("gate")
    wait_until(lambda: site.has_row(handle, "hold", status="succeeded"), what="its record")
    row = site.row(handle, "add_apart")
    assert (row["status"], row["dispatch"], row["attend_at"]) == ("ready", 0, None)
    # a whole other execution passes by
    assert site.result(site.start(flows.hops, 1)) == 5
    assert site.row(handle, "add_apart") == row
    site.orchestrator.resume(handle.execution_id)

    assert site.result(handle) == 1 + 2
    site.sound()


@pytest.mark.req("E3")
def test_operators_retry_runs_the_failed_step_again_and_no_finished_one(worked_site: Site) -> None:
    site = worked_site
    handle = site.start(flows.needing, "gate")
    with pytest.raises(ExecutionFailed, match="gate is closed"):
        site.result(handle)
    site.sound()

    site.open("gate")
    site.orchestrator.retry(handle.execution_id)

    assert site.result(handle) == 1 + 1
    assert [call.body for call in site.ran()] == ["add", "need", "need", "add"]
    assert len({call.key for call in site.ran("need")}) == 1
    site.sound(begun_anew=True)


def test_rerun_from_a_step_runs_it_and_all_after_it_under_new_keys(worked_site: Site) -> None:
    site = worked_site
    site.open("gate")
    handle = site.start(flows.needing, "gate")
    assert site.result(handle) == 2

    site.orchestrator.retry(handle.execution_id, from_steps=["need"])

    assert site.result(handle) == 2
    assert [call.body for call in site.ran()] == ["add", "need", "add", "need", "add"]
    assert len({call.key for call in site.ran()}) == 5
    assert site.row(handle, "need")["status"] == "superseded"
    statuses = site.rows(
        "SELECT name, run, status FROM orchestrator.steps WHERE status <> 'superseded' ORDER BY 1"
    )
    assert [(row["name"], row["run"]) for row in statuses] == [
        ("add", 1),
        ("before", 0),
        ("need", 1),
    ]


def test_step_that_no_worker_has_is_parked_and_run_when_one_comes(
    open_site: OpenSite, database_url: str, rabbitmq_url: str
) -> None:
    site = open_site(database_url, rabbitmq_url)
    stranger = site.worker(env={"ORCHESTRATOR_MODULES": ""}, name="stranger")
    handle = site.start(flows.line, 1)
    wait_until(lambda: site.row(handle, "add")["error"], what="the step to be parked")
    assert site.row(handle, "add")["error"]["kind"] == "parked"
    assert stranger.running()

    site.worker(name="knows")  # the park lasts a minute, but a registration ends it

    assert site.result(handle, timeout=30) == 5
    row = site.row(handle, "add")
    assert (row["attempt"], row["deaths"]) == (1, 0)
    site.sound()
