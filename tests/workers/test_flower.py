"""What operators see in an unmodified Flower."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
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

        def tasks(execution: str) -> dict[str, dict[str, Any]]:
            found = ask("/api/tasks").values()
            return {task["name"]: task for task in found if task["root_id"] == execution}

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

    wait_until(lambda: len(tasks(handle.id)) == 4, timeout=10)
    rows = tasks(handle.id)
    assert set(rows) == {"chain.add", "chain.add_2", "chain.add_3", "chain.add_4"}
    assert {row["state"] for row in rows.values()} == {"SUCCESS"}
    assert {row["args"] for row in rows.values()} == {"('order-17', '')"}
    assert rows["chain.add"]["kwargs"] == "{'run': 0, 'dispatch': 1}"
    assert rows["chain.add_4"]["kwargs"] == "{'run': 0, 'dispatch': 0}"
    assert len({row["worker"] for row in rows.values()}) == 1
    assert all(row["runtime"] >= 0 for row in rows.values())


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
