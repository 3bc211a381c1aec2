"""Mistakes with conditions, blocks and the syntax of a flow body: refused at their line."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import (
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
    when,
)
from tests.flow.mistaken import (
    Approval,
    Line,
    Mistakes,
    Order,
    Status,
    charge,
    check,
    join,
    listed,
    tell,
)

mistake = Mistakes()


# What stands in a condition


@mistake("has no field 'totl': it is a Order", "did you mean 'total'?")
def a_misspelt_field(order: Order) -> None:
    charge(order.totl)  # <-


@mistake("has no field 'price'", "it has total, status, lines, labels, note")
def an_unknown_field(order: Order) -> None:
    charge(order.price)  # <-


@mistake("has 'is_large' only as a property, not as a field", "read it in a step")
def a_property(order: Order) -> None:
    with when(order.is_large):  # <-
        charge(order)


@mistake("has 'pay' only as a method, not as a field", "read it in a step")
def a_method(order: Order) -> None:
    order.pay()  # <-
    charge(order)


@mistake("has 'upper' only as a method", "read it in a step")
def a_method_of_text(text: str) -> None:
    tell(text.upper())  # <-


@mistake("has no attribute 'colour', it is a dict", 'write ["colour"]')
def an_attribute_of_a_dict(order: Order) -> None:
    charge(order.labels.colour)  # <-


@mistake("has no field 'name', it is a member of Status", "as in == Status.OPEN")
def a_field_of_an_enum(order: Order) -> None:
    charge(order.status.name)  # <-


@mistake("is stored as a member of Status, which never equals 'PAID'", "as in == Status.OPEN")
def an_enum_compared_with_text(order: Order) -> None:
    with when(order.status == "PAID"):  # <-
        charge(order)


@mistake("has no order as a Status", "compare a field of it")
def an_enum_put_in_order(order: Order) -> None:
    with when(order.status > Status.OPEN):  # <-
        charge(order)


@mistake("the field 'order.lines[0]' is a promise and has no item 2: it is a Line", "count from 0")
def an_item_that_is_not_there(order: Order) -> None:
    charge(order.lines[0][2])  # <-


@mistake("cannot be sliced yet", "slice it in a step")
def a_slice(order: Order) -> None:
    charge(order.lines[1:])  # <-


@mistake("no item 'total': it is a Order", "read a field: .name")
def an_item_of_a_dataclass(order: Order) -> None:
    charge(order["total"])  # <-


@mistake("is neither true nor false yet", "write 'with when(...):' for 'if'")
def an_if(order: Order) -> None:
    if order.total > 1000:  # <-
        charge(order)


@mistake("is neither true nor false yet", "not_() for 'and', 'or' and 'not'")
def an_and(order: Order) -> None:
    with when(order.total > 1 and order.note == "x"):  # <-
        charge(order)


@mistake("is neither true nor false yet", "(a < b) & (b < c) for a chain")
def a_chain(order: Order) -> None:
    with when(1 < order.total < 10):  # <-
        charge(order)


@mistake("cannot be searched with 'in' yet", "(x == a) | (x == b)")
def a_search(order: Order) -> None:
    with when("x" in order.labels):  # <-
        charge(order)


@mistake("is neither true nor false yet", "(x == a) | (x == b) for 'in'")
def a_search_in_a_list(order: Order) -> None:
    with when(order.total in (1, 2)):  # <-
        charge(order)


@mistake("the field 'order.lines' is a promise and has no length yet", "compute it in a step")
def a_length(order: Order) -> None:
    with when(len(order.lines) > 3):  # <-
        charge(order)


@mistake("stands beside 10 at '&'", "comparisons in parentheses: (a > 1) & (b == 2)")
def a_comparison_without_parentheses(order: Order) -> None:
    with when(order.total > 10 & order.total):  # <-
        charge(order)


@mistake("cannot be inverted with '~'", "write not_(...)")
def a_tilde(order: Order) -> None:
    with when(~(order.total > 1)):  # <-
        charge(order)


@mistake("cannot be computed with yet", "compute it in a step")
def arithmetic(order: Order) -> None:
    with when(order.total * 2 > 10):  # <-
        charge(order)


@mistake("when(True) does not depend on any value of the flow", "decide with a plain 'if'")
def a_condition_that_is_known(order: Order) -> None:
    with when(True):  # <-
        charge(order)


@mistake("not_() takes a condition or value of a flow body, not False", "plain Python")
def the_opposite_of_what_is_known(order: Order) -> None:
    with when(not_(False)):  # <-
        charge(order)


@mistake("missing() takes a condition or value of a flow body, not 3")
def what_is_not_missing(order: Order) -> None:
    with when(missing(3)):  # <-
        charge(order)


# Blocks


@mistake("when(...) opens no block", "write 'with when(...):'")
def a_when_without_with(order: Order) -> None:
    when(order.total > 1)  # <-
    charge(order)


@mistake("otherwise() stands right after the block of a 'with when(...):'")
def an_otherwise_without_when(order: Order) -> None:
    with otherwise():  # <-
        charge(order)


@mistake("with no step between", "'with when(not_(...)):'")
def an_otherwise_after_a_step(order: Order) -> None:
    with when(order.total > 1):
        charge(order)
    charge(order)
    with otherwise():  # <-
        charge(order)


@mistake("at the same depth")
def an_otherwise_at_another_depth(order: Order) -> None:
    with when(order.total > 1), when(order.total > 2):
        charge(order)
    with when(order.total > 4), otherwise():  # <-
        charge(order)


@mistake("otherwise() stands right after the block")
def a_second_otherwise(order: Order) -> None:
    with when(order.total > 1):
        charge(order)
    with otherwise():
        charge(order)
    with otherwise():  # <-
        charge(order)


@mistake("'otherwise()' after two conditions in one 'with'", "write with when((a) & (b))")
def an_otherwise_after_two_conditions(order: Order) -> None:
    with when(order.total > 1), when(order.note == "x"):
        charge(order)
    with otherwise():  # <-
        charge(order)


@mistake("the result of step 'charge' does not", "outside of the block and use its value inside")
def a_merge_in_a_block_of_what_stands_outside(order: Order) -> None:
    paid = charge(order)
    with when(order.total > 1):
        told = tell("a")
        first_of(paid, told)  # <-


@mistake("'return' inside a 'with when(...):' leaves the block", "first_of(a, b), or use choose")
def a_return_inside_of_a_block(order: Order) -> int | None:
    with when(order.total > 1):
        return charge(order)  # <-
    return None


@mistake("'continue' inside a 'with when(...):'", "a block of its own")
def a_continue_inside_of_a_block(order: Order) -> None:
    for number in (1, 2):
        with when(order.total > number):
            charge(order)
            continue  # <-
        tell("a")


@mistake("'break' inside a 'with when(...):'", "known when the flow is recorded")
def a_break_inside_of_a_block(order: Order) -> None:
    for number in (1, 2):
        with when(order.total > number):
            charge(order)
            break  # <-


@mistake("'raise' inside a 'with when(...):'", "let a step fail")
def a_raise_inside_of_a_block(order: Order) -> None:
    with when(order.total > 1):
        charge(order)
        raise ValueError("too much")  # <-


@mistake(
    "step 'tell', argument 'text': the result of step 'charge' may be missing here",
    "merge it with first_of(...), or let it be None: text: str | None",
)
def a_value_used_outside_of_its_block(order: Order) -> None:
    with when(order.total > 1):
        paid = charge(order)
    tell(paid)  # <-


@mistake("the result of step 'charge' may be missing here")
def a_value_used_in_the_other_block(order: Order) -> None:
    with when(order.total > 1):
        paid = charge(order)
    with otherwise():
        tell(paid)  # <-


@mistake("the result of step 'signal_x' may be missing here")
def a_field_used_outside_of_its_block(order: Order) -> None:
    with when(order.total > 1):
        approval = signal("signal_x", Approval)
    sleep(until=approval.when)  # <-


@mistake("argument 'texts': the result of step 'tell' may be missing here")
def a_value_in_a_list_used_outside_of_its_block(order: Order) -> None:
    with when(order.total > 1):
        told = tell("x")
    join([told, "y"])  # <-


@mistake("the items of each 'charge': the result of step 'listed' may be missing here")
def items_used_outside_of_their_block(order: Order) -> None:
    with when(order.total > 1):
        items = listed()
    each(items, charge)  # <-


@mistake("the result of flow 'a_result_from_a_block': the result of step 'tell' may be missing")
def a_result_from_a_block(order: Order) -> str:
    with when(order.total > 1):
        told = tell("x")
    charge(told)
    return told  # <-


# Syntax


@mistake("'is' compares the promise, not its value", "write missing(x), == None")
def an_is(order: Order) -> None:
    if order.note is None:  # <-
        charge(order)
    charge(order)


@mistake("'isinstance' asks the promise, not its value", "compare a field, or ask in a step")
def an_isinstance(order: Order) -> None:
    if isinstance(order, Order):  # <-
        charge(order)
    charge(order)


@mistake("'try' catches nothing of a step, which runs later", ".options(on_error=handler)")
def a_try(order: Order) -> None:
    try:  # <-
        charge(order)
    except ValueError:
        charge(order)


@mistake("'match' needs the value", "'with when(...):' and 'with otherwise():'")
def a_match(order: Order) -> None:
    charge(order)
    match order:  # <-
        case Order():
            charge(order)


@mistake("'assert' needs the value", "check it in a step")
def an_assert(order: Order) -> None:
    charge(order)
    assert 1 + 1 == 2  # <-


@mistake("'yield' has nobody to yield to", "return the values as a list")
def a_yield(order: Order) -> Any:
    yield charge(order)  # <-


@mistake("a flow is recorded, not awaited", "its steps may be coroutines")
async def an_await(order: Order) -> None:
    await charge(order)  # <-


@pytest.mark.req("E6")
@pytest.mark.parametrize(("body", "told"), mistake.kept)
def test_every_mistake_is_refused_at_its_line_with_the_cure(
    body: Callable[..., Any], told: tuple[str, ...]
) -> None:
    check(body, told)


def test_a_coroutine_without_await_is_refused_where_it_is_defined() -> None:
    async def body(order: Order) -> int:
        return charge(order)

    with pytest.raises(DefinitionError, match=r"\.py:\d+: a flow's function runs when"):
        flow(body)


def test_all_mistakes_of_a_flow_come_in_one_error_in_the_order_of_lines() -> None:
    def body(order: Order) -> str:
        charge(order.totl)
        try:
            charge()
            charge(order.is_large)
        except ValueError:
            charge(order)
        for line in order.lines:
            charge(line)
        return tell(order.total + 1)

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    first, *problems = str(refused.value).splitlines()
    start = body.__code__.co_firstlineno
    assert first == "flow 'body' has 6 problems:"
    lines = [int(problem.split(f"{__file__}:")[1].split(":")[0]) - start for problem in problems]
    assert lines == [1, 2, 3, 4, 7, 9]
    told = ["'totl'", "'try'", "missing a required", "'is_large'", "looped over", "computed with"]
    assert [part in problem for part, problem in zip(told, problems, strict=True)] == [True] * 6


def test_the_source_of_a_flow_inside_of_a_function_is_checked_whatever_its_texts_look_like() -> (
    None
):
    def body(order: Order) -> None:
        text = """
