"""Flows that choose, wait and call, for the runtime's tests."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import (
    Retry,
    StepError,
    call,
    each,
    first_n,
    first_of,
    flow,
    otherwise,
    signal,
    sleep,
    step,
    when,
)
from tests.runtime.flows import _run


@dataclass
class Order:
    total: int
    lines: list[int]


@dataclass
class Approval:
    ok: bool
    by: str = "?"


@step
def price(order: Order) -> int:
    _run("price", order.total)
    return order.total


@step
def small(n: int) -> str:
    _run("small", n)
    return f"small {n}"


@step
def large(n: int) -> str:
    _run("large", n)
    return f"large {n}"


@step
def note(text: str | None) -> str:
    _run("note", text)
    return f"noted {text}"


@step
def pair(a: str | None, b: str | None) -> list[str | None]:
    _run("pair", (a, b))
    return [a, b]


@step(retry=Retry(attempts=2, first="1s", jitter=False))
def risky(n: int) -> str:
    _run("risky", n)
    return f"risky {n}"


@step
def excuse(error: StepError) -> str:
    _run("excuse", error)
    return f"excused {error.kind}: {error.message}"


@step
def fail_if_odd(n: int) -> int:
    _run("fail_if_odd", n)
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n * 10


@step
def after_it(n: int) -> int:
    _run("after_it", n)
    return n + 1


@step
def items_of(n: int) -> list[int]:
    _run("items_of", n)
    return list(range(n))


@step
def summed(numbers: list[int | None]) -> int:
    _run("summed", numbers)
    return sum(number or 0 for number in numbers)


@flow
def branch(order: Order) -> str:
    total = price(order)
    with when(total > 100):
        big = large(total)
    with otherwise():
        little = small(total)
    return first_of(big, little)


@flow
def optional(order: Order) -> list[str | None]:
    with when(order.total > 100):
        big = large(order.total)
    return pair(big, note(big))


@flow
def nested(order: Order) -> list[str | None]:
    total = price(order)
    with when(total > 10):
        a = large(total)
        with when(order.lines[0] == 7):
            b = small(total)
    return pair(a, b)


@flow
def excused(n: int) -> str:
    return note(risky.options(on_error=excuse)(n))


@flow
def race(n: int) -> str:
    return first_of(small.options(queue="slow")(n), large(n))


@flow
def two_of_three(n: int) -> list[str]:
    return first_n(2, [small(n), large(n), risky(n)])


@flow
def tolerant(n: int) -> int:
    return summed(each(items_of(n), fail_if_odd.options(accept=0.5)))


@flow
def item(n: int) -> int:
    return after_it(fail_if_odd(n))


@flow
def tolerant_items(n: int) -> int:
    return summed(each(items_of(n), item.options(accept="any", window=2)))


@flow
def listed(numbers: list[int]) -> list[int]:
    """An item that is one each, called as its step is."""
    return each(numbers, fail_if_odd.options(window=1))


@flow
def tolerant_lists(lists: list[list[int]]) -> list[list[int] | None]:
    return each(lists, listed.options(accept="any"))


@flow
def choosy_item(n: int, express: bool = False) -> str:
    with when(express):
        fast = large(n)
    with otherwise():
        slow = small(n)
    return first_of(fast, slow)


@flow
def told_items(n: int) -> list[list[str]]:
    """A condition on what is written in the flow: a default, and a value."""
    return [each(items_of(n), choosy_item), each(items_of(n), choosy_item, True)]


@flow
def approved(n: int) -> str:
    answer = signal("manager_ok", Approval, within="3d", default=Approval(ok=False, by="nobody"))
    with when(answer.ok):
        done = large(n)
    with otherwise():
        refused = small(n)
    return first_of(done, refused)


@flow
def patient(n: int) -> str:
    answer = signal("manager_ok", Approval)
    with when(answer.ok):
        done = large(n)
    return note(done)


@flow
def impatient(n: int) -> str:
    answer = signal("manager_ok", Approval, within="1h")
    with when(answer.ok):
        done = large(n)
    return note(done)


@flow
def rested(n: int) -> str:
    pause = sleep("3d")
    return small.options(after=pause)(n)


@flow
def child(n: int) -> int:
    return after_it(fail_if_odd(n))


@flow
def parent(n: int) -> int:
    return after_it(child(n))


@flow
def grandparent(n: int) -> int:
    return after_it(parent(n))


@flow
def endless(n: int) -> int:
    return call("endless", n=n)


ALL = [
    *(branch, optional, nested, excused, race, two_of_three, tolerant, tolerant_items),
    *(told_items, tolerant_lists),
    *(approved, patient, impatient, rested, child, parent, grandparent, endless),
]
