"""What a flow's fingerprint covers: its structure, and nothing that may be tuned."""

from dataclasses import dataclass
from typing import Any

from orchestrator.flow.authoring import (
    StepError,
    each,
    first_of,
    flow,
    step,
    when,
)


@dataclass
class Order:
    total: int
    points: list[int]


@step
def charge(order: Order) -> int:
    return order.total


@step
def ask(text: str) -> str:
    return text


@step
def take(value: Any) -> Any:
    return value


@step
def sorry(error: StepError) -> int:
    return error.attempts


def variants() -> dict[str, Any]:
    def plain(order: Order) -> None:
        with when(order.total > 1):
            charge(order)
        each(order.points, take)
        first_of(ask("a"), ask("b"))

    def other_condition(order: Order) -> None:
        with when(order.total > 2):
            charge(order)
        each(order.points, take)
        first_of(ask("a"), ask("b"))

    def other_literal(order: Order) -> None:
        with when(order.total > 1):
            charge(order)
        each(order.points, take)
        first_of(ask("a"), ask("c"))

    def other_join(order: Order) -> None:
        with when(order.total > 1):
            charge(order)
        each(order.points, take)
        first_of(ask("a"), ask("b"), others="leave")

    def with_a_handler(order: Order) -> None:
        with when(order.total > 1):
            charge.options(on_error=sorry)(order)
        each(order.points, take)
        first_of(ask("a"), ask("b"))

    def accepting(order: Order) -> None:
        with when(order.total > 1):
            charge(order)
        each(order.points, take.options(accept="any"))
        first_of(ask("a"), ask("b"))

    def with_options(order: Order, more: int = 3) -> None:
        with when(order.total > 1):
            charge.options(timeout="3s", queue="slow", max_deaths=1, inline=False)(order)
        each(order.points, take.options(window=3))
        first_of(ask("a"), ask("b"))

    found = (
        *(plain, other_condition, other_literal, other_join, with_a_handler, accepting),
        with_options,
    )
    return {body.__name__: body for body in found}


def test_the_fingerprint_covers_structure_and_no_options() -> None:
    def fingerprint(body: Any) -> str:
        return flow(body).definition.fingerprint

    bodies = variants()
    plain = bodies.pop("plain")
    optional = bodies.pop("with_options")
    assert len({fingerprint(body) for body in (plain, *bodies.values())}) == 1 + len(bodies)

    def unoptional(order: Order, more: int) -> None:
        plain(order)

    assert fingerprint(optional) == fingerprint(unoptional)


def test_a_recorded_flow_reads_back_from_its_json() -> None:
    for body in variants().values():
        definition = flow(body).definition
        assert type(definition).from_json(definition.to_json()) == definition
