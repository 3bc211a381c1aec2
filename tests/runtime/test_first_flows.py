"""The six flows people write first, and graphs of integration platforms, run to their ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import first_flows
from examples.first_flows import Approval, Line, Order
from orchestrator.flow.authoring import Flow, step
from orchestrator.lifecycle import StepStatus
from tests.runtime.lab import Lab

FLOWS = [value for value in vars(first_flows).values() if isinstance(value, Flow)]
GRAPHS = Path(__file__).parents[1] / "flow" / "graphs"
SMALL, LARGE = (Order(f"o{total}", "ada", total, [Line("tea", 2)]) for total in (500, 5000))


@step
def emit(message: list[str]) -> list[str]:
    """A component that emits one message: what it was given, and that it was there."""
    return [*message, "seen"]


@pytest.fixture
def shop(database_url: str) -> Iterator[Lab]:
    opened = Lab.open(database_url, FLOWS)
    yield opened
    opened.close()


def test_an_order_is_charged_reserved_and_shipped(shop: Lab) -> None:
    order = Order("o1", "ada", 500, [Line("tea", 2), Line("cup", 1)])

    handle = shop.start(first_flows.order_saga, order)
    shop.drain()

    assert handle.result(0) == "o1/2"
    shop.sound(handle)


@pytest.mark.parametrize(("unreadable", "words"), [(0, 40), (2, 36)])
def test_files_are_counted_though_some_cannot_be_read(
    shop: Lab, tmp_path: Path, unreadable: int, words: int
) -> None:
    for number in range(20):
        file = tmp_path / f"{number}.txt"
        file.write_bytes(b"\xff" if number < unreadable else b"two words")

    handle = shop.start(first_flows.file_index, str(tmp_path))
    shop.drain()

    assert handle.result(0) == words
    shop.sound(handle)


def test_folders_are_indexed_all_at_once(shop: Lab, tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one two three")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text(text)

    handle = shop.start(first_flows.nested_fan_out, [str(tmp_path / "a"), str(tmp_path / "b")])
    shop.drain()

    assert handle.result(0) == 3
    shop.sound(handle)


@pytest.mark.parametrize(
    ("order", "approval", "result"),
    [
        (SMALL, None, "o500 confirmed"),
        (LARGE, Approval(ok=True, by="eve"), "o5000 confirmed by eve"),
        (LARGE, Approval(ok=False, by="eve"), "o5000 declined"),
    ],
)
def test_large_orders_wait_for_the_manager(
    shop: Lab, order: Order, approval: Approval | None, result: str
) -> None:
    handle = shop.start(first_flows.branch_on_result, order)
    shop.drain()
    if approval is not None:
        shop.send(handle, "manager_ok", approval)
        shop.drain()

    assert handle.result(0) == result
    shop.sound(handle)


def test_a_manager_who_does_not_answer_within_three_days_declines(shop: Lab) -> None:
    handle = shop.start(first_flows.branch_on_result, LARGE)
    shop.drain()
    shop.advance(days=3, seconds=1)
    shop.sweep()
    shop.drain()

    assert handle.result(0) == "o5000 declined"
    shop.sound(handle)


@pytest.mark.parametrize(("broken", "result"), [(False, "o500: paid"), (True, "o500: pay later")])
def test_what_cannot_be_charged_is_billed(
    shop: Lab, broken: bool, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(order: Order) -> Any:
        raise ValueError(order.customer)

    if broken:
        monkeypatch.setattr(shop.catalogue.functions[first_flows.charge.function], "body", fail)

    handle = shop.start(first_flows.error_route, SMALL)
    shop.drain()

    assert handle.result(0) == result
    shop.sound(handle)


def test_an_answer_wins_against_the_reminder(shop: Lab) -> None:
    handle = shop.start(first_flows.first_of_two, "ada")
    shop.drain()
    shop.send(handle, "answer", "two parcels, please")
    shop.drain()

    assert handle.result(0) == "two parcels, please"
    assert shop.row(handle, "sleep")["status"] == StepStatus.CANCELLED
    shop.sound(handle)


def test_without_an_answer_the_reminder_wins(shop: Lab) -> None:
    handle = shop.start(first_flows.first_of_two, "ada")
    shop.drain()
    shop.advance(days=2, seconds=1)
    shop.sweep()
    shop.drain()

    assert handle.result(0) == "ada did not say"
    shop.sound(handle)


@pytest.mark.parametrize(
    ("file", "result"),
    [
        ("two-steps", {"step_2": ["go", "seen", "seen"]}),
        ("five-steps", {"step4": ["go", *["seen"] * 3], "step5": ["go", *["seen"] * 4]}),
    ],
)
def test_a_graph_of_an_integration_platform_runs_with_our_steps(
    database_url: str, file: str, result: dict[str, Any]
) -> None:
    document = json.loads((GRAPHS / f"{file}.json").read_text("utf-8"))
    nodes = document["graph"]["nodes"]
    components = {(node["componentId"], node["function"]): emit for node in nodes}
    lab = Lab.open(database_url, [Flow.from_graph(document, components=components)])
    try:
        [loaded] = lab.catalogue.flows.values()
        handle = lab.start(loaded, ["go"])
        lab.drain()

        assert handle.result(0) == result
        lab.sound(handle)
    finally:
        lab.close()
