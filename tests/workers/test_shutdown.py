"""Workers that are told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_idle_worker_leaves_in_good_order(open_shop: OpenShop, broker: str, pool: str) -> None:
    shop = open_shop(broker)
    worker = shop.crew.worker(pool=pool)
    assert shop.start("chain", 1).result(timeout=20) == 5

    code = worker.stop(timeout=20)

    assert code == 0
    ended = shop.incarnations().values()
    assert {(row["died"], row["reason"]) for row in ended} == {(False, "stopped")}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_warm_shutdown_waits_for_the_step(open_shop: OpenShop, pool: str, tmp_path: Path) -> None:
    shop = open_shop(lease="2s", beat_interval="1s")
    worker = shop.crew.worker(pool=pool)
    file = tmp_path / "go"
    shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    worker.child.signal(signal.SIGTERM)
    time.sleep(4)  # longer than the lease: it is still renewed
    file.touch()

    assert worker.child.wait(20) == 0
    (step,) = shop.steps("wait_for")
    assert (step["status"], step["attempt"], step["deaths"]) == ("succeeded", 1, 0)


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_pressing_control_c_lets_the_step_end_and_stops(
    open_shop: OpenShop, pool: str, tmp_path: Path
) -> None:
    shop = open_shop()
    worker = shop.crew.worker(pool=pool)
    file = tmp_path / "go"
    shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    worker.child.signal_group(signal.SIGINT)
    time.sleep(0.5)
    file.touch()

    assert worker.child.wait(20) == 1  # what Celery says of it
    (step,) = shop.steps("wait_for")
    assert (step["status"], step["attempt"], step["deaths"]) == ("succeeded", 1, 0)
    ended = shop.incarnations().values()
    assert {(row["died"], row["reason"]) for row in ended} == {(False, "stopped")}


def test_worker_that_stops_leaves_the_rest_of_a_chain_to_others(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    worker = shop.crew.worker()
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    worker.child.signal(signal.SIGTERM)
    worker.wait_for_log("Warm shutdown")
    time.sleep(0.5)
    file.touch()

    assert worker.child.wait(20) == 0
    assert handle.view().facts.finished == 1
    shop.crew.worker()
    assert handle.result(timeout=20) == 11


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_soft_shutdown_hands_back_what_it_cannot_finish(
    open_shop: OpenShop, pool: str, tmp_path: Path
) -> None:
    shop = open_shop()
    worker = shop.crew.worker(pool=pool, app="tests.workers.hasty")
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)
    shop.crew.worker()

    began = time.monotonic()
    worker.child.signal(signal.SIGQUIT)
    wait_until(lambda: (shop.steps("wait_for")[0]["token"]) > 1, timeout=10)

    assert time.monotonic() - began < 8
    file.touch()
    assert handle.result(timeout=20) == 11  # the attempt was not spent
    (step,) = shop.steps("wait_for")
    assert (step["attempt"], step["deaths"]) == (1, 0)
    worker.child.wait(30)
    assert not any(row["died"] for row in shop.incarnations().values())


def test_soft_shutdown_ends_when_nothing_runs_any_more(open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop()
    worker = shop.crew.worker()
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    worker.child.signal(signal.SIGQUIT)
    time.sleep(0.5)
    file.touch()
    began = time.monotonic()
    worker.child.wait(30)

    assert time.monotonic() - began < 10  # of the 20 s it may take
    (step,) = shop.steps("wait_for")
    assert (step["status"], step["attempt"]) == ("succeeded", 1)
    assert not handle.view().facts.finished_at
