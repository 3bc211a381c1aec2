"""What users import in their tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from orchestrator.records import StepAddress
from orchestrator.runtime import context
from orchestrator.runtime.context import ThisStep

__all__ = ["as_step"]


@contextmanager
def as_step(
    name: str = "step",
    *,
    scope: str = "",
    attempt: int = 1,
    failed: int = 0,
    key: str | None = None,
    cancelled: bool = False,
) -> Iterator[ThisStep]:
    """Let `this_step()` answer, inside of this block, as if a step were running.

    The step belongs to an execution of its own, so `ThisStep.id` differs from block to block.
    Heartbeats go nowhere.

    Args:
        name, scope: of the step, as in ``"pack"`` and ``"lines[3]"``.
        attempt: the n-th try, from 1.
        failed: how many attempts have failed before.
        key: the execution's key.
        cancelled: whether it is asked to stop.
    """
    running = ThisStep(
        StepAddress(uuid4(), name, scope, 0),
        attempt=attempt,
        key=key,
        beat=lambda _: cancelled,
        count_failed=lambda: failed,
    )
    if cancelled:
        running.ask_to_stop()
    token = context.enter(running)
    try:
        yield running
    finally:
        context.leave(token)