this line is not indented
"""
        if order.note is None:
            tell(text)
        charge(order)

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    line = body.__code__.co_firstlineno + 4
    assert f"{__file__}:{line}: 'is' compares the promise" in str(refused.value)


def test_what_follows_from_a_mistake_is_no_mistake_of_its_own() -> None:
    def body(order: Order) -> str:
        strange = order.totl.of.something[3] + 1
        first, second = strange
        return tell(f"{first} {second}", note=strange)

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    assert str(refused.value).count("test_mistakes_in_conditions.py") == 1


def test_a_mistake_in_a_helper_is_told_at_its_line_in_the_helper() -> None:
    def helper(order: Any) -> None:
        if order:
            charge(order)

    def body(order: Order) -> None:
        helper(order)

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    assert f"{__file__}:{helper.__code__.co_firstlineno + 1}: " in str(refused.value)


@pytest.mark.parametrize(
    ("construct", "name"),
    [
        (lambda: when(True), "when"),
        (otherwise, "otherwise"),
        (lambda: choose(True, list, list), "choose"),
        (lambda: first_of(1, 2), "first_of"),
        (lambda: first_n(1, [1]), "first_n"),
        (lambda: signal("x"), "signal"),
        (lambda: sleep("1s"), "sleep"),
        (lambda: call("child"), "call"),
        (lambda: build(Line, "a", 1), "build"),
        (lambda: each([], charge), "each"),
    ],
)
def test_a_construct_outside_of_a_flow_body_is_refused(
    construct: Callable[[], Any], name: str
) -> None:
    with pytest.raises(DefinitionError, match=rf"\.py:\d+: {name}\(.*in a flow body"):
        construct()
