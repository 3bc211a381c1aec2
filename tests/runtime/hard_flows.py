"""Flows in which waits, merges, items and calls meet, for attacks on the runtime."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from orchestrator import choose, each, first_of, flow, signal, sleep, step, when
from tests.runtime.chosen_flows import (
    after_it,
    child,
    excuse,
    items_of,
    large,
    note,
    risky,
    small,
    summed,
)
from tests.runtime.flows import _run, behave


@step
def fail_if_odd(n: int) -> int:
    _run("fail_if_odd", n)
    if n % 2 and "cured" not in behave:
        raise ValueError(f"{n} is odd")
    return n * 10


@step
def total(a: int, b: int) -> int:
    _run("total", (a, b))
    return a + b


@step
def other(n: int) -> int:
    _run("other", n)
    return n * 100


@step
def ready(n: int) -> bool:
    _run("ready", n)
    return bool(n)


@step
def text(n: Any) -> str:
    _run("text", n)
    return "yes"


@flow
def signal_or_large(n: int) -> str:
    return first_of(signal("go", str), large(n))


@flow
def call_or_large(n: int) -> int | str:
    return first_of(child(n), large(n))


@flow
def waiting_item(n: int) -> int:
    return total(signal("number", int), fail_if_odd(n))


@flow
def waiting_items(n: int) -> int:
    return summed(each(items_of(n), waiting_item.options(accept="any")))


@flow
def slow_item(n: int) -> int:
    return after_it(fail_if_odd.options(queue="slow")(n))


@flow
def calling_item(n: int) -> int:
    return total(slow_item(n), fail_if_odd(n))


@flow
def calling_items(n: int) -> int:
    return summed(each(items_of(n), calling_item.options(accept="any")))


@flow
def items_or_large(n: int) -> list[int] | str:
    return first_of(each(items_of(n), slow_item), large.options(queue="fast")(n))


@flow
def merge_of_merges(n: int) -> str:
    inner = first_of(risky.options(queue="slow")(n), small.options(queue="slow")(n))
    return first_of(inner, large(n))


@flow
def fired_or_failed(n: int) -> str:
    """The merge goes by a queue of its own."""
    return note(first_of(risky.options(queue="slow")(n), large.options(queue="fast")(n)))


@flow
def handled_loser(n: int) -> str:
    return first_of(risky.options(queue="slow", on_error=excuse)(n), large(n))


@flow
def beside_child(n: int) -> int:
    return total(child(n), other.options(queue="slow")(n))


@flow
def branched_item(n: int) -> int:
    return total(fail_if_odd(n), other.options(queue="slow")(n))


@flow
def branched_items(n: int) -> int:
    return summed(each(items_of(n), branched_item.options(accept="any")))


@flow
def picky(n: int) -> int:
    return summed(each(items_of(n), branched_item.options(accept=0.9)))


@flow
def deep_item(n: int) -> int:
    return summed(each(items_of(n), branched_item))


@flow
def deep(n: int) -> int:
    return summed(each(items_of(n), deep_item.options(accept=0.9)))


@flow
def named_alike_item(n: int) -> str:
    return note(signal("other", str))


@flow
def named_alike(n: int) -> list[str]:
    """The step ``other`` and the signal ``other`` are nodes of one name on two levels."""
    return each(items_of(other.options(queue="elsewhere")(n)), named_alike_item)


@flow
def dashed_item(n: int) -> str:
    return note(signal("a-b", str))


@flow
def dashed(n: int) -> list[str]:
    return each(items_of(n), dashed_item.options(after=signal("a b", str)))


@flow
def for_ages(n: int) -> int:
    return after_it.options(after=sleep("999999999d"))(n)


@flow
def within_ages(n: int) -> str:
    return signal("go", str, within="999999999d")


@flow
def until_then(moment: datetime) -> int:
    return after_it.options(after=sleep(until=moment))(1)


@flow
def compared(value: Any, bound: Any) -> str:
    with when(value > bound):
        made = text(value)
    return note(made)


@flow
def joined_loser(n: int) -> int | str:
    joined = total(other.options(queue="begun")(n), fail_if_odd.options(queue="slow")(n))
    return first_of(joined, large.options(queue="fast")(n))


@flow
def half_needed_loser(n: int) -> list[int | str]:
    """What joins is needed by the merge alone, one of those it joins by the result as well."""
    begun = other.options(queue="begun")(n)
    joined = total(begun, fail_if_odd.options(queue="slow")(n))
    fail_if_odd.options(name="apart", queue="slow")(n)
    return [begun, first_of(joined, large.options(queue="fast")(n))]


@flow
def merged_loser(n: int) -> str:
    """The merge that loses hears of the branch that is skipped, and never of the other one."""
    merged = choose(
        n != 1, lambda: small.options(queue="slow")(n), lambda: large.options(queue="begun")(n)
    )
    return first_of(merged, large.options(name="fast", queue="fast")(n))


@flow
def joining_item(n: int) -> int:
    return total(other.options(queue="begun")(n), fail_if_odd.options(queue="slow")(n))


@flow
def joining_items_or_large(n: int) -> list[int] | str:
    return first_of(each(items_of(n), joining_item), large.options(queue="fast")(n))


@flow
def late_item(n: int) -> int:
    """What the item comes to is used by the merge as well, which does not wait for it."""
    late = other.options(queue="slow")(n)
    first_of(after_it(late), large(n))
    return late


@flow
def late_items(n: int) -> int:
    return summed(each(items_of(n), late_item))


@flow
def left_item(n: int) -> str:
    return first_of(risky.options(queue="slow")(n), large(n), others="leave")


@flow
def left_items(n: int) -> list[str | None]:
    return each(items_of(n), left_item.options(accept="any"))


@flow
def two_waits(n: int) -> list[str]:
    return [first_of(signal("go", str), large.options(queue="fast")(n)), signal("go", str)]


@flow
def or_none(n: int) -> str:
    return note(signal("go", bool, within="1h", default="never"))


ALL = [
    or_none,
    *(signal_or_large, call_or_large, waiting_items, calling_items, items_or_large),
    *(merge_of_merges, fired_or_failed, handled_loser, beside_child, branched_items, picky, deep),
    *(named_alike, dashed, for_ages, within_ages, until_then, compared, two_waits),
    *(joined_loser, half_needed_loser, merged_loser, joining_items_or_large),
    *(late_items, left_items),
]
