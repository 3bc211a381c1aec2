"""What is measured, written for this product: bodies that do next to nothing."""

from __future__ import annotations

from orchestrator.flow.authoring import each, flow, step


@step
def add_one(number: int) -> int:
    return number + 1


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def double(number: int) -> int:
    return number * 2


@step
def total(values: list[int]) -> int:
    return sum(values)


@flow(version="1")
def chain_of_ten(number: int) -> int:
    """W1: ten steps, one after another."""
    for _ in range(10):
        number = add_one(number)
    return number


@flow(version="1")
def single(number: int) -> int:
    """W4: what starts cost, and next to nothing besides."""
    return add_one(number)


@flow(version="1")
def fan(count: int) -> int:
    """W2: one step, ``count`` beside each other, one that joins them."""
    return total(each(numbers(count), double))
