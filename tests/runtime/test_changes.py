"""docs/operations.md, "What may be changed while executions run?": each line of it is tried."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator import ExecutionFailed
from orchestrator.handles import Handle
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.modules import flows_of, steps_of
from tests.runtime.lab import Lab

SHOP = """
from dataclasses import dataclass
from orchestrator import flow, step


@dataclass
class Order:
    id: str


@step
def charge(order: Order) -> Order:
    return order


@step
def ship(order: Order) -> str:
    return order.id


@flow
def sell(order: Order) -> str:
    return ship(charge(order))
"""

Deploy = Callable[..., ModuleType]


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Deploy]:
    """Makes the module `a_shop` anew from its text, each (old, new) replaced in it."""
    numbers = itertools.count()

    def make(*changes: tuple[str, str], more: str = "") -> ModuleType:
        text = SHOP + more
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / f"a_shop_{next(numbers)}.py"
        file.write_text(text, "utf-8")
        spec: Any = importlib.util.spec_from_file_location("a_shop", file)
        module = sys.modules["a_shop"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield make
    sys.modules.pop("a_shop", None)


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    made = Lab.open(database_url, [])
    yield made
    made.close()


def start(lab: Lab, old: ModuleType) -> Handle[str]:
    lab.catalogue.add(old.sell)
    return lab.start(old.sell, old.Order("o-1"))


def carry_on(lab: Lab, new: ModuleType, *others: Any) -> None:
    lab.drain(lab.worker(catalogue=Catalogue([new.sell, *others])))


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ([("return order.id", "return order.id + '!'")], "o-1!"),
        ([("    id: str\n", "    id: str\n    note: str = ''\n")], "o-1"),
        (
            [("Order", "Purchase"), ("@step\ndef charge", "Order = Purchase\n@step\ndef charge")],
            "o-1",
        ),
    ],
    ids=["a body", "a field with a default", "a class that leaves its old name"],
)
def test_an_execution_goes_on(
    lab: Lab, deploy: Deploy, changes: list[tuple[str, str]], result: str
) -> None:
    handle = start(lab, deploy())

    carry_on(lab, deploy(*changes))

    assert handle.result(0) == result


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("Order", "Purchase")], "a_shop:Order, a class that is not loaded here"),
        ([("    id: str\n", "    id: str\n    note: str\n")], "cannot be read as a_shop:Order"),
        ([("    id: str\n", "    number: str\n"), ("order.id", "order.number")], "cannot be read"),
    ],
    ids=["a class", "a field without a default", "a field's name"],
)
def test_a_step_fails_that_cannot_read_a_stored_value_until_it_can(
    lab: Lab, deploy: Deploy, changes: list[tuple[str, str]], told: str
) -> None:
    handle = start(lab, deploy())

    carry_on(lab, deploy(*changes))
    with pytest.raises(ExecutionFailed, match=f"InvalidInput: .*{told}"):
        handle.result(0)

    right = deploy()
    lab.client.retry(handle)
    carry_on(lab, right)
    assert handle.result(0) == "o-1"


def test_a_step_that_no_flow_uses_any_more_still_runs(lab: Lab, deploy: Deploy) -> None:
    handle = start(lab, deploy())
    new = deploy(("ship(charge(order))", "ship(order)"))
    catalogue = Catalogue(flows_of([new]))
    for kept in steps_of([new]):
        catalogue.add_step(kept)

    lab.drain(lab.worker(catalogue=catalogue))

    assert "charge" not in new.sell.definition.graph.names
    assert handle.result(0) == "o-1"


def test_options_are_the_newest_of_the_same_graph(lab: Lab, deploy: Deploy) -> None:
    handle = start(lab, deploy())
    plain, hurried = "@step\ndef charge", "@step(queue='till', timeout='{}')\ndef charge"

    newer = Catalogue([deploy((plain, hurried.format("5s"))).sell])
    other = deploy(
        (plain, hurried.format("9s")), ("ship(charge(order))", "ship(charge(charge(order)))")
    )
    newest = Catalogue([other.sell])
    for catalogue in (newer, newest):
        lab.database.run(catalogue.register)

    number = lab.database.run(newer.registered, "sell").id
    for catalogue in (newer, newest, Catalogue()):
        found = lab.database.run(catalogue.definition, number)
        assert found.options("charge", "").timeout == timedelta(seconds=5)
    assert lab.row(handle, "charge")["queue"] == "orchestrator", "it was ordered before"
