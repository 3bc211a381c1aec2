"""Small flows for the runtime's tests; bodies note that they ran and do what a test tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator import Retry, each, flow, step, this_step

#: (step, argument) of every body that ran, in order.
ran: list[tuple[str, Any]] = []
#: What a body does beside its work, by step name: raise, or wait for a barrier.
behave: dict[str, Callable[[], None]] = {}


def _run(name: str, value: Any) -> None:
    ran.append((name, value))
    behave.get(name, lambda: None)()


@step
def first(n: int) -> int:
    _run("first", n)
    return n + 1


@step
def second(n: int) -> int:
    _run("second", n)
    return n * 2


@step
def third(n: int) -> int:
    _run("third", n)
    return n - 3


@step
def add(a: int, b: int) -> int:
    _run("add", (a, b))
    return a + b


@step(queue="elsewhere")
def apart(n: int) -> int:
    _run("apart", n)
    return n


@step
def numbers(n: int) -> list[int]:
    _run("numbers", n)
    return list(range(n))


@step
def double(n: int) -> int:
    _run("double", n)
    return n * 2


@step
def total(values: list[int]) -> int:
    _run("total", values)
    return sum(values)


@step
def key_of(n: int) -> str:
    _run("key_of", n)
    return this_step().id


@step(retry=Retry(attempts=3, first="10s", factor=2, jitter=False))
def shaky(n: int) -> int:
    _run("shaky", n)
    return n


@step
def big(n: int) -> str:
    _run("big", n)
    return "x" * n


@step
def length(text: str) -> int:
    _run("length", len(text))
    return len(text)


@step
def same(value: Any) -> Any:
    _run("same", value)
    return value


@step
def all_of(values: list[Any]) -> list[Any]:
    return values


@flow
def single(n: int) -> int:
    return first(n)


@flow
def chain(n: int) -> int:
    return third(second(first(n)))


@flow
def diamond(n: int) -> int:
    start = first(n)
    return add(second(start), third(start))


@flow
def hop(n: int) -> int:
    return second(apart(first(n)))


@flow
def fan(n: int) -> int:
    return total(each(numbers(n), double.options(window=3)))


@flow
def folder(n: int) -> int:
    return total(each(numbers(n), double))


@flow
def tree(n: int) -> int:
    return total(each(numbers(n), folder))


@flow
def retried(n: int) -> int:
    return second(shaky(n))


@flow
def fork(n: int) -> list[int]:
    start = first(n)
    return [second(start), shaky(start)]


@flow
def keyed(n: int) -> str:
    return key_of(n)


@flow
def large(n: int) -> int:
    return length(big(n))


@flow
def spread(values: list[int]) -> int:
    return total(each(values, double.options(window=2)))


@flow
def pair(n: int) -> int:
    return add(second(n), third(n))


@flow
def pairs(values: list[int]) -> int:
    return total(each(values, pair))


@flow
def told(values: list[Any]) -> list[Any]:
    inline = all_of(values)
    return [inline, each(inline, same)]


ALL = [single, chain, diamond, hop, fan, folder, tree, retried, fork, keyed, large]
ALL += [spread, pair, pairs, told]
