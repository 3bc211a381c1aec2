"""What follows the end of a step, by example."""

import pytest

from orchestrator.errors import NotFound
from orchestrator.flow import planning
from orchestrator.flow.graph import EachNode, Graph, Literal, Output, Param, StepNode
from orchestrator.flow.planning import FanIn, Order, Succession


def step(name: str, *inputs: str, after: tuple[str, ...] = ()) -> StepNode:
    return StepNode(name, "m:f", tuple((f"p{i}", Output(i)) for i in inputs), after=after)


PARSE = Graph(
    ("path",),
    (StepNode("read", "m:f", (("path", Param("path")),)), step("parse", "read"), step("log")),
)
FLOW = Graph(
    ("root",),
    (
        StepNode("index", "m:f", (("root", Param("root")),)),
        step("clock"),
        EachNode("file", Output("index"), "path", PARSE, after=("clock",)),
        step("total", "file", "index", after=("file", "clock")),
    ),
    Output("total"),
)


@pytest.mark.req("E7")
def test_the_first_steps_are_those_without_inputs_in_graph_order() -> None:
    assert (Order("index", "", 0), Order("clock", "", 0)) == planning.first(FLOW)


@pytest.mark.req("E7")
def test_the_next_steps_are_the_dependents_in_graph_order_each_with_what_it_wants() -> None:
    succession = planning.after(FLOW, "index", "")

    assert Succession((Order("file", "", 2), Order("total", "", 3))) == succession


def test_a_step_named_by_argument_and_by_after_is_one_dependency() -> None:
    assert FLOW.dependencies("total") == ("file", "index", "clock")


def test_a_parameter_is_no_dependency() -> None:
    assert FLOW.dependencies("index") == ()


def test_the_last_steps_of_an_item_arrive_at_the_row_of_their_each() -> None:
    assert Succession((), FanIn("file", "")) == planning.after(FLOW, "parse", "file[7]")
    assert Succession((), FanIn("file", "")) == planning.after(FLOW, "log", "file[7]")
    assert planning.arrivals_per_item(FLOW, "file", "") == 2


def test_a_step_inside_an_item_orders_the_next_one_of_that_item() -> None:
    succession = planning.after(FLOW, "read", "file[7]")

    assert Order("parse", "file[7]", 1) == succession.plain


def test_only_a_single_step_that_waits_for_nothing_else_is_plain() -> None:
    assert planning.after(FLOW, "file", "").plain is None
    assert planning.after(FLOW, "index", "").plain is None
    assert planning.after(FLOW, "parse", "file[7]").plain is None


def test_after_the_last_step_of_the_flow_nothing_follows() -> None:
    assert planning.after(FLOW, "total", "").empty
    assert not planning.after(FLOW, "parse", "file[7]").empty


def test_items_are_ordered_by_range_and_an_empty_range_orders_nothing() -> None:
    orders = planning.item_orders(FLOW, "file", "", 3, 5)

    assert orders == (
        Order("read", "file[3]", 0),
        Order("log", "file[3]", 0),
        Order("read", "file[4]", 0),
        Order("log", "file[4]", 0),
    )
    assert planning.item_orders(FLOW, "file", "", 3, 3) == ()


def test_nested_items_are_found_through_their_scope() -> None:
    outer = Graph((), (EachNode("folder", Literal([1]), "root", FLOW),))

    assert PARSE is planning.level(outer, "folder[1]/file[2]")
    assert FanIn("file", "folder[1]") == planning.after(outer, "parse", "folder[1]/file[2]").fan_in
    assert Order("read", "folder[1]/file[0]", 0) in planning.item_orders(
        outer, "file", "folder[1]", 0, 1
    )


@pytest.mark.parametrize(("name", "scope"), [("nowhere", ""), ("read", ""), ("read", "total[0]")])
def test_an_unknown_place_is_named(name: str, scope: str) -> None:
    with pytest.raises(NotFound, match=name if not scope else "total"):
        planning.after(FLOW, name, scope)
