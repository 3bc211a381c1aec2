"""A flow as nodes and edges, and as diagrams."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from examples import first_flows
from orchestrator.flow.authoring import (
    Flow,
    StepError,
    call,
    each,
    first_n,
    flow,
    signal,
    sleep,
    step,
    when,
)
from orchestrator.lifecycle import StepStatus


@dataclass
class Order:
    total: int
    lines: list[str]


@step
def charge(order: Order) -> int:
    return order.total


@step
def sorry(error: StepError) -> int:
    return 0


@step
def pack(line: str) -> str:
    return line


@step
def ship(packed: list[str | None], paid: int) -> str:
    return f"{packed} {paid}"


@step
def end(order: Order) -> str:
    return 'with "quotes"'


@flow
def checkout(order: Order) -> str:
    paid = charge.options(on_error=sorry)(order)
    packed = each(order.lines, pack.options(accept=0.9))
    with when((order.total > 10) & (paid == 3)):
        end.options(after=packed)(order)
    return ship(packed, paid)


def test_a_graph_is_plain_data_with_paths() -> None:
    graph = checkout.graph()

    assert (graph["name"], graph["version"]) == ("checkout", checkout.definition.version)
    assert graph["params"] == ["order"]
    assert graph["result"] == "ship"
    assert {node["path"]: node["kind"] for node in graph["nodes"]} == {
        "charge": "step",
        "charge_on_error": "step",
        "pack": "each",
        "pack/pack": "step",
        "end": "step",
        "ship": "step",
    }
    nodes = {node["path"]: node for node in graph["nodes"]}
    assert nodes["charge_on_error"]["handles"] == "charge"
    assert nodes["pack"]["items"] == "order.lines"
    assert nodes["end"]["when"] == "(order.total > 10) & (charge == 3)"


def test_edges_say_why_one_node_waits_for_another() -> None:
    edges = {(edge["source"], edge["target"]): edge for edge in checkout.graph()["edges"]}

    assert {ends: edge["kind"] for ends, edge in edges.items()} == {
        ("charge", "charge_on_error"): "error",
        ("charge", "end"): "condition",
        ("charge_on_error", "end"): "handled",
        ("pack", "end"): "after",
        ("pack", "ship"): "value",
        ("charge", "ship"): "value",
        ("charge_on_error", "ship"): "handled",
    }
    assert edges["charge", "end"]["when"] == "(order.total > 10) & (charge == 3)"
    assert "when" not in edges["charge", "ship"]


def test_a_mermaid_chart_has_frames_dotted_handlers_and_conditions() -> None:
    assert checkout.mermaid() == (
        "flowchart TD\n"
        '    start_(["checkout"])\n'
        '    charge_["charge"]\n'
        '    charge_on_error_["charge_on_error"]\n'
        '    subgraph pack_["pack: each order.lines, 90% must succeed"]\n'
        '        pack__pack_["pack"]\n'
        "    end\n"
        '    end_["end"]\n'
        '    ship_["ship"]\n'
        "    start_ --> charge_\n"
        "    start_ --> pack_\n"
        '    charge_ -.->|"on error"| charge_on_error_\n'
        '    charge_ -->|"(order.total > 10) & (charge == 3)"| end_\n'
        "    charge_on_error_ -.-> end_\n"
        '    pack_ -.->|"(order.total > 10) & (charge == 3)"| end_\n'
        "    pack_ --> ship_\n"
        "    charge_ --> ship_\n"
        "    charge_on_error_ -.-> ship_\n"
    )


def test_statuses_colour_the_nodes_they_name_and_no_others() -> None:
    states = {"charge": "succeeded", "pack": "running", "pack/pack": "running", "gone": "failed"}

    chart, graph = checkout.mermaid(states), checkout.dot(states)

    assert "class charge_ succeeded" in chart
    assert "class pack_,pack__pack_ running" in chart
    assert "failed" not in chart
    assert re.search(r'"charge" \[.*fillcolor="#c8e6c9"', graph)


@pytest.mark.parametrize("status", [status for status in StepStatus if status != "superseded"])
def test_every_status_of_a_step_has_a_colour(status: StepStatus) -> None:
    assert f"classDef {status} fill:#" in checkout.mermaid({"charge": status})


def test_a_graphviz_graph_has_clusters_dotted_handlers_and_conditions() -> None:
    lines = [line.strip() for line in checkout.dot().splitlines()]

    assert lines[0] == "digraph flow {"
    assert lines[-1] == "}"
    assert 'subgraph "cluster_pack" {' in lines
    assert '"charge" -> "charge_on_error" [label="on error" style=dotted];' in lines
    assert '"pack/pack" -> "ship" [ltail="cluster_pack"];' in lines
    assert 'start_ -> "pack/pack" [lhead="cluster_pack"];' in lines
    assert '"charge" -> "end" [label="(order.total > 10) & (charge == 3)"];' in lines
    assert sum(line.count("{") for line in lines) == sum(line.count("}") for line in lines)


def test_quotes_in_labels_are_escaped() -> None:
    @flow
    def quoting(order: Order) -> None:
        with when(order.lines == ['a "b"']):
            charge(order)

    assert '|"order.lines == [#quot;a \\#quot;b\\#quot;#quot;]"|' in quoting.mermaid()
    assert r"order.lines == [\"a \\\"b\\\"\"]" in quoting.dot()


def test_what_waits_says_for_what() -> None:
    @flow
    def waiting(order: Order) -> None:
        one, two = signal("ok", str, within="3d"), call("other_flow")
        first_n(1, [one, two])
        call.options(name="again")("other_flow")
        sleep("90s")

    labels = re.findall(r'"([^"]*)"[\])}/]', waiting.mermaid())
    assert labels[1:] == [
        *("signal ok, within 3d", "other_flow", "first_n: 1 of 2"),
        *("again: flow other_flow", "sleep 1m30s"),
    ]


FIRST_FLOWS = [value for value in vars(first_flows).values() if isinstance(value, Flow)]


@pytest.mark.parametrize("first", FIRST_FLOWS, ids=lambda first: first.name)
def test_every_first_flow_is_drawn_with_all_its_nodes(first: Flow[..., Any]) -> None:
    assert len(FIRST_FLOWS) == 6
    for path in first.definition.graph.paths():
        assert f"{path.replace('/', '__')}_" in first.mermaid()
        assert f'"{path}"' in first.dot() or f'"cluster_{path}"' in first.dot()
