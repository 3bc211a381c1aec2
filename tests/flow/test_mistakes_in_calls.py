"""Mistakes with calls, joins, waits and values in a flow body: refused at their line."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from orchestrator.flow.authoring import (
    build,
    call,
    choose,
    each,
    first_n,
    first_of,
    signal,
    sleep,
)
from tests.flow.mistaken import (
    Approval,
    Line,
    Mistakes,
    Order,
    Parcel,
    charge,
    check,
    child,
    print_it,
    rich,
    sorry,
    tell,
)

mistake = Mistakes()


# Choosing and joining


@mistake("a branch of choose() is a function that records the branch", "write it as a lambda")
def a_choice_of_results(order: Order) -> None:
    choose(order.total > 1, charge(order), lambda: tell("x"))  # <-


@mistake("a branch of choose() is the result of a step that is called in it")
def a_choice_of_what_is_there_already(order: Order) -> None:
    paid = charge(order)
    choose(order.total > 1, lambda: paid, lambda: tell("x"))  # <-


@mistake("a branch of choose() is the result of a step that is called in it")
def a_choice_of_a_literal(order: Order) -> None:
    choose(order.total > 1, lambda: charge(order), lambda: 3)  # <-


@mistake("first_of() takes results of steps, not <promise of the parameter 'order'>")
def the_first_of_a_parameter(order: Order) -> None:
    first_of(order, charge(order))  # <-


@mistake("first_of() takes results of steps, not 3", "give what the call of a step returned")
def the_first_of_a_literal(order: Order) -> None:
    first_of(charge(order), 3)  # <-


@mistake("first_of() takes the results of two steps or more")
def the_first_of_one(order: Order) -> None:
    first_of([charge(order)])  # <-


@mistake("first_of() was given the result of step 'charge' twice")
def the_first_of_one_twice(order: Order) -> None:
    paid = charge(order)
    first_of(paid, paid)  # <-


@mistake("others='stop': write 'cancel' or 'leave'")
def the_first_of_two_with_strange_others(order: Order) -> None:
    first_of(charge(order), tell("x"), others="stop")  # <-


@mistake("first_n(3, ...) of 2 steps", "from 1 to the length")
def more_than_there_are(order: Order) -> None:
    first_n(3, [charge(order), tell("x")])  # <-


# Waiting


@mistake("has a default that never comes", "give the time to wait with within=")
def a_default_without_a_time(order: Order) -> None:
    tell(signal("ok", str, default="no"))  # <-


@mistake("the default of signal('ok') is a promise", "or use first_of(...)")
def a_default_that_is_a_promise(order: Order) -> None:
    tell(signal("ok", str, within="1h", default=order.note))  # <-


@mistake("signal('ok'), within: '3x' is not a duration", "write a number and a unit")
def a_time_that_is_none(order: Order) -> None:
    tell(signal("ok", str, within="3x"))  # <-


@mistake("the name of an event is text, as in 'manager_ok'")
def a_signal_without_a_name(order: Order) -> None:
    tell(signal(order.note, str))  # <-


@mistake("sleep() takes a duration or until=, one of them")
def a_sleep_without_a_time(order: Order) -> None:
    sleep()  # <-
    charge(order)


@mistake("sleep() was given a promise", "write sleep(until=...)")
def a_sleep_for_a_promise(order: Order) -> None:
    sleep(order.note)  # <-


@mistake("names no time zone", "give it a tzinfo")
def a_sleep_until_a_naive_moment(order: Order) -> None:
    sleep(until=datetime(2026, 1, 1))  # <-  # noqa: DTZ001


@mistake("sleep(): 'soon' is not a duration")
def a_sleep_for_soon(order: Order) -> None:
    sleep("soon")  # <-


# Calls, options, handlers


@mistake("flow 'child': got an unexpected keyword argument 'fats', did you mean 'fast'?")
def a_call_of_a_flow_with_a_wrong_argument(order: Order) -> None:
    child(order, fats=True)  # <-


@mistake("call('no flow', ...)", "may hold only letters", "write the name of a flow")
def a_call_by_no_name(order: Order) -> None:
    call("no flow", order=order)  # <-


@mistake("call(", "it is no text")
def a_call_by_a_promise(order: Order) -> None:
    call(order.note)  # <-


@mistake("Step.options() got an unexpected keyword argument 'qeue', did you mean 'queue'?")
def a_misspelt_option(order: Order) -> None:
    charge.options(qeue="slow")(order)  # <-


@mistake(
    "signal() got an unexpected keyword argument 'for_days': it takes name, annotation, within"
)
def an_unknown_argument_of_a_signal(order: Order) -> None:
    tell(signal("ok", str, for_days=3))  # <-


@mistake("each(items, ...) takes a step or a flow, not a Promise: the items come first")
def an_each_the_wrong_way_round(order: Order) -> None:
    each(charge, order.lines)  # <-


@mistake(
    "each(items, ...) takes a step or a flow, not a function: decorate the function with @step"
)
def an_each_over_a_function(order: Order) -> None:
    each(order.lines, print_it)  # <-


@mistake("the items of each 'charge' are a int, not a list: let a step list them")
def an_each_over_a_number(order: Order) -> None:
    each(order.total, charge)  # <-


@mistake("the items of each 'charge' are a dict[str, str], not a list")
def an_each_over_a_dict(order: Order) -> None:
    each(order.labels, charge)  # <-


@mistake("cannot be hashed: use the promise as a value, not as a key")
def a_promise_as_a_key(order: Order) -> None:
    tell({order.note: 1})  # <-


@mistake("accept counts in each(...) only")
def accept_without_an_each(order: Order) -> None:
    charge.options(accept="any")(order)  # <-


@mistake("accept=2: write 'all', 'any', or the share of items")
def a_share_above_all(order: Order) -> None:
    each(order.lines, charge.options(accept=2))  # <-


@mistake("on_error= takes a step, not a function", "decorate the function with @step")
def a_handler_that_is_no_step(order: Order) -> None:
    charge.options(on_error=print_it)(order)  # <-


@mistake("the handler 'rich' takes 2 arguments", "def rich(error: StepError)")
def a_handler_that_wants_more(order: Order) -> None:
    charge.options(on_error=rich)(order)  # <-


@mistake("the handler 'sorry' has on_error, after or accept of its own")
def a_handler_with_a_handler(order: Order) -> None:
    charge.options(on_error=sorry.options(on_error=sorry))(order)  # <-


@mistake("a flow in an each takes no on_error", "accept failed items with .options(accept=...)")
def a_handler_for_a_flow_in_an_each(order: Order) -> None:
    each(order.lines, child.options(on_error=sorry))  # <-


@mistake("after= takes results of steps, not the field 'order.note'")
def after_a_field(order: Order) -> None:
    charge.options(after=order.note)(order)  # <-


# Values put together


@mistake("build(Parcel): got an unexpected keyword argument 'wieght', did you mean 'weight'?")
def a_misspelt_field_of_a_build(order: Order) -> None:
    charge(build(Parcel, order, wieght=1))  # <-


@mistake("build(Parcel): missing a required argument: 'order'")
def a_build_without_a_field(order: Order) -> None:
    charge(build(Parcel, weight=order.total))  # <-


@mistake("build(Approval): there is no field 'whne', did you mean 'when'?")
def a_misspelt_field_of_a_model(order: Order) -> None:
    charge(build(Approval, ok=order.total, whne=order.note))  # <-


@mistake("build(Approval): the field 'ok' is missing")
def a_model_without_a_field(order: Order) -> None:
    charge(build(Approval))  # <-


@mistake("build(Approval): 1 values without a name")
def a_model_without_names(order: Order) -> None:
    charge(build(Approval, order.total, ok=True))  # <-


@mistake("build(int, ...) makes dataclasses, pydantic models, named tuples and typed dicts")
def a_build_of_a_number(order: Order) -> None:
    charge(build(int, order.total))  # <-


@mistake("argument 'order' is a Parcel that holds a promise: write build(Parcel, ...) for it")
def a_dataclass_made_of_promises(order: Order) -> None:
    charge(Parcel(order))  # <-


@mistake("is a Line that holds a promise: write build(Line, ...)")
def a_named_tuple_made_of_promises(order: Order) -> None:
    charge([Line("a", order.total)])  # <-


@mistake("the model Approval", "write build(Approval, ...) for it")
def a_model_made_of_promises(order: Order) -> None:
    charge(Approval(ok=True, when=order.total))  # <-


@mistake("argument 'order' is a Approval that holds a promise: write build(Approval, ...) for it")
def a_model_that_holds_a_promise(order: Order) -> None:
    charge(Approval(ok=True, data=order.total))  # <-


@mistake("is a promise and the model Approval needs its value: write build(Approval, ...) for it")
def a_model_that_asks_a_promise(order: Order) -> None:
    charge(Approval(ok=order.total > 1))  # <-


@mistake("TypeError: Object of type Promise is not JSON serializable", "do it in a step")
def a_library_that_wants_the_value(order: Order) -> None:
    tell(json.dumps(order))  # <-


@pytest.mark.req("E6")
@pytest.mark.parametrize(("body", "told"), mistake.kept)
def test_every_mistake_is_refused_at_its_line_with_the_cure(
    body: Callable[..., Any], told: tuple[str, ...]
) -> None:
    check(body, told)
