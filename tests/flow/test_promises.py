"""A promise is refused wherever its value would be needed: at the user's line, with the cure."""

import copy
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.flow.authoring import flow, step


@step
def charge(amount: int) -> Any:
    return amount


def divmod_by_two(promise: Any) -> Any:
    return divmod(promise, 2)


def write(promise: Any) -> None:
    promise.total = 1


def write_item(promise: Any) -> None:
    promise["total"] = 1


def unpack(promise: Any) -> None:
    _first, _second = promise


def enter(promise: Any) -> None:
    with promise:
        pass


@pytest.mark.parametrize(
    ("use", "cure"),
    [
        (bool, "or decide in a step"),
        (lambda p: 1 if p else 2, "or decide in a step"),
        (lambda p: p and 1, "or decide in a step"),
        (operator.not_, "or decide in a step"),
        (iter, "use each(items, step)"),
        (list, "use each(items, step)"),
        (unpack, "use each(items, step)"),
        (lambda p: [x for x in p], "use each(items, step)"),  # noqa: C416
        (lambda p: print(*p), "use each(items, step)"),
        (next, "use each(items, step)"),
        (reversed, "compute it in a step"),
        (len, "compute it in a step"),
        (lambda p: 1 in p, "compare with each: (x == a) | (x == b)"),
        (lambda p: p in [1, 2], "or decide in a step"),
        (str, "build the text in a step"),
        (lambda p: f"{p}", "build the text in a step"),
        (lambda p: f"{p:>10}", "build the text in a step"),
        (lambda p: "%s" % p, "build the text in a step"),  # noqa: UP031
        (lambda p: "a" + p, "compute it in a step"),
        (int, "compute it in a step"),
        (float, "compute it in a step"),
        (complex, "compute it in a step"),
        (bytes, "compute it in a step"),
        (round, "compute it in a step"),
        (math.floor, "compute it in a step"),
        (range, "compute it in a step"),
        (hash, "use the promise as a value"),
        (lambda p: {p}, "use the promise as a value"),
        (lambda p: {p: 1}, "use the promise as a value"),
        (lambda p: p(), "call it in a step"),
        (lambda p: p.total(), "call it in a step"),
        (lambda p: p[1:2], "slice it in a step"),
        (lambda p: p[p], "read the field in the step that uses it"),
        (lambda p: p[1.5], "read an item by a name or a whole number"),
        (write, "let a step return a changed copy"),
        (write_item, "let a step return a changed copy"),
        (lambda p: delattr(p, "total"), "let a step return a changed copy"),
        (lambda p: operator.delitem(p, 0), "let a step return a changed copy"),
        (enter, "open it in the step that uses it"),
        *((lambda p, o=o: o(p, 2), "compute it in a step") for o in (operator.add, operator.mul)),
        *((lambda p, o=o: o(2, p), "compute it in a step") for o in (operator.sub, operator.mod)),
        *((lambda p, o=o: o(p, p), "compute it in a step") for o in (operator.xor, operator.pow)),
        *((o, "compute it in a step") for o in (operator.neg, abs, divmod_by_two)),
        *((lambda p, o=o: o(p, 2), "comparisons in parentheses") for o in (operator.and_,)),
        *((lambda p, o=o: o(True, p), "comparisons in parentheses") for o in (operator.or_,)),
        (operator.invert, "write not_(...)"),
        (lambda p: 1 < p < 3, "(a < b) & (b < c) for a chain"),
        (lambda p: not p == 1, "'&', '|' and not_() for 'and', 'or' and 'not'"),  # noqa: SIM201
        (lambda p: p == 1 or p == 2, "'&', '|' and not_() for 'and', 'or' and 'not'"),  # noqa: PLR1714
        (lambda p: sorted([p, p]), "or decide in a step"),
        (lambda p: max(1, p), "or decide in a step"),
        (lambda p: sum([p]), "compute it in a step"),
    ],
)
def test_a_use_that_needs_the_value_is_refused_with_the_cure_and_the_line(
    use: Callable[[Any], Any], cure: str
) -> None:
    def body(amount: int) -> None:
        use(charge(amount))

    with pytest.raises(DefinitionError) as refused:
        flow(body)

    message = str(refused.value)
    assert "the result of step 'charge'" in message or "'charge" in message
    assert "is a promise and " in message
    assert cure in message
    assert __file__ in message


def test_the_refusal_names_the_very_line_that_used_the_promise() -> None:
    here = inspect.currentframe()
    assert here is not None

    with pytest.raises(DefinitionError) as refused:

        @flow
        def checkout(amount: int) -> None:
            receipt = charge(amount)
            if receipt:
                charge(2)

    line = here.f_lineno
    places = {f"{__file__}:{n}: " for n in range(line - 12, line)}
    [place] = [place for place in places if str(refused.value).startswith(place)]
    number = int(place.rsplit(":", 2)[1])
    lines, start = inspect.getsourcelines(
        test_the_refusal_names_the_very_line_that_used_the_promise
    )
    assert "if receipt:" in lines[number - start]


def test_a_parameter_is_named_as_one() -> None:
    def body(amount: int) -> None:
        charge(amount + 1)

    with pytest.raises(DefinitionError, match="the parameter 'amount' is a promise and cannot be"):
        flow(body)


def test_a_promise_can_be_shown_copied_and_inspected_without_harm() -> None:
    shown: list[Any] = []

    @flow
    def checkout(amount: int) -> None:
        receipt = charge(amount)
        copies = [id(copy.copy(receipt)), id(copy.deepcopy([receipt])[0])]
        shown[:] = [repr(receipt), copies == [id(receipt)] * 2, hasattr(receipt, "__wrapped__")]

    assert shown == ["<promise of the result of step 'charge'>", True, False]
    assert checkout.definition.graph.sinks == ("charge",)
