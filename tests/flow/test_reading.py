"""What a body needs, by example."""

from typing import Any

import pytest

from orchestrator.errors import NotAList, NotFound
from orchestrator.flow import reading
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Output,
    Param,
    StepNode,
)
from orchestrator.flow.reads import CountsOf, InputOf, ItemOf, ItemsOf, OutputOf, OutputsOf


def parse_body(result: Binding | None) -> Graph:
    arguments = (("path", Param("path")), ("tag", Param("tag")))
    return Graph(("path", "tag"), (StepNode("parse", "m:parse", arguments),), result)


def flow(body_result: Binding | None, total: Binding) -> Graph:
    return Graph(
        ("root",),
        (
            StepNode("index", "m:index", (("root", Param("root")),)),
            EachNode(
                "file",
                Output("index"),
                "path",
                parse_body(body_result),
                (("tag", ListOf((Output("index"), Literal("x")))),),
            ),
            StepNode("total", "m:total", (("sizes", total),)),
        ),
        DictOf((("$total", Output("total")), ("files", Output("file")))),
    )


def test_an_item_reads_its_item_and_follows_shared_bindings_outwards() -> None:
    graph = flow(Output("parse"), Output("file"))
    item, index = ItemOf("file", "", 2), OutputOf("index", "")

    assert {item, index} == reading.reads(graph, "parse", "file[2]")

    arguments = reading.arguments(graph, "parse", "file[2]", {item: "c.txt", index: ["a", "b"]})
    assert arguments == {"path": "c.txt", "tag": [["a", "b"], "x"]}


def test_the_results_of_items_come_in_item_order_beyond_ten() -> None:
    graph = flow(Output("parse"), Output("file"))
    outputs, counts = OutputsOf("parse", "", ("file",)), CountsOf("file", "", ())

    assert {outputs, counts} == reading.reads(graph, "total", "")

    found = {f"file[{i}]": i for i in reversed(range(12))}
    arguments = reading.arguments(graph, "total", "", {outputs: found, counts: {"": 12}})
    assert arguments == {"sizes": list(range(12))}


def test_an_each_without_items_gives_the_empty_list() -> None:
    graph = flow(Output("parse"), Output("file"))
    values = {OutputsOf("parse", "", ("file",)): {}, CountsOf("file", "", ()): {"": 0}}

    assert reading.arguments(graph, "total", "", values) == {"sizes": []}


def test_a_body_that_returns_nothing_gives_a_null_per_item_and_reads_only_the_number() -> None:
    graph = flow(None, Output("file"))

    assert {CountsOf("file", "", ())} == reading.reads(graph, "total", "")

    values = {CountsOf("file", "", ()): {"": 2}}
    assert reading.arguments(graph, "total", "", values) == {"sizes": [None, None]}


def test_a_body_may_return_its_item_and_what_it_shares() -> None:
    graph = flow(ListOf((Param("path"), Param("tag"))), Output("file"))
    items, counts, index = ItemsOf("file", "", ()), CountsOf("file", "", ()), OutputOf("index", "")

    assert {items, counts, index} == reading.reads(graph, "total", "")

    values = {items: {"": ["a", "b"]}, counts: {"": 2}, index: 0}
    arguments = reading.arguments(graph, "total", "", values)
    assert arguments == {"sizes": [["a", [0, "x"]], ["b", [0, "x"]]]}


def test_a_branch_without_items_is_an_empty_list_among_the_others() -> None:
    inner = EachNode(
        "file", Param("root"), "path", parse_body(Output("parse")), (("tag", Literal(1)),)
    )
    folder = Graph(("root",), (inner,), Output("file"))
    graph = Graph(
        ("roots",), (EachNode("folder", Param("roots"), "root", folder),), Output("folder")
    )
    outer_counts, inner_counts = CountsOf("folder", "", ()), CountsOf("file", "", ("folder",))
    outputs = OutputsOf("parse", "", ("folder", "file"))

    assert {outer_counts, inner_counts, outputs} == reading.result_reads(graph)

    values = {
        outer_counts: {"": 3},
        inner_counts: {"folder[0]": 1, "folder[1]": 0, "folder[2]": 2},
        outputs: {"folder[2]/file[1]": 3, "folder[2]/file[0]": 2, "folder[0]/file[0]": 1},
    }
    assert reading.result(graph, values) == [[1], [], [2, 3]]


def test_a_result_object_whose_keys_look_like_tags_is_escaped_for_the_codec() -> None:
    graph = flow(Output("parse"), Output("file"))
    values = {
        OutputOf("total", ""): 9,
        OutputsOf("parse", "", ("file",)): {"file[0]": 1},
        CountsOf("file", "", ()): {"": 1},
    }

    assert reading.result(graph, values) == {"$dict": {"$total": 9, "files": [1]}}


def test_a_flow_without_a_result_gives_null() -> None:
    graph = Graph(("root",), (StepNode("index", "m:f"),))

    assert frozenset() == reading.result_reads(graph)
    assert reading.result(graph, {}) is None


@pytest.mark.parametrize(
    "items", [["a"], {"$tuple": ["a"]}, {"$set": ["a"]}, {"$frozenset": ["a"]}]
)
def test_lists_tuples_and_sets_can_be_fanned_out(items: Any) -> None:
    graph = flow(None, Output("file"))

    assert reading.items(graph, "file", "", {OutputOf("index", ""): items}) == ["a"]


@pytest.mark.parametrize(
    ("items", "what"),
    [
        ("abc", "text"),
        (None, "null"),
        (7, "the int 7"),
        ({"a": 1}, "an object"),
        ({"$type": "shop:Order", "value": {}}, "a shop:Order"),
    ],
)
def test_items_that_are_no_list_are_refused_by_the_name_of_the_each(items: Any, what: str) -> None:
    graph = flow(None, Output("file"))

    with pytest.raises(NotAList, match=f"each 'file' are not a list but {what}"):
        reading.items(graph, "file", "", {OutputOf("index", ""): items})


def test_the_inputs_of_the_flow_are_read_by_name() -> None:
    graph = flow(None, Output("file"))

    assert {InputOf("root")} == reading.reads(graph, "index", "")
    assert reading.arguments(graph, "index", "", {InputOf("root"): "/"}) == {"root": "/"}


def test_an_each_has_items_and_a_step_has_arguments() -> None:
    graph = flow(None, Output("file"))

    with pytest.raises(NotFound, match="'file' is no step"):
        reading.arguments(graph, "file", "", {})
    with pytest.raises(NotFound, match="'index' is a step"):
        reading.items(graph, "index", "", {})
