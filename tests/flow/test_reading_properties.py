"""Arguments put together from reads are what plain evaluation of the flow would hand over."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given

from orchestrator.errors import NotAList
from orchestrator.flow import planning, reading
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Output,
    Param,
)
from orchestrator.flow.rerun import Place
from tests.flow.simulator import Counts, counted_graphs, item_count, law


@dataclass
class Evaluation:
    """Plain recursive evaluation: what each node is given, and what each leaves behind."""

    counts: Counts
    given: dict[Place, Any] = field(default_factory=dict)
    outputs: dict[Place, Any] = field(default_factory=dict)
    lists: dict[Place, list[Any]] = field(default_factory=dict)

    def run(self, graph: Graph, params: Mapping[str, Any], scope: str) -> Any:
        values: dict[str, Any] = {}
        for node in graph.nodes:
            place = node.name, scope
            if isinstance(node, EachNode):
                self.given[place] = plain(node.items, params, values)
                count = item_count(self.counts, node.name, scope)
                self.lists[place] = [f"{scope}/{node.name}#{i}" for i in range(count)]
                shared = {name: plain(b, params, values) for name, b in node.shared}
                values[node.name] = [
                    self.run(
                        node.body,
                        {**shared, node.item: item},
                        scopes.child(scope, node.name, index),
                    )
                    for index, item in enumerate(self.lists[place])
                ]
            else:
                self.given[place] = {n: plain(b, params, values) for n, b in node.arguments}
                self.outputs[place] = values[node.name] = f"{scope}/{node.name}"
        return plain(graph.result, params, values)

    def fetch(self, read: reading.Read) -> Any:
        """What the runtime would find in its tables."""
        match read:
            case reading.InputOf(param):
                return f"input {param}"
            case reading.OutputOf(name, scope):
                return self.outputs[name, scope]
            case reading.OutputsOf(name, scope, path):
                return dict(matching(self.outputs, name, scope, path))
            case reading.ItemOf(each, scope, index):
                return self.lists[each, scope][index]
            case reading.ItemsOf(each, scope, path):
                return dict(matching(self.lists, each, scope, path))
            case reading.CountsOf(each, scope, path):
                found = matching(self.lists, each, scope, path)
                return {at: len(items) for at, items in found}


def plain(binding: Binding | None, params: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    match binding:
        case None:
            return None
        case Param(name):
            return params[name]
        case Output(node):
            return values[node]
        case Literal(value):
            return value
        case ListOf(items):
            return [plain(item, params, values) for item in items]
        case DictOf(entries):
            done = {key: plain(entry, params, values) for key, entry in entries}
            return {"$dict": done} if "$k" in done else done


def matching(
    table: Mapping[Place, Any], name: str, scope: str, path: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    parts = [re.escape(scope)] if scope else []
    pattern = re.compile("/".join([*parts, *(rf"{each}\[\d+\]" for each in path)]))
    for (other, at), value in table.items():
        if other == name and pattern.fullmatch(at):
            yield at, value


@law
@given(counted_graphs)
def test_every_node_is_given_what_plain_evaluation_gives_it(counted: tuple[Graph, Counts]) -> None:
    graph, counts = counted
    evaluation = Evaluation(counts)

    result = evaluation.run(graph, {"x": "input x"}, "")

    for (name, scope), expected in evaluation.given.items():
        fetched = {read: evaluation.fetch(read) for read in reading.reads(graph, name, scope)}
        if isinstance(planning.level(graph, scope).node(name), EachNode):
            assert_items(expected, graph, name, scope, fetched)
        else:
            assert expected == reading.arguments(graph, name, scope, fetched)
    fetched = {read: evaluation.fetch(read) for read in reading.result_reads(graph)}
    assert result == reading.result(graph, fetched)


def assert_items(
    expected: Any, graph: Graph, name: str, scope: str, fetched: Mapping[reading.Read, Any]
) -> None:
    if isinstance(expected, list):
        assert expected == reading.items(graph, name, scope, fetched)
    else:
        with pytest.raises(NotAList, match=f"each '{name}'"):
            reading.items(graph, name, scope, fetched)
