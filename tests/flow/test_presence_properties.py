"""What recording calls present has run whenever the evaluator lets its user run."""

from itertools import product
from random import Random
from typing import Any

from hypothesis import given

from orchestrator.codec import JSON
from orchestrator.flow import presence, reading
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Compare,
    Field,
    Literal,
    Missing,
    Not,
    Output,
    Param,
)
from orchestrator.flow.graph import Graph, StepNode
from orchestrator.flow.reads import InputOf, OutputOf
from tests.flow.simulator import law, seeds

NAMES = ("a", "b", "c")
VALUES: tuple[JSON, ...] = (None, 0, {"x": 1})


def operand(random: Random, earlier: tuple[str, ...]) -> Binding:
    value: Binding = Output(random.choice(earlier)) if earlier else Param("p")
    return Field(value, "x") if random.random() < 0.5 else value


def condition(random: Random, earlier: tuple[str, ...], depth: int = 2) -> Binding:
    def part() -> Binding:
        return condition(random, earlier, depth - 1)

    def compared(operation: Any) -> Binding:
        other = random.choice((Literal(None), Literal(1), operand(random, earlier)))
        return Compare(operation, operand(random, earlier), other)

    kinds = [
        lambda: Param("p"),
        lambda: operand(random, earlier),
        lambda: compared("=="),
        lambda: compared("!="),
        lambda: Missing(operand(random, earlier)),
    ]
    if depth:
        kinds += [lambda: Not(part()), lambda: AllOf((part(), part()))] * 2
        kinds += [lambda: AnyOf((part(), part()))]
    return random.choice(kinds)()


def conditional_graph(random: Random) -> Graph:
    """Three steps under conditions, and one that uses them, under its own or one of theirs."""
    nodes: list[StepNode] = []
    for number, name in enumerate((*NAMES, "user")):
        own = [condition(random, NAMES[:number]) for _ in range(random.randrange(3))]
        shared = [c for node in nodes for c in node.conditions if random.random() < 0.3]
        nodes.append(StepNode(name, "m:f", conditions=(*own, *shared)))
    return Graph(("p",), tuple(nodes))


def has_run(graph: Graph, inputs: tuple[JSON, ...]) -> set[str]:
    """The steps that are not skipped, given the parameter and what each step would return."""
    parameter, *results = inputs
    outputs: dict[str, JSON] = dict.fromkeys(NAMES)
    ran = set()
    for node, result in zip(graph.nodes, [*results, None], strict=True):
        values = {
            read: parameter if isinstance(read, InputOf) else outputs[read.name]
            for read in reading.gates(graph, node.name, "")
            if isinstance(read, InputOf | OutputOf)
        }
        if reading.refusal(graph, node.name, "", values) is None:
            ran.add(node.name)
            outputs[node.name] = result
    return ran


@law
@given(seeds)
def test_a_value_without_doubt_is_there_whenever_its_user_runs(random: Random) -> None:
    graph = conditional_graph(random)
    *nodes, user = graph.nodes
    conditions = {node.name: node.conditions for node in nodes}

    certain = {
        name
        for name in NAMES
        if not list(presence.doubtful(Output(name), int, user.conditions, conditions))
    }

    for inputs in product(VALUES, repeat=len(NAMES) + 1):
        ran = has_run(graph, inputs)
        if "user" in ran:
            assert certain <= ran
