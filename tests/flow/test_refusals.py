"""What may not stand in a flow, and what the refusal says."""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import each, flow, step
from orchestrator.flow.retry import Retry


@step
def load(path: str, depth: int = 3) -> list[str]:
    return [path] * depth


@step
def tick() -> None: ...


@flow
def child(path: str) -> list[str]:
    return load(path)


@dataclass
class Box:
    content: Any


counter = itertools.count()
stolen: list[Any] = []


def refusal(body: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(DefinitionError) as refused:
        flow(**options)(body)
    return str(refused.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: load(), "step 'load': missing a required argument: 'path'"),
        (lambda x: load(x, 1, 2), "step 'load': too many positional arguments"),
        (lambda x: load(x, dept=1), "unexpected keyword argument 'dept', did you mean 'depth'?"),
        (lambda x: load(x, path=x), "step 'load': multiple values for argument 'path'"),
        (lambda x: load(x, after=x), "unexpected keyword argument 'after'"),
        (lambda x: each(x, load, 1, 2), "each 'load': too many positional arguments"),
        (lambda x: each(x, load, path=1), "each 'load': multiple values for argument 'path'"),
        (lambda x: each(x, child, pth=1), "each 'child': got an unexpected keyword argument 'pth'"),
        (
            lambda x: each(x, tick),
            "'tick' stands in an each, but has no parameter to take the item",
        ),
        (lambda x: each(x, len), "takes a step or a flow, not a builtin_function_or_method"),
        (lambda _: each("abc", load), "the items of each 'load' are a str, not a list"),
        (lambda x: each({"a": x}, load), "the items of each 'load' are a dict, not a list"),
        (lambda _: each(range(3), load), "is a range, which JSON cannot hold"),
        (lambda x: child(pth=x), "flow 'child': got an unexpected keyword argument 'pth'"),
        (lambda x: load(Box(x)), "argument 'path'"),
        (lambda _: load(object()), "pass it in the input, or make it in the step"),
        (lambda _: load(load), "argument 'path'"),
        (lambda x: load({1: x}), "the key 1 beside a promise is not text"),
        (lambda x: load.options(after=x)(path=x), "the parameter 'x' is there from the start"),
        (lambda x: load.options(after="tick")(path=x), "after= takes what a step returned"),
        (lambda x: load.options(after=[tick(), 3])(path=x), "after= takes what a step returned"),
        (lambda x: load.options(name="1st")(path=x), "choose one with .options(name=...)"),
        (lambda x: load.options(name="a" * 64)(path=x), "has 64 characters, at most 63"),
        (lambda x: load.options(timeout="5x")(path=x), "'5x' is not a duration"),
        (lambda x: load.options(timeout=0)(path=x), "an attempt needs time"),
        (lambda x: load.options(window=0)(path=x), "window=0"),
        (lambda x: load.options(retry=3)(path=x), "retry=3: write a Retry(...)"),
        (lambda x: load.options(queue="")(path=x), "queue='': write the name of a queue"),
        (lambda _: object(), "the result of flow"),
        (lambda x: [x, {"a": object()}], "the result of flow"),
        (lambda _: set(range(2)), "there is no step"),
    ],
)
def test_a_wrong_call_is_refused_at_its_line(call: Callable[[Any], Any], message: str) -> None:
    def body(x: Any) -> Any:
        return call(x)

    refused = refusal(body)

    assert message in refused
    assert __file__ in refused


def test_a_name_given_twice_is_refused_with_the_place_of_the_first() -> None:
    def body() -> None:
        tick.options(name="once")()
        tick.options(name="once")()

    refused = refusal(body)

    assert "the name 'once' was given at" in refused
    assert refused.count(__file__) == 2


def test_a_given_name_that_a_numbered_step_has_already_is_refused() -> None:
    def body() -> None:
        tick()
        load.options(name="tick")("a")

    assert "the name 'tick' was given at" in refusal(body)


def test_a_numbered_name_that_becomes_too_long_is_refused() -> None:
    @step(name="a" * 62)
    def long() -> None: ...

    def body() -> None:
        long()
        long()

    assert "has 64 characters, at most 63" in refusal(body)


def test_a_structure_that_contains_itself_is_refused() -> None:
    def body(x: Any) -> None:
        endless: list[Any] = [x]
        endless.append(endless)
        load(endless)  # type: ignore[arg-type]

    assert "or contains itself" in refusal(body)


def test_a_promise_of_another_flow_is_refused() -> None:
    @flow
    def thief(x: Any) -> None:
        stolen[:] = [load(x)]

    def body(x: Any) -> None:
        load(stolen[0])

    refused = refusal(body, name="buyer")

    assert "the result of step 'load' of flow 'thief' is used in another recording" in refused
    assert "of flow 'buyer'" in refused


def test_a_promise_outside_of_any_flow_is_refused() -> None:
    @flow
    def thief(x: Any) -> None:
        stolen[:] = [load(x)]

    with pytest.raises(DefinitionError, match="was given a promise outside of a flow body"):
        load(stolen[0])


