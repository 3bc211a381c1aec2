"""Conditions: ``with when(...):``, ``with otherwise():`` and ``choose``.

    with when(purchase.total > 1000):
        approval = signal("manager_ok", Approval)
    with otherwise():
        note(purchase)

The condition is put on every node recorded inside; the flow's function runs through both blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar, cast

from orchestrator.errors import DefinitionError
from orchestrator.flow import joins, recording
from orchestrator.flow.bindings import Binding, Literal, Not
from orchestrator.flow.places import location
from orchestrator.flow.promises import Promise, told
from orchestrator.flow.recording import Block, Closed, Recording

A = TypeVar("A")
B = TypeVar("B")


def when(condition: object) -> AbstractContextManager[None]:
    """Open a block whose steps run only if the condition is true when the flow runs.

    ``condition`` is a comparison of promises, several joined by ``&`` and ``|``, or a promise
    itself, which counts as Python would count its value. A missing value counts as false.
    """
    active = recording.active("when(...)")
    return _Opened(active, _condition(active, condition), leads=True)


def otherwise() -> AbstractContextManager[None]:
    """Open the block for the case that the ``when`` right before it is false."""
    active = recording.active("otherwise()")
    closed = active.closed
    if closed is None or (closed.depth, closed.nodes) != (len(active.blocks), len(active.nodes)):
        active.refuse(
            "otherwise() stands right after the block of a 'with when(...):', at the same depth and"
            " with no step between; move it there, or write 'with when(not_(...)):'"
        )
        return _Opened(active, Literal(None), leads=False)
    return _Opened(active, Not(closed.block.condition), leads=False)


def choose(condition: object, then: Callable[[], A], other: Callable[[], B]) -> A | B:
    """Return the value of one of two branches: ``choose(x.ok, lambda: a(x), lambda: b(x))``.

    Both are recorded; when the flow runs, the steps of one of them are skipped.
    """
    active = recording.active("choose(...)")
    for branch in (then, other):
        if isinstance(branch, Promise) or not callable(branch):
            raise DefinitionError(
                f"{location()}: a branch of choose() is a function that records the branch:"
                " write it as a lambda: choose(condition, lambda: a(x), lambda: b(x))"
            )
    branches: list[object] = []
    with when(condition):
        branches.append(_branch(active, then))
    with otherwise():
        branches.append(_branch(active, other))
    merged = joins.merge(active, "choose", branches, wanted=1, single=True, cancel=False)
    return cast("A | B", merged)


def _branch(active: Recording, branch: Callable[[], object]) -> object:
    """What a branch gives, if it was made inside of the branch."""
    before = {node.name for node in active.nodes}
    value = branch()
    node = joins.node_of(value)
    unknown = isinstance(value, Promise) and told(value).binding is None
    if not unknown and (node is None or node in before):
        return active.refused(
            "a branch of choose() is the result of a step that is called in it: call the step"
            " inside of the lambda; what is there already is given to a step that returns it"
        )
    return value


def _condition(active: Recording, condition: object) -> Binding:
    if isinstance(condition, Promise):
        return active.own(condition)
    if not active.refused_here():  # else it is what stood in for a value
        active.refuse(
            f"when({condition!r}) does not depend on any value of the flow: write a comparison of"
            " promises, or decide with a plain 'if' while the flow is recorded"
        )
    return Literal(None)


class _Opened(AbstractContextManager[None]):
    """A block; ``leads`` means that an ``otherwise`` may follow."""

    def __init__(self, active: Recording, condition: Binding, *, leads: bool) -> None:
        self._active = active
        self._block = Block(condition, location())
        self._leads = leads
        active.unopened[self] = (self._block.place, "when(...)" if leads else "otherwise()")

    def __enter__(self) -> None:
        self._active.unopened.pop(self, None)
        self._active.blocks.append(self._block)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        active = self._active
        active.blocks.pop()
        closed = Closed(self._block, len(active.blocks), len(active.nodes))
        active.closed = closed if self._leads else None
