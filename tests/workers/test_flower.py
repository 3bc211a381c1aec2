"""What operators see in an unmodified Flower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ExecutionFailed
from tests.services.flower import Flower
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_inline_steps_are_rows_with_readable_arguments(open_shop: OpenShop, pool: str) -> None:
    shop = open_shop()
    shop.crew.worker(pool=pool)
    flower = Flower(shop.crew)

    handle = shop.start("chain", 1, key="order-17")
    assert handle.result(timeout=20) == 5

    wait_until(lambda: len(flower.tasks(handle.id)) == 5, timeout=10)
    rows = flower.tasks(handle.id)
    own = rows.pop("chain")
    assert set(rows) == {"chain.add", "chain.add_2", "chain.add_3", "chain.add_4"}
    assert {row["state"] for row in rows.values()} == {"SUCCESS"}
    assert {row["args"] for row in rows.values()} == {"('order-17', '')"}
    assert rows["chain.add"]["kwargs"] == "{'run': 0, 'dispatch': 1}"
    assert rows["chain.add"]["result"] == "'attempt 1, then 3 inline'"
    assert rows["chain.add_4"]["kwargs"] == "{'run': 0, 'dispatch': 0}"
    assert rows["chain.add_4"]["result"] == "inline, attempt 1"
    assert len({row["worker"] for row in [own, *rows.values()]}) == 1
    assert all(row["runtime"] >= 0 for row in rows.values())

    assert own["uuid"] == handle.id
    assert (own["state"], own["result"]) == ("SUCCESS", "4/4 steps")
    assert (own["args"], own["kwargs"]) == ("('order-17',)", "{'number': 1}")
    assert {row["parent_id"] for row in rows.values()} == {handle.id}
    assert set(own["children"]) == {row["uuid"] for row in rows.values()}


def test_steps_that_fail_are_shown_as_failed(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker()
    flower = Flower(shop.crew)

    by_message = shop.start("failing_at_once", 7)
    inline = shop.start("failing", 7)
    for handle in (by_message, inline):
        with pytest.raises(ExecutionFailed):
            handle.result(timeout=20)

    wait_until(lambda: "failing.refuse" in flower.tasks(inline.id), timeout=10)
    wait_until(
        lambda: flower.tasks(by_message.id)["failing_at_once.refuse"]["state"] == "FAILURE",
        timeout=10,
    )
    assert flower.tasks(inline.id)["failing.add"]["state"] == "SUCCESS"
    assert flower.tasks(inline.id)["failing.refuse"]["state"] == "FAILURE"
    assert "there is no 8" in flower.tasks(inline.id)["failing.refuse"]["exception"]
    shown = flower.tasks(by_message.id)["failing_at_once.refuse"]
    assert "there is no 7" in shown["exception"]


def test_items_of_a_fan_out_show_their_scope(open_shop: OpenShop) -> None:
    shop = open_shop("files")
    shop.crew.worker()
    flower = Flower(shop.crew)

    handle = shop.start("fan", 1, key="one")
    assert handle.result(timeout=20) == 0

    wait_until(lambda: "fan.square.square" in flower.tasks(handle.id), timeout=10)
    assert flower.tasks(handle.id)["fan.square.square"]["args"] == "('one', 'square[0]')"


@pytest.mark.req("E12")
def test_an_execution_is_a_row_that_an_operator_can_follow_through_a_retry(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    shop.crew.worker()
    flower = Flower(shop.crew)
    gate = tmp_path / "gate"

    slow = shop.start("waiting", str(gate))
    assert flower.shows(slow.id, "RUNNING")["result"] == "0/1 steps"
    refused = shop.start("failing", 7, key="o-7")
    with pytest.raises(ExecutionFailed):
        refused.result(timeout=20)
    paused = shop.start("patient", "4111-1111", "Ada")

    shown = flower.shows(refused.id, "FAILURE")
    assert (shown["name"], shown["result"], shown["retries"]) == ("failing", "2/2 steps", 0)
    assert shown["exception"] == "refuse: LookupError: there is no 8"
    assert "LookupError" in shown["traceback"]
    gate.touch()
    assert flower.shows(slow.id, "SUCCESS")["result"] == "2/2 steps"
    waits = flower.shows(paused.id, "WAITING")
    assert waits["kwargs"] == "{'buyer': 'Ada', 'card_number': ***}"
    assert "4111" not in str(flower.tasks(paused.id))

    shop.orchestrator.retry(refused.execution_id)

    wait_until(lambda: flower.row(refused.id)["retries"] == 1, timeout=10, what="the retry shows")
    assert flower.shows(refused.id, "FAILURE")["result"] == "2/2 steps"
    shop.orchestrator.cancel(paused.execution_id)
    flower.shows(paused.id, "CANCELLED", timeout=40)


def test_attempts_and_child_executions_are_linked_to_their_execution(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.crew.worker()
    flower = Flower(shop.crew)

    again = shop.start("recovering", 3)
    calling = shop.start("calling", 1, key="o-1")
    assert again.result(timeout=20) == 4
    assert calling.result(timeout=20) == 6

    first = flower.shows(again.id, "SUCCESS")
    attempts = {row["state"]: row for row in flower.rows() if row["name"] == "recovering.fail_once"}
    assert "there is no 3" in attempts["RETRY"]["exception"]
    assert attempts["SUCCESS"]["result"] == "'attempt 2, then 1 inline'"
    assert {row["uuid"] for row in attempts.values()} < set(first["children"])

    flower.shows(calling.id, "SUCCESS")
    [child] = [row for row in flower.rows() if row["name"] == "chain"]
    assert (child["parent_id"], child["root_id"]) == (calling.id, calling.id)
    assert child["uuid"] in flower.row(calling.id)["children"]


def test_an_execution_that_the_main_process_ends_is_shown_as_failed(
    open_shop: OpenShop, tmp_path: Path
) -> None:
    shop = open_shop()
    shop.crew.worker()
    flower = Flower(shop.crew)

    late = shop.start("stoppable", str(tmp_path / "late"))

    shown = flower.shows(late.id, "FAILURE", timeout=40)
    assert shown["exception"].startswith("stop_when_asked: TimedOut: ")
    assert shown["result"] == "1/1 steps"


def test_a_long_step_is_seen_while_it_runs(open_shop: OpenShop, tmp_path: Path) -> None:
    shop = open_shop()
    shop.crew.worker()
    flower = Flower(shop.crew)
    gate = tmp_path / "gate"

    slow = shop.start("waiting_inline", str(gate))

    wait_until(lambda: "waiting_inline.wait_for" in flower.tasks(slow.id), timeout=20)
    assert flower.tasks(slow.id)["waiting_inline.wait_for"]["state"] == "STARTED"
    assert flower.shows(slow.id, "RUNNING")["result"] == "1/2 steps"
    gate.touch()
    flower.shows(slow.id, "SUCCESS")
