"""Workers whose broker or database goes away and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.migrate import upgrade
from tests.services.postgres import PrivatePostgres
from tests.services.processes import wait_until
from tests.services.rabbitmq import PrivateRabbit
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.chaos
def test_flows_go_on_when_the_broker_comes_back(
    open_shop: OpenShop, private_rabbit: PrivateRabbit, tmp_path: Path
) -> None:
    shop = open_shop(private_rabbit.url, lost_after="5s")
    worker = shop.crew.worker()
    file = tmp_path / "go"
    running = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    private_rabbit.kill9()
    file.touch()
    unsent = [shop.start("chain", number) for number in range(5)]
    assert running.result(timeout=20) == 11  # needs no broker
    private_rabbit.start()

    assert [handle.result(timeout=40) for handle in unsent] == [4, 5, 6, 7, 8]
    assert shop.start("fan", 20).result(timeout=20) == sum(n * n for n in range(20))
    assert worker.running()


@pytest.mark.chaos
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_restart_of_the_database_kills_nobody(
    open_shop: OpenShop, private_postgres: PrivatePostgres, pool: str, tmp_path: Path
) -> None:
    upgrade(private_postgres.url)
    shop = open_shop(database_url=private_postgres.url)
    shop.crew.worker(pool=pool)
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)

    private_postgres.kill9()
    file.touch()  # the body ends while there is nowhere to record it
    time.sleep(3)
    private_postgres.start()

    assert handle.result(timeout=40) == 11
    assert shop.start("fan", 20).result(timeout=20) == sum(n * n for n in range(20))
    shop.reconnect()
    (step,) = shop.steps("wait_for")
    assert (step["attempt"], step["deaths"]) == (1, 0)
    assert not any(row["died"] for row in shop.incarnations().values())
    time.sleep(5)
    free = shop.rows(
        "SELECT pid FROM orchestrator.workers WHERE ended_at IS NULL"
        " AND pg_try_advisory_xact_lock_shared("
        "hashtextextended('orchestrator.workers/' || id::text, 0))"
    )
    assert free == []  # everybody holds the proof of life again
