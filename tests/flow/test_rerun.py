"""Re-runs by example; the laws are in test_rerun_properties."""

import pytest

from orchestrator.errors import Conflict, NotFound
from orchestrator.flow.graph import EachNode, Graph, Literal, Output, Param, StepNode
from orchestrator.flow.rerun import Rerun, RerunOrder, RowFacts, rerun
from orchestrator.lifecycle import StepStatus

DONE, FAILED, WAITING = StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.WAITING
RUNNING, CANCELLED, OLD = StepStatus.RUNNING, StepStatus.CANCELLED, StepStatus.SUPERSEDED


def step(name: str, *inputs: str) -> StepNode:
    return StepNode(name, "m:f", tuple((f"p{i}", Output(i)) for i in inputs))


def row(
    name: str,
    status: StepStatus = DONE,
    *,
    scope: str = "",
    run: int = 1,
    wanted: int = 0,
    live: int = 0,
    items: int | None = None,
    next: int = 0,  # noqa: A002
) -> RowFacts:
    return RowFacts(
        name=name,
        scope=scope,
        run=run,
        status=status,
        wanted=wanted,
        live=live,
        items=items,
        next=next,
    )


DIAMOND = Graph(
    (), (step("a"), step("b", "a"), step("c", "a"), step("join", "b", "c"), step("z", "join"))
)
BODY = Graph(("x",), (step("read"), step("parse", "read"), step("log")))
FILES = Graph(
    ("l",),
    (
        step("index"),
        EachNode("file", Output("index"), "x", BODY),
        step("total", "file"),
        step("side"),
    ),
)


def file_rows(count: int) -> list[RowFacts]:
    items = [
        row(name, scope=f"file[{i}]") for i in range(count) for name in ("read", "parse", "log")
    ]
    each = row("file", wanted=2 * count, live=2 * count, items=count, next=count)
    return [row("index"), each, *items, row("total"), row("side")]


def test_a_join_ordered_anew_starts_with_the_arrivals_that_are_not_run_again() -> None:
    rows = [row("a"), row("b"), row("c"), row("join", wanted=2, live=2), row("z")]

    plan = rerun(DIAMOND, rows, {("b", "")})

    assert plan == Rerun(
        superseded=(("b", "", 1), ("join", "", 1), ("z", "", 1)),
        orders=(
            RerunOrder(name="b", scope="", run=2, wanted=1, live=1, ready=True),
            RerunOrder(name="join", scope="", run=2, wanted=2, live=1, ready=False),
        ),
        runs={("z", ""): 2},
    )


def test_a_join_none_of_whose_inputs_stay_is_ordered_by_its_first_arrival() -> None:
    rows = [row("a"), row("b"), row("c"), row("join", wanted=2, live=2), row("z")]

    plan = rerun(DIAMOND, rows, {("a", "")})

    assert plan.orders == (RerunOrder(name="a", scope="", run=2, wanted=0, live=0, ready=True),)
    assert plan.runs == {("b", ""): 2, ("c", ""): 2, ("join", ""): 2, ("z", ""): 2}


def test_the_next_run_counts_superseded_ones_too() -> None:
    rows = [row("a", OLD), row("a", OLD, run=2), row("a", run=3)]

    plan = rerun(Graph((), (step("a"),)), rows, {("a", "")})

    assert plan.superseded == (("a", "", 3),)
    assert plan.orders[0].run == 4


def test_a_chosen_step_after_another_chosen_one_waits_for_its_inputs() -> None:
    rows = [row("a"), row("b"), row("c"), row("join", wanted=2, live=2), row("z")]

    plan = rerun(DIAMOND, rows, {("b", ""), ("join", "")})

    assert [(order.name, order.ready) for order in plan.orders] == [("b", True), ("join", False)]


def test_an_each_around_a_chosen_item_keeps_its_list_its_cursor_and_the_other_items() -> None:
    plan = rerun(FILES, file_rows(3), {("read", "file[1]")})

    assert plan.superseded == (
        ("file", "", 1),
        ("read", "file[1]", 1),
        ("parse", "file[1]", 1),
        ("total", "", 1),
    )
    assert plan.orders == (
        RerunOrder(name="file", scope="", run=2, wanted=6, live=5, ready=False, items=3, next=3),
        RerunOrder(name="read", scope="file[1]", run=2, wanted=0, live=0, ready=True),
    )
    assert plan.runs == {("parse", "file[1]"): 2, ("total", ""): 2}


