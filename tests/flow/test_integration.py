"""Graph documents of integration platforms as flows."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import Flow, step
from orchestrator.flow.bindings import DictOf, ListOf, Output, Param
from orchestrator.flow.graph import StepNode

GRAPHS = Path(__file__).parent / "graphs"
FIVE = json.loads((GRAPHS / "five-steps.json").read_text("utf-8"))
TWO = json.loads((GRAPHS / "two-steps.json").read_text("utf-8"))


@step
def emit(message: Any) -> Any:
    return message


@step
def mail(message: Any) -> Any:
    return message


@step
def needy(message: Any, more: Any) -> Any:
    return message, more


COMPONENTS = {("filter", "createTodo"): emit, ("filter", "mailTo"): mail}


def test_each_node_takes_what_the_one_before_it_returned() -> None:
    loaded = Flow.from_graph(FIVE, components=COMPONENTS)

    graph = loaded.definition.graph
    assert loaded.name == "Flow_Title_here"
    assert graph.params == ("message",)
    assert {node.name: dict(node.arguments) for node in graph.nodes if type(node) is StepNode} == {
        "step1": {"message": Param("message")},
        "step2": {"message": Output("step1")},
        "step3": {"message": Output("step2")},
        "step4": {"message": Output("step2")},
        "step5": {"message": Output("step3")},
    }
    assert graph.result == DictOf((("step4", Output("step4")), ("step5", Output("step5"))))
    assert loaded.mermaid().count("-->") == 5


def test_the_name_is_the_documents_name_and_all_of_it_is_kept() -> None:
    component = "61e18f6714f335002746ba6f"
    components = {(component, "testTrigger"): emit, (component, "testAction"): mail}

    loaded = Flow.from_graph(TWO, components=components)

    assert loaded.name == "raw_data_1"
    assert [node.name for node in loaded.definition.graph.nodes] == ["step_1", "step_2"]
    assert loaded.definition.options_json()["source"] == TWO
    assert type(loaded.definition).from_json(loaded.definition.to_json()) == loaded.definition
    assert Flow.from_graph(TWO, components=components, name="mine", version="2").name == "mine"


def test_the_same_document_has_the_same_fingerprint() -> None:
    one, two = (Flow.from_graph(FIVE, components=COMPONENTS) for _ in range(2))

    assert one.definition == two.definition


@pytest.mark.req("E7")
def test_the_first_step_waits_for_nothing_and_the_next_are_the_targets_of_its_edges_in_order() -> (
    None
):
    alone, turned = copy.deepcopy(TWO), copy.deepcopy(FIVE)
    alone["graph"].update(nodes=alone["graph"]["nodes"][:1], edges=[])
    turned["graph"]["edges"].reverse()
    component = {("61e18f6714f335002746ba6f", "testTrigger"): emit}

    only = Flow.from_graph(alone, components=component).definition.graph
    graph = Flow.from_graph(FIVE, components=COMPONENTS).definition.graph
    back = Flow.from_graph(turned, components=COMPONENTS).definition.graph

    assert only.roots == only.sinks == ("step_1",)
    assert graph.roots == back.roots == ("step1",)
    assert graph.dependents("step2") == ("step3", "step4")
    assert back.dependents("step2") == ("step4", "step3")


def test_a_node_that_joins_is_given_a_list_in_the_order_of_edges() -> None:
    document = copy.deepcopy(FIVE)
    document["graph"]["edges"].append({"source": "step4", "target": "step5"})
    document["graph"]["nodes"][4]["nodeSettings"] = {"join": "all"}

    graph = Flow.from_graph(document, components=COMPONENTS).definition.graph

    [argument] = [dict(n.arguments) for n in graph.nodes if n.name == "step5"]  # type: ignore[union-attr]
    assert argument == {"message": ListOf((Output("step3"), Output("step4")))}


def test_all_unknown_components_are_listed_in_one_error() -> None:
    with pytest.raises(DefinitionError) as refused:
        Flow.from_graph(FIVE, components={})

    message = str(refused.value)
    assert message.startswith(__file__)
    assert "component 'filter', function 'createTodo' (node step1, step5)" in message
    assert "component 'filter', function 'mailTo' (node step2, step3, step4)" in message
    assert "add components={('filter', 'mailTo'): step}" in message


def add_edge(source: str, target: str) -> Any:
    return lambda d: d["graph"]["edges"].append({"source": source, "target": target})


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda d: d.pop("graph"), "graph.nodes is missing"),
        (lambda d: d["graph"].update(nodes=[]), "graph.nodes is missing"),
        (lambda d: d["graph"].update(edges=3), "graph.edges is no list"),
        (lambda d: d.pop("title"), "neither a name nor a title"),
        (lambda d: d["graph"]["nodes"].append({}), "graph.nodes[5] has no id"),
        (lambda d: d["graph"]["nodes"][1].update(id="step1"), "the node id 'step1' is used twice"),
        (lambda d: d["graph"]["nodes"][1].update(id="###"), "the node id '###' gives no name"),
        (
            lambda d: (
                d["graph"]["nodes"].append({**d["graph"]["nodes"][0], "id": "step-1"})
                or d["graph"]["nodes"].append({**d["graph"]["nodes"][0], "id": "step 1"})
            ),
            "the node ids 'step-1' and 'step 1' both give the name 'step_1'",
        ),
        (add_edge("stepp1", "step2"), "there is no node 'stepp1', did you mean 'step1'?"),
        (add_edge("step1", "step2"), "'step1' leads to 'step2' already"),
        (add_edge("step5", "step1"), "the nodes wait for each other"),
        (add_edge("step4", "step5"), "node 'step5' has 2 incoming edges, from 'step3', 'step4'"),
        (add_edge("step4", "step5"), 'nodeSettings: {"join": "all"}'),
        (
            lambda d: d["graph"]["nodes"][4].update(nodeSettings={"join": "some"}),
            "node 'step5': join 'some' is not known: write 'all'",
        ),
    ],
)
def test_a_document_that_cannot_run_is_refused_by_what_is_wrong(break_it: Any, told: str) -> None:
    document = copy.deepcopy(FIVE)
    break_it(document)

    with pytest.raises(DefinitionError) as refused:
        Flow.from_graph(document, components=COMPONENTS)

    assert told in str(refused.value)


def test_a_step_that_wants_more_than_a_message_is_refused() -> None:
    with pytest.raises(DefinitionError, match="step 'step1': missing a required argument: 'more'"):
        Flow.from_graph(FIVE, components={**COMPONENTS, ("filter", "createTodo"): needy})
