"""A worker whose slots are full of long steps keeps nothing from the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.workers import connect
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


def test_a_message_reserved_behind_a_long_step_is_offered_to_an_idle_worker(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop(reserved_after="1s")
    busy = shop.crew.worker(name="busy", concurrency=1)
    long = shop.start("waiting_long", str(tmp_path / "go"))
    wait_until((tmp_path / "go.1").exists, timeout=20)
    short = shop.start("chain", 1)
    busy.wait_for_log(r"chain\.add.* received")

    shop.crew.worker(name="idle", concurrency=1)

    assert short.result(timeout=30) == 5
    assert not long.view().facts.finished
    (tmp_path / "go").touch()
    assert long.result(timeout=20) == 1
    assert [row["attempt"] for row in shop.steps("add")] == [1] * len(shop.steps("add"))


def test_long_steps_stay_in_their_queue_while_all_slots_are_full(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    busy = shop.crew.worker(concurrency=1)
    first = shop.start("waiting_long", str(tmp_path / "first"))
    busy.wait_for_log(r"Canceling queue .*\.long")

    second = shop.start("waiting_long", str(tmp_path / "second"))
    with connect.broker(shop.settings)() as connection:
        queue = shop.settings.long_queue
        waiting = lambda: connection.channel().queue_declare(queue, passive=True).message_count  # noqa: E731
        wait_until(lambda: waiting() == 1, timeout=10)
        assert not (tmp_path / "second.1").exists()
        (tmp_path / "first").touch()
        (tmp_path / "second").touch()

        assert first.result(timeout=20) == 1
        assert second.result(timeout=20) == 1
        wait_until(lambda: waiting() == 0, timeout=10)


def test_a_killed_worker_with_an_acknowledged_long_step_is_replaced(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    victim = shop.crew.worker(concurrency=1)
    handle = shop.start("waiting_long", str(tmp_path / "go"))
    wait_until((tmp_path / "go.1").exists, timeout=20)
    victim.kill9()

    shop.crew.worker(name="heir", concurrency=1)
    wait_until((tmp_path / "go.2").exists, timeout=30)
    (tmp_path / "go").touch()

    assert handle.result(timeout=20) == 2
    assert shop.steps("wait_long_for")[0]["deaths"] == 1
