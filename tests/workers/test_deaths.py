"""Pool processes and workers that die, and steps that take too long."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
def test_process_that_dies_in_a_step_is_buried_and_the_step_goes_on_elsewhere(
    open_shop: OpenShop, broker: str, tmp_path: Path
) -> None:
    shop = open_shop(broker)
    shop.crew.worker()

    handle = shop.start("dying", str(tmp_path / "died"))

    assert handle.result(timeout=20) == 12
    (step,) = shop.steps("die_once")
    assert (step["attempt"], step["deaths"]) == (2, 1)
    (dead,) = shop.rows("SELECT * FROM orchestrator.workers WHERE died")
    assert dead["reason"] == "SIGKILL"
    assert dead["parent"] is not None


def test_incarnation_has_ended_before_the_message_is_requeued(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop(lease="60s", pump_interval="30s", beat_interval="20s", outage_guard="60s")
    worker = shop.crew.worker()

    handle = shop.start("dying", str(tmp_path / "died"))

    # Only the requeued message can bring it on so soon, and only if the holder has ended by then.
    assert handle.result(timeout=15) == 12
    worker.wait_for_log(r"die_once\[.*\.1\] received[\s\S]*die_once\[.*\.1\] received")
    (step,) = shop.steps("die_once")
    assert step["deaths"] == 1


def test_idle_process_that_dies_is_buried(open_shop: OpenShop) -> None:
    shop = open_shop()
    worker = shop.crew.worker()
    assert shop.start("chain", 1).result(timeout=20) == 5  # the pool has settled
    (victim, *_) = (child.pid for child in worker.children())

    worker.kill9_child(victim)

    wait_until(lambda: shop.incarnations()[victim]["ended_at"], timeout=5)
    assert shop.incarnations()[victim]["died"] is True
    wait_until(lambda: len(shop.incarnations()) == 4)  # its successor


def test_worker_that_is_killed_whole_is_declared_dead_by_another(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    first = shop.crew.worker()
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)
    shop.crew.worker()
    first.kill9()
    file.touch()

    assert handle.result(timeout=15) == 12
    (step,) = [row for row in shop.steps("wait_for") if row["deaths"]]
    assert step["deaths"] == 1


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
def test_attempt_that_takes_too_long_is_ended_with_its_process(
    open_shop: OpenShop, broker: str, tmp_path: Path
) -> None:
    shop = open_shop(broker)
    worker = shop.crew.worker()
    file = tmp_path / "hung"

    handle = shop.start("hanging", str(file))

    assert handle.result(timeout=20) == 3
    (step,) = shop.steps("hang")
    assert (step["attempt"], step["deaths"]) == (2, 0)
    ended = shop.incarnations()[int(file.read_text())]
    assert (ended["died"], ended["reason"]) == (False, "a step took too long")
    wait_until(lambda: len(worker.children()) == 2, timeout=15)


def test_body_in_a_thread_that_takes_too_long_is_asked_to_stop(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    shop.crew.worker(pool="threads")
    file = tmp_path / "asked"

    handle = shop.start("stoppable", str(file))

    wait_until(Path(f"{file}.asked").exists, timeout=15)
    assert handle.view().facts.failed == 1


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_body_of_a_cancelled_execution_is_asked_to_stop(
    open_shop: OpenShop, pool: str, tmp_path: Path
) -> None:
    shop = open_shop(lease="2s", beat_interval="1s")
    shop.crew.worker(pool=pool)
    file = tmp_path / "cancelled"
    handle = shop.start("stoppable_for_long", str(file))
    wait_until(Path(f"{file}.1").exists)

    shop.orchestrator.cancel(handle.execution_id)

    wait_until(Path(f"{file}.asked").exists, timeout=10)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_lease_is_renewed_while_the_body_runs(
    open_shop: OpenShop, pool: str, tmp_path: Path
) -> None:
    shop = open_shop(lease="2s", beat_interval="1s")
    shop.crew.worker(pool=pool)
    file = tmp_path / "long"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)
    first = shop.steps("wait_for")[0]["lease_until"]

    wait_until(lambda: (shop.steps("wait_for")[0]["lease_until"] - first).seconds >= 4)
    file.touch()

    assert handle.result(timeout=10) == 11
    (step,) = shop.steps("wait_for")
    assert (step["attempt"], step["token"]) == (1, 1)


def test_process_that_was_stopped_is_fenced(open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop(lease="2s", beat_interval="1s", outage_guard="1s")
    worker = shop.crew.worker(concurrency=1)  # reserves no other message
    file = tmp_path / "frozen"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    worker.freeze()
    shop.crew.worker()
    wait_until(Path(f"{file}.2").exists, timeout=20)
    file.touch()
    assert handle.result(timeout=10) == 12
    worker.thaw()

    worker.wait_for_log(r"wait_for\[.*succeeded", timeout=20)
    (step,) = shop.steps("wait_for")
    assert (step["output"], step["deaths"]) == (2, 0)


@pytest.mark.parametrize(("how", "reason"), [("exit", "exit status 0"), ("signal", "SIGTERM")])
def test_step_that_makes_its_process_leave_is_set_aside(
    open_shop: OpenShop, how: str, reason: str
) -> None:
    shop = open_shop(max_deaths=2)
    shop.crew.worker()

    handle = shop.start("leaving", how)

    wait_until(lambda: handle.view().facts.finished_at, timeout=40)
    (step,) = shop.steps("leave")
    assert (step["status"], step["deaths"], step["error"]["kind"]) == ("failed", 2, "Quarantined")
    left = shop.rows("SELECT * FROM orchestrator.workers WHERE died")
    assert {row["reason"] for row in left} == {f"{reason}, with 1 step run in its hands"}


@pytest.mark.parametrize("flow", ["interrupting", "interrupting_softly"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_step_that_raises_an_interrupt_has_failed_and_its_process_goes_on(
    open_shop: OpenShop, pool: str, flow: str
) -> None:
    shop = open_shop()
    shop.crew.worker(pool=pool, concurrency=1)

    handle = shop.start(flow, 1)

    wait_until(lambda: handle.view().facts.finished_at, timeout=20)
    (step,) = shop.steps(flow.replace("interrupting", "interrupt"))
    assert (step["status"], step["attempt"], step["deaths"]) == ("failed", 1, 0)
    assert step["error"]["kind"] == "KeyboardInterrupt"
    assert shop.start("resting", 0.01).result(timeout=10) == 2
    assert not [row for row in shop.incarnations().values() if row["ended_at"]]


def test_death_is_told_with_its_signal(open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop()
    shop.crew.worker()
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)
    victim = int(Path(f"{file}.1").read_text())

    os.kill(victim, signal.SIGSEGV)
    file.touch()

    assert handle.result(timeout=20) == 12
    assert re.match("SIGSEGV", shop.incarnations()[victim]["reason"])
