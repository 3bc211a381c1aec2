"""What operators see in an unmodified Flower."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ExecutionFailed
from tests.services.processes import free_port, wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]


@pytest.fixture
def tasks_of(open_shop: OpenShop) -> Callable[[Shop], Callable[[str], dict[str, dict[str, Any]]]]:
    """Starts a Flower beside a shop; the answer looks an execution's tasks up by their names."""

    def start(shop: Shop) -> Callable[[str], dict[str, dict[str, Any]]]:
        port = free_port()
        shop.crew.program(
            [sys.executable, "-m", "celery", "-A", "workers.app", "flower", f"--port={port}"],
            name="flower",
            env={"FLOWER_UNAUTHENTICATED_API": "true", "FLOWER_ADDRESS": "127.0.0.1"},
        )

        def ask(path: str) -> Any:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, ConnectionError):
                return {}

        # It has seen a worker's heartbeat: from now on it sees everything.
        wait_until(lambda: ask("/api/workers"), timeout=30, what="Flower knows the worker")

        def every() -> list[dict[str, Any]]:
            return list(ask("/api/tasks").values())

        def tasks(execution: str) -> dict[str, dict[str, Any]]:
            return {task["name"]: task for task in every() if task["root_id"] == execution}

        tasks.all = every  # type: ignore[attr-defined]  # beside the usual question
        return tasks

    return start


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_inline_steps_are_rows_with_readable_arguments(
    open_shop: OpenShop, tasks_of: Callable[..., Any], pool: str
) -> None:
    shop = open_shop()
    shop.crew.worker(pool=pool)
    tasks = tasks_of(shop)

    handle = shop.start("chain", 1, key="order-17")
    assert handle.result(timeout=20) == 5

    wait_until(lambda: len(tasks(handle.id)) == 5, timeout=10)
    rows = tasks(handle.id)
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


def test_steps_that_fail_are_shown_as_failed(
    open_shop: OpenShop, tasks_of: Callable[..., Any]
) -> None:
    shop = open_shop()
    shop.crew.worker()
    tasks = tasks_of(shop)

    by_message = shop.start("failing_at_once", 7)
    inline = shop.start("failing", 7)
    for handle in (by_message, inline):
        with pytest.raises(ExecutionFailed):
            handle.result(timeout=20)

    wait_until(lambda: "failing.refuse" in tasks(inline.id), timeout=10)
    wait_until(
        lambda: tasks(by_message.id)["failing_at_once.refuse"]["state"] == "FAILURE", timeout=10
    )
    assert tasks(inline.id)["failing.add"]["state"] == "SUCCESS"
    assert tasks(inline.id)["failing.refuse"]["state"] == "FAILURE"
    assert "there is no 8" in tasks(inline.id)["failing.refuse"]["exception"]
    shown = tasks(by_message.id)["failing_at_once.refuse"]
    assert "there is no 7" in shown["exception"]


def test_items_of_a_fan_out_show_their_scope(
    open_shop: OpenShop, tasks_of: Callable[..., Any]
) -> None:
    shop = open_shop("files")
    shop.crew.worker()
    tasks = tasks_of(shop)

    handle = shop.start("fan", 1, key="one")
    assert handle.result(timeout=20) == 0

    wait_until(lambda: "fan.square.square" in tasks(handle.id), timeout=10)
    assert tasks(handle.id)["fan.square.square"]["args"] == "('one', 'square[0]')"


@pytest.mark.req("E12")
def test_an_execution_is_a_row_that_an_operator_can_follow_through_a_retry(
    open_shop: OpenShop, tasks_of: Callable[..., Any], tmp_path: Path
) -> None:
    shop = open_shop()
    shop.crew.worker()
    tasks = tasks_of(shop)
    gate = tmp_path / "gate"

    slow = shop.start("waiting", str(gate))
    refused = shop.start("failing", 7, key="o-7")
    with pytest.raises(ExecutionFailed):
        refused.result(timeout=20)
    paused = shop.start("patient", "4111-1111", "Ada")

    shown = own_row(tasks, refused, "FAILURE")
    assert (shown["name"], shown["result"], shown["retries"]) == ("failing", "2/2 steps", 0)
    assert shown["exception"] == "refuse: LookupError: there is no 8"
    assert "LookupError" in shown["traceback"]
    gate.touch()
    assert own_row(tasks, slow, "SUCCESS")["result"] == "2/2 steps"
    waits = own_row(tasks, paused, "WAITING")
    assert waits["kwargs"] == "{'buyer': 'Ada', 'card_number': ***}"
    assert "4111" not in str(tasks(paused.id))

    shop.orchestrator.retry(refused.execution_id)

    wait_until(lambda: row_of(tasks, refused)["retries"] == 1, timeout=10, what="the retry shows")
    assert own_row(tasks, refused, "FAILURE")["result"] == "2/2 steps"
    shop.orchestrator.cancel(paused.execution_id)
    own_row(tasks, paused, "CANCELLED", timeout=40)


def test_attempts_and_child_executions_are_linked_to_their_execution(
    open_shop: OpenShop, tasks_of: Callable[..., Any]
) -> None:
    shop = open_shop()
    shop.crew.worker()
    tasks = tasks_of(shop)

    again = shop.start("recovering", 3)
    calling = shop.start("calling", 1, key="o-1")
    assert again.result(timeout=20) == 4
    assert calling.result(timeout=20) == 6

    first = own_row(tasks, again, "SUCCESS")
    attempts = {row["state"]: row for row in tasks.all() if row["name"] == "recovering.fail_once"}
    assert "there is no 3" in attempts["RETRY"]["exception"]
    assert attempts["SUCCESS"]["result"] == "'attempt 2, then 1 inline'"
    assert {row["uuid"] for row in attempts.values()} < set(first["children"])

    own_row(tasks, calling, "SUCCESS")
    [child] = [row for row in tasks.all() if row["name"] == "chain"]
    assert (child["parent_id"], child["root_id"]) == (calling.id, calling.id)
    assert child["uuid"] in row_of(tasks, calling)["children"]


def row_of(tasks: Any, handle: Any) -> dict[str, Any]:
    """The row of an execution itself."""
    return next((row for row in tasks.all() if row["uuid"] == handle.id), {"state": None})


def own_row(tasks: Any, handle: Any, state: str, timeout: float = 20) -> dict[str, Any]:
    """The row of an execution once it shows this state."""
    wait_until(
        lambda: row_of(tasks, handle)["state"] == state,
        timeout=timeout,
        what=f"Flower shows {state}",
    )
    return row_of(tasks, handle)
