"""What the constructs of a flow body record: conditions, joins, waits, handlers, calls, builds."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, TypedDict

import pytest
from pydantic import BaseModel, Field

from orchestrator.flow.authoring import (
    Flow,
    StepError,
    build,
    call,
    choose,
    each,
    first_n,
    first_of,
    flow,
    missing,
    not_,
    otherwise,
    signal,
    sleep,
    step,
    when,
)
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Build,
    Compare,
    DictOf,
    Failure,
    ListOf,
    Literal,
    Missing,
    Not,
    Output,
    Param,
)
from orchestrator.flow.bindings import Field as FieldOf
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    MergeNode,
    SignalNode,
    SleepNode,
    StepNode,
)

ME = __name__


class Status(Enum):
    OPEN = 1
    PAID = 2


class Point(NamedTuple):
    x: int
    y: int


class Label(TypedDict):
    colour: str


class Approval(BaseModel):
    ok: bool
    by: str = Field(default="", alias="approved_by")


@dataclass
class Order:
    total: int
    status: Status
    points: list[Point]
    label: Label
    data: Any
    note: str | None = None


@dataclass
class Parcel:
    order: Order
    paid: int
    weight: int = 1


@step
def charge(order: Order) -> int:
    return order.total


@step
def ask(text: str, note: str | None = None) -> str:
    return text


@step
def take(value: Any) -> Any:
    return value


@step
def sorry(error: StepError) -> int:
    return error.attempts


@step
async def sorry_later(error: StepError, tone: str = "kind") -> int:
    return len(tone)


@flow
def child(order: Order, fast: bool = False) -> int:
    return charge.options(on_error=sorry)(order)


def node(recorded: Flow[..., Any], name: str) -> Any:
    return recorded.definition.graph.node(name)


def argument(recorded: Flow[..., Any], name: str) -> Any:
    [(_, binding)] = node(recorded, name).arguments
    return binding


TOTAL = FieldOf(Param("order"), "total")


def test_fields_items_and_comparisons_of_promises_are_expressions() -> None:
    @flow
    def reading(order: Order) -> None:
        take(order.points[0].y)
        take(order.points[-1][0])
        take(order.label["colour"])
        take(order.data.any["name"][3])
        take((order.total >= 3) & (order.status == Status.PAID) & (order.note != None))  # noqa: E711
        take((order.total < 3) | not_(missing(order.note)))

    points = FieldOf(Param("order"), "points")
    assert argument(reading, "take") == FieldOf(FieldOf(points, 0), "y")
    assert argument(reading, "take_2") == FieldOf(FieldOf(points, -1), "x")
    assert argument(reading, "take_3") == FieldOf(FieldOf(Param("order"), "label"), "colour")
    data = FieldOf(FieldOf(Param("order"), "data"), "any")
    assert argument(reading, "take_4") == FieldOf(FieldOf(data, "name"), 3)
    note, status = (FieldOf(Param("order"), name) for name in ("note", "status"))
    paid = Literal({"$type": f"{ME}:Status", "name": "PAID"})
    assert argument(reading, "take_5") == AllOf(
        (
            Compare(">=", TOTAL, Literal(3)),
            Compare("==", status, paid),
            Compare("!=", note, Literal(None)),
        )
    )
    assert argument(reading, "take_6") == AnyOf(
        (Compare("<", TOTAL, Literal(3)), Not(Missing(note)))
    )


def test_a_comparison_may_begin_with_the_value_and_compare_two_promises() -> None:
    @flow
    def comparing(order: Order, limit: int) -> None:
        take(1000 < order.total)  # noqa: SIM300
        take(order.total <= limit)

    assert argument(comparing, "take") == Compare(">", TOTAL, Literal(1000))
    assert argument(comparing, "take_2") == Compare("<=", TOTAL, Param("limit"))


def test_fields_are_those_of_what_steps_eaches_and_signals_are_declared_to_return() -> None:
    @step
    def approve(order: Order) -> Approval:
        return Approval(ok=True, approved_by="me")

    @flow
    def reading(orders: list[Order]) -> None:
        take(each(orders, approve)[0].ok)
        take(signal("done", Approval).by)

    assert argument(reading, "take") == FieldOf(FieldOf(Output("approve"), 0), "ok")
    assert argument(reading, "take_2") == FieldOf(Output("done"), "by")


def test_a_condition_is_put_on_every_node_of_its_block_and_nesting_conjoins() -> None:
    @flow
    def branching(order: Order) -> None:
        with when(order.total > 10):
            charge(order)
            each(order.points, take)
            with when(order.note == "x"):
                sleep("1h")
            with otherwise():
                signal("late", str)
        with otherwise():
            call("other", order=order)
        ask("always")

    large = Compare(">", TOTAL, Literal(10))
    noted = Compare("==", FieldOf(Param("order"), "note"), Literal("x"))
    expected = {
        "charge": (large,),
        "take": (large,),
        "sleep": (large, noted),
        "late": (large, Not(noted)),
        "other": (Not(large),),
        "ask": (),
    }
    assert expected == {n.name: n.conditions for n in branching.definition.graph.nodes}
    assert branching.definition.graph.each("take").body.nodes[0].conditions == ()


def test_two_conditions_in_one_with_conjoin_and_one_twice_counts_once() -> None:
    @flow
    def branching(order: Order) -> None:
        with when(order.total > 10), when(order.total > 20):
            charge(order)
        with when(order.total > 10), when(order.total > 10):
            ask("a")

    ten, twenty = (Compare(">", TOTAL, Literal(number)) for number in (10, 20))
    assert node(branching, "charge").conditions == (ten, twenty)
    assert node(branching, "ask").conditions == (ten,)


def test_a_condition_may_be_the_result_of_a_step() -> None:
    @flow
    def branching(order: Order) -> None:
        with when(take(order)):
            charge(order)

    assert node(branching, "charge").conditions == (Output("take"),)
    assert branching.definition.graph.dependencies("charge") == ("take",)


def test_choose_records_both_branches_and_merges_them() -> None:
    @flow
    def choosing(order: Order) -> int | str:
        return choose(order.total > 10, lambda: charge(order), lambda: ask("why"))

    large = Compare(">", TOTAL, Literal(10))
    assert node(choosing, "charge").conditions == (large,)
    assert node(choosing, "ask").conditions == (Not(large),)
    assert node(choosing, "choose") == MergeNode("choose", ("charge", "ask"), cancel=False)
    assert choosing.definition.graph.result == Output("choose")


def test_the_first_of_some_steps_and_the_first_few_are_merges() -> None:
    @flow
    def racing(order: Order) -> Any:
        one, two, three = charge(order), ask("a"), take(order)
        first_of([one, two, three], others="leave")
        first_n(2, [one, two, three])
        return first_of(one, two)

    inputs = ("charge", "ask", "take")
    assert node(racing, "first_of") == MergeNode("first_of", inputs, cancel=False)
    assert node(racing, "first_n") == MergeNode("first_n", inputs, wanted=2, single=False)
    assert node(racing, "first_of_2") == MergeNode("first_of_2", ("charge", "ask"))


def test_a_signal_is_a_node_of_its_event_and_its_annotation_is_kept_by_path() -> None:
    @flow
    def asking(order: Order) -> None:
        signal("manager-ok", Approval, within="36h", default=None, after=charge(order))
        signal("manager-ok", str)

    @flow
    def asking_all(orders: list[Order]) -> None:
        each(orders, asking)

    waits = SignalNode(
        "manager_ok", "manager-ok", within="1d12h", default=Literal(None), after=("charge",)
    )
    assert node(asking, "manager_ok") == waits
    assert node(asking, "manager_ok_2") == SignalNode("manager_ok_2", "manager-ok")
    assert asking.signals == {"manager_ok": Approval, "manager_ok_2": str}
    assert asking_all.signals == {"asking/manager_ok": Approval, "asking/manager_ok_2": str}


def test_a_sleep_is_a_duration_or_a_moment() -> None:
    @flow
    def sleeping(order: Order, moment: datetime) -> None:
        ask.options(after=sleep("90s"))("a")
        sleep(until=moment, after=charge(order))
        sleep(until=datetime(2026, 1, 1, tzinfo=UTC))

    assert node(sleeping, "sleep") == SleepNode("sleep", lasts="1m30s")
    assert node(sleeping, "ask").after == ("sleep",)
    assert node(sleeping, "sleep_2") == SleepNode(
        "sleep_2", until=Param("moment"), after=("charge",)
    )
    assert isinstance(node(sleeping, "sleep_3").until, Literal)


def test_a_handler_is_a_step_that_takes_the_failure_of_another() -> None:
    @flow
    def handling(order: Order) -> int:
        first = charge.options(on_error=sorry)(order)
        charge.options(on_error=sorry_later.options(queue="slow"))(order)
        charge.options(on_error=sorry.options(name="excuse"))(order)
        return take(first)  # type: ignore[no-any-return]

    arguments = (("error", Failure("charge")),)
    handler = StepNode("charge_on_error", f"{ME}:sorry", arguments, handles="charge")
    assert node(handling, "charge_on_error") == handler
    assert node(handling, "charge_2_on_error").function == f"{ME}:sorry_later"
    assert node(handling, "excuse").handles == "charge_3"
    assert handling.definition.graph.handler("charge") == "charge_on_error"
    assert handling.definition.options["charge_2_on_error"].queue == "slow"
    assert handling.functions.keys() >= {f"{ME}:sorry", f"{ME}:sorry_later"}


def test_a_handler_in_a_block_has_no_condition_of_its_own() -> None:
    @flow
    def handling(order: Order) -> None:
        with when(order.total > 1):
            charge.options(on_error=sorry)(order)

    assert len(node(handling, "charge").conditions) == 1
    assert node(handling, "charge_on_error").conditions == ()


def test_the_handler_of_a_step_in_an_each_stands_in_its_body() -> None:
    @flow
    def handling(orders: list[Order]) -> list[int]:
        return each(orders, charge.options(on_error=sorry))

    body = handling.definition.graph.each("charge").body
    assert [n.name for n in body.nodes] == ["charge", "charge_on_error"]
    assert body.handler("charge") == "charge_on_error"
    assert body.result == Output("charge")
    assert "charge/charge_on_error" in handling.definition.options


@pytest.mark.parametrize(("accept", "share"), [("all", 1.0), ("any", 0.0), (0.9, 0.9), (1, 1.0)])
def test_an_each_accepts_a_share_of_items(accept: Any, share: float) -> None:
    @flow
    def tolerant(orders: list[Order]) -> list[int | None]:
        return each(orders, charge.options(accept=accept))

    @flow
    def tolerant_flow(orders: list[Order]) -> list[int | None]:
        return each(orders, child.options(accept=accept))

    assert tolerant.definition.graph.each("charge").accept == share
    assert tolerant_flow.definition.graph.each("child").accept == share


def test_a_flow_called_in_a_flow_is_a_child_execution() -> None:
    @flow
    def parent(order: Order) -> int:
        one = child(order)
        child.options(name="second", after=one, on_error=sorry)(order, fast=True)
        return one

    assert node(parent, "child") == CallNode("child", "child", (("order", Param("order")),))
    second = node(parent, "second")
    assert dict(second.arguments)["fast"] == Literal(value=True)
    assert second.after == ("child",)
    assert node(parent, "second_on_error").handles == "second"
    assert [called.body for called in parent.calls.values()] == [child.body]
    assert parent.calls["child"].name == "child"
    assert f"{ME}:charge" not in parent.functions


def test_the_calls_of_a_flow_in_an_each_are_calls_of_the_flow_around_it() -> None:
    @flow
    def parent(order: Order) -> int:
        return child(order)

    @flow
    def grandparent(orders: list[Order]) -> list[int]:
        return each(orders, parent)

    assert grandparent.calls.keys() == {"child"}


def test_a_flow_calls_itself_by_name() -> None:
    @flow
    def countdown(number: int) -> None:
        with when(number > 0):
            call.options(after=ask("next"))("countdown", number=take(number))

    expected = CallNode(
        "countdown",
        "countdown",
        (("number", Output("take")),),
        after=("ask",),
        conditions=(Compare(">", Param("number"), Literal(0)),),
    )
    assert node(countdown, "countdown") == expected


def test_build_puts_dataclasses_models_and_typed_dicts_together() -> None:
    @flow
    def building(order: Order) -> None:
        take(build(Parcel, order, paid=charge(order)))
        take(build(Approval, ok=True, approved_by=order.note))
        take(build(Point, 1, y=order.total))
        take(build(Label, colour=order.note))
        take([build(Point, x=1, y=2)])

    parcel = (("order", Param("order")), ("paid", Output("charge")))
    assert argument(building, "take") == Build(f"{ME}:Parcel", parcel)
    note = FieldOf(Param("order"), "note")
    approval = (("ok", Literal(value=True)), ("by", note))
    assert argument(building, "take_2") == Build(f"{ME}:Approval", approval)
    assert argument(building, "take_3") == Build(f"{ME}:Point", (("x", Literal(1)), ("y", TOTAL)))
    assert argument(building, "take_4") == DictOf((("colour", note),))
    one, two = Literal(1), Literal(2)
    assert argument(building, "take_5") == ListOf((Build(f"{ME}:Point", (("x", one), ("y", two))),))


def test_fields_of_what_was_built_can_be_read() -> None:
    @flow
    def building(order: Order) -> None:
        take(build(Point, 1, y=order.total).y)

    built = Build(f"{ME}:Point", (("x", Literal(1)), ("y", TOTAL)))
    assert argument(building, "take") == FieldOf(built, "y")


def test_nodes_of_all_kinds_are_what_they_are_named() -> None:
    kinds = {StepNode, EachNode, MergeNode, SignalNode, SleepNode, CallNode}

    @flow
    def everything(order: Order) -> None:
        first_of(charge(order), child(order))
        each(order.points, take)
        signal("x")
        sleep("1s")

    assert {type(n) for n in everything.definition.graph.nodes} == kinds
