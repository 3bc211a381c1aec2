import pytest
from bakery import bake, order

from orchestrator import InvalidInput, Orchestrator
from orchestrator.testing import as_step


def test_bread_is_counted() -> None:
    with as_step(attempt=2):
        assert bake(2) == ["loaf 1 of batch 2", "loaf 2 of batch 2"]


def test_a_broken_oven_is_no_bread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVEN", "broken")
    with pytest.raises(ConnectionError):
        bake(2)


def test_bread_cools_before_it_is_delivered() -> None:
    edges = {(edge["source"], edge["target"]) for edge in order.graph()["edges"]}
    assert {("bake", "sleep"), ("sleep", "deliver")} <= edges


def test_an_order_is_delivered(flows: Orchestrator) -> None:
    handle = flows.start(order, 3, "Mill Lane")

    flows.send(handle, "driver", "Ann")  # one that is sent early is kept

    assert handle.result(timeout=30) == "3 loaves to Mill Lane by Ann"


def test_an_order_without_a_street_is_not_taken(flows: Orchestrator) -> None:
    with pytest.raises(InvalidInput, match="street"):
        flows.start_document(order, {"loaves": 3})