def test_an_each_whose_list_is_made_again_is_run_again_with_all_its_items() -> None:
    plan = rerun(FILES, file_rows(2), {("index", "")})

    assert len(plan.superseded) == 1 + 1 + 6 + 1
    assert plan.orders == (RerunOrder(name="index", scope="", run=2, wanted=0, live=0, ready=True),)
    assert plan.runs[("parse", "file[1]")] == 2


def test_a_chosen_each_is_ordered_ready_and_an_item_chosen_with_it_is_simply_affected() -> None:
    plan = rerun(FILES, file_rows(2), {("file", ""), ("read", "file[0]")})

    assert plan.orders == (RerunOrder(name="file", scope="", run=2, wanted=1, live=1, ready=True),)


def test_every_each_around_a_nested_item_waits_for_it_again() -> None:
    inner = EachNode("page", Param("x"), "p", Graph(("p",), (step("scan"),)))
    outer = Graph((), (EachNode("book", Literal([1]), "x", Graph(("x",), (inner,))),))
    rows = [
        row("book", wanted=2, live=2, items=2, next=2),
        row("page", scope="book[0]", items=0),
        row("page", scope="book[1]", wanted=2, live=2, items=2, next=2),
        row("scan", scope="book[1]/page[0]"),
        row("scan", scope="book[1]/page[1]"),
    ]

    plan = rerun(outer, rows, {("scan", "book[1]/page[0]")})

    assert [(order.name, order.wanted, order.live) for order in plan.orders] == [
        ("book", 2, 1),
        ("page", 2, 1),
        ("scan", 0, 0),
    ]


def test_items_that_were_never_ordered_stay_for_the_cursor() -> None:
    rows = [
        *(row("index"), row("side")),
        row("file", WAITING, wanted=20, live=2, items=10, next=2),
        *(row(name, scope="file[0]") for name in ("read", "parse", "log")),
        *(row("read", RUNNING, scope="file[1]"), row("log", RUNNING, scope="file[1]")),
    ]

    plan = rerun(FILES, rows, {("log", "file[0]")})

    assert plan.orders[0] == RerunOrder(
        name="file", scope="", run=2, wanted=20, live=1, ready=False, items=10, next=2
    )
    assert len(plan.orders) == 2


def test_where_items_ended_while_the_execution_was_closing_the_window_is_filled_again() -> None:
    rows = [
        *(row("index"), row("side")),
        row("file", CANCELLED, wanted=20, live=0, items=10, next=1),
        *(row(name, scope="file[0]") for name in ("read", "parse", "log")),
    ]

    slow, quick = (rerun(FILES, rows, set(), windows) for windows in (None, {"file": 3}))

    assert [(plan.orders[0].next, plan.orders[-1].scope) for plan in (slow, quick)] == [
        (1 + 1, "file[1]"),
        (1 + 3, "file[3]"),
    ]
    assert slow.orders[0].live == 2


def test_what_a_closing_execution_cancelled_or_never_ordered_is_ordered_by_what_is_there() -> None:
    rows = [row("a"), row("b"), row("c", CANCELLED), row("join", CANCELLED, wanted=2, live=1)]

    plan = rerun(DIAMOND, rows, set())

    assert plan.orders == (
        RerunOrder(name="c", scope="", run=2, wanted=1, live=1, ready=True),
        RerunOrder(name="join", scope="", run=2, wanted=2, live=1, ready=False),
    )


def test_an_affected_step_that_runs_is_in_the_way() -> None:
    rows = [row("a"), row("b", RUNNING), row("c")]

    with pytest.raises(Conflict, match="step 'b' is running and would have to run again"):
        rerun(DIAMOND, rows, {("a", "")})


def test_a_running_step_that_is_not_affected_goes_on() -> None:
    rows = [row("a"), row("b"), row("c", RUNNING), row("join", WAITING, wanted=2, live=1)]

    plan = rerun(DIAMOND, rows, {("b", "")})

    assert plan.runs == {("join", ""): 2}


def test_a_failed_step_elsewhere_is_in_the_way() -> None:
    rows = [row("a"), row("b"), row("c", FAILED), row("join", CANCELLED, wanted=2, live=1)]

    with pytest.raises(Conflict, match="step 'c' failed and is not among the steps to run again"):
        rerun(DIAMOND, rows, {("b", "")})


def test_a_chosen_step_whose_inputs_are_not_there_is_refused() -> None:
    rows = [row("a"), row("b"), row("c", RUNNING), row("join", WAITING, wanted=2, live=1)]

    with pytest.raises(Conflict, match="step 'join' cannot run: its input 'c' has not succeeded"):
        rerun(DIAMOND, rows, {("join", "")})


def test_a_chosen_step_without_a_row_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"'file\[7\]/read'"):
        rerun(FILES, file_rows(2), {("read", "file[7]")})
