"""Joins that wait for fewer than all: ``first_of`` and ``first_n``."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast, overload

from orchestrator.flow import recording, shapes
from orchestrator.flow.bindings import Output
from orchestrator.flow.graph import MergeNode
from orchestrator.flow.promises import Promise, told
from orchestrator.flow.recording import Recording

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
T = TypeVar("T")

Others: TypeAlias = Literal["cancel", "leave"]


@overload
def first_of(items: Iterable[T], /, *, others: Others = "cancel") -> T: ...
@overload
def first_of(a: A, b: B, /, *, others: Others = "cancel") -> A | B: ...
@overload
def first_of(a: A, b: B, c: C, /, *, others: Others = "cancel") -> A | B | C: ...
@overload
def first_of(a: A, b: B, c: C, d: D, /, *, others: Others = "cancel") -> A | B | C | D: ...
@overload
def first_of(
    a: A, b: B, c: C, d: D, e: E, /, *, others: Others = "cancel"
) -> A | B | C | D | E: ...
def first_of(*items: Any, others: Others = "cancel") -> Any:
    """Return the value of the step that ends first; one that is skipped brings none.

    ``others`` says what becomes of the steps that are then of no more use: ``"cancel"`` them, or
    ``"leave"`` them to their end.
    """
    active = recording.active("first_of(...)")
    given = list(items[0]) if len(items) == 1 and isinstance(items[0], list | tuple) else items
    if len(given) < 2:
        return active.refused(
            "first_of() takes the results of two steps or more: first_of(a, b), or a list of them"
        )
    return merge(active, "first_of", given, wanted=1, single=True, cancel=_cancels(active, others))


def first_n(wanted: int, items: Iterable[T], /, *, others: Others = "cancel") -> list[T]:
    """Return the values of the first ``wanted`` of some steps, as they are listed."""
    active = recording.active("first_n(...)")
    given = list(items) if isinstance(items, list | tuple) else []
    if type(wanted) is not int or not 1 <= wanted <= len(given):
        return cast(
            "list[T]",
            active.refused(
                f"first_n({wanted!r}, ...) of {len(given)} steps: the number is a whole one from 1"
                " to the length of the list of results"
            ),
        )
    cancel = _cancels(active, others)
    merged = merge(active, "first_n", given, wanted=wanted, single=False, cancel=cancel)
    return cast("list[T]", merged)


def merge(
    active: Recording,
    function: str,
    given: Sequence[object],
    *,
    wanted: int,
    single: bool,
    cancel: bool,
) -> Promise:
    """Record a merge of the results of steps."""
    inputs: list[str] = []
    kinds = []
    for value in given:
        node = node_of(value)
        if node is None:
            if not isinstance(value, Promise) or told(value).binding is not None:
                active.refuse(
                    f"{function}() takes results of steps, not {value!r}: give what the call of a"
                    " step returned, whole"
                )
            continue
        active.own(cast("Promise", value))
        if node in inputs:
            active.refuse(f"{function}() was given the result of step {node!r} twice: give it once")
        if active.is_outside(node):
            active.refuse(
                f"{function}() stands in a block and the result of step {node!r} does not, which"
                " would be cancelled by what may not run: call it outside of the block and use"
                " its value inside"
            )
        inputs.append(node)
        kinds.append(told(cast("Promise", value)).annotation)
    if len(inputs) < len(given) or len(set(inputs)) < len(inputs):
        return active.unknown()
    kind = shapes.union(kinds)
    merged = MergeNode(
        active.name(function), tuple(inputs), wanted=wanted, single=single, cancel=cancel
    )
    return active.add(merged, kind if single else types.GenericAlias(list, (kind,)))


def node_of(value: object) -> str | None:
    """Return the step whose whole result a value is."""
    binding = told(value).binding if isinstance(value, Promise) else None
    return binding.node if isinstance(binding, Output) else None


def _cancels(active: Recording, others: str) -> bool:
    if others not in ("cancel", "leave"):
        active.refuse(f"others={others!r}: write 'cancel' or 'leave'")
    return others == "cancel"