@pytest.mark.parametrize(
    ("body", "difference"),
    [
        (lambda: load(str(next(counter))), "step 'load' .*: the argument 'path' was .* first and"),
        (lambda: load.options(queue=f"q{next(counter)}")("a"), "step 'load' .* options were not"),
        (lambda: [tick() for _ in range(next(counter) % 2 + 1)], "step 'tick_2' .* only once"),
        (lambda: load("a") if next(counter) % 2 else tick(), r"step '\w+' \(.*recorded first"),
        (lambda: [tick(), next(counter)], "the value it returned"),
        (lambda: each([next(counter)], load), "step 'load' .*: the argument 'items'"),
        (lambda: [tick(), load.options(after=stolen_or(tick))("a")], "step 'load' .*: after was"),
    ],
)
def test_a_flow_that_records_differently_each_time_is_refused_by_the_step_that_differs(
    body: Callable[[], Any], difference: str
) -> None:
    def unsteady() -> Any:
        return body()

    refused = refusal(unsteady)

    assert "flow 'unsteady' is not the same each time it is recorded" in refused
    assert "Clocks, random numbers and new ids belong in steps or in the input" in refused
    with pytest.raises(AssertionError, match=difference):
        raise AssertionError(refused)


def stolen_or(other: Callable[[], Any]) -> Any:
    """One more node to wait for, in every second recording."""
    first, second = other(), other()
    return [first] if next(counter) % 2 else [first, second]


def test_true_and_one_are_not_the_same_literal() -> None:
    def unsteady() -> None:
        load("a", True if next(counter) % 2 else 1)

    assert "the argument 'depth'" in refusal(unsteady)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


def positional(a: int, /) -> None: ...
def many(*args: int) -> None: ...
def named(**kwargs: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (generator(), "a function written with def, not the generator 'generator'"),
        (lambda: None, "a lambda has no name"),
        (functools.partial(load.body, "a"), "not a partial"),
        (Box, "not the class 'Box'"),
        (len, "not a builtin_function_or_method"),
        (Box(1).__init__, "not a method"),
        (load, "not a Step"),
        (child, "not a Flow"),
        (positional, "'a' cannot be given by name: remove the '/'"),
        (many, "'*args: int' takes any number of arguments"),
        (named, "'**kwargs: int' takes any number of arguments"),
    ],
)
def test_what_cannot_be_a_step_or_a_flow_is_refused(function: Any, message: str) -> None:
    for decorate, role in ((step, "step"), (flow, "flow")):
        with pytest.raises(DefinitionError) as refused:
            decorate(function)

        assert message in str(refused.value)
        assert role in str(refused.value)


def test_a_coroutine_cannot_be_a_flow() -> None:
    async def body() -> None: ...

    assert "write it with plain def, without 'yield'" in refusal(body)


def test_the_version_of_a_flow_is_text_and_its_name_an_identifier() -> None:
    def body() -> None:
        tick()

    assert "version=3 is not text" in refusal(body, version=3)
    assert "version='' is not text" in refusal(body, version="")
    assert "the name 'my flow' may hold only letters" in refusal(body, name="my flow")


def test_the_deadline_of_a_flow_is_a_duration_that_has_an_end() -> None:
    def body() -> None:
        tick()

    assert "test_refusals.py" in refusal(body, deadline="soon")
    assert "deadline: 'soon' is not a duration" in refusal(body, deadline="soon")
    assert "deadline='0s': an execution needs time" in refusal(body, deadline=0)
    assert "at most 36500d" in refusal(body, deadline="99999d")


def test_a_default_that_cannot_be_stored_is_refused() -> None:
    def body(x: Any = tick) -> None:
        tick()

    assert "the default of 'x'" in refusal(body)


def test_two_functions_under_one_key_are_refused() -> None:
    def make(number: int) -> Any:
        @step
        def made() -> int:
            return number

        return made

    one, two = make(1), make(2)

    def body() -> None:
        one()
        two()

    assert "uses two functions under the key" in refusal(body)


def test_a_flow_is_started_and_not_called_and_each_stands_in_a_flow_only() -> None:
    with pytest.raises(DefinitionError, match=r"start it with Orchestrator.start\(child"):
        child("a")
    with pytest.raises(DefinitionError, match="stands in a flow body only"):
        each(["a"], load)


def test_an_unknown_option_of_a_step_is_refused() -> None:
    with pytest.raises(DefinitionError, match="no option 'widow', did you mean 'window'"):
        step(widow=3)(tick.body)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="priority=9: write 'high' or 'normal'"):
        step(priority=9)(tick.body)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="max_deaths=0"):
        step(max_deaths=0, retry=Retry())(tick.body)
    with pytest.raises(DefinitionError, match=r"test_refusals.py.*deadline='99999d'.*36500d"):
        step(deadline="99999d")(tick.body)
    with pytest.raises(DefinitionError, match="'soon' is not a duration"):
        tick.options(deadline="soon")


def test_an_error_of_the_users_own_comes_out_of_the_recording_as_it_is() -> None:
    def body() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        flow(body)
    assert tick() is None  # type: ignore[func-returns-value]


def test_a_method_is_refused_where_it_is_decorated() -> None:
    with pytest.raises(DefinitionError, match=r"is a method of class Till: move it out of the"):

        class Till:
            @step
            def charge(self, order: str) -> str:
                return order

    with pytest.raises(DefinitionError, match=r"a flow is a function, and 'buy' is a method"):

        class Counter:
            @flow
            def buy(self, order: str) -> str:
                return order


def test_a_static_method_and_a_local_function_may_be_steps() -> None:
    class Till:
        @staticmethod
        @step
        def charge(order: str) -> str:
            return order

    @step
    def book(self: str) -> str:
        return self

    assert (Till.charge("o"), book("o")) == ("o", "o")
