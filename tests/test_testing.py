"""What users import in their tests."""

from __future__ import annotations

import pytest

from orchestrator import InvalidInput, step, this_step
from orchestrator.testing import as_step


@step
def look() -> tuple[str, int, int, str | None, str, bool]:
    own = this_step()
    own.heartbeat({"at": 1})
    return own.id, own.attempt, own.failed, own.key, own.scope, own.cancelled


def test_a_step_is_told_what_the_test_says() -> None:
    with as_step("look", scope="rows[3]", attempt=4, failed=2, key="o-1") as running:
        assert look() == (running.id, 4, 2, "o-1", "rows[3]", False)


def test_a_step_is_told_that_nobody_waits_for_it_any_more() -> None:
    with as_step(cancelled=True):
        assert look()[-1] is True


def test_each_block_is_another_execution_and_leaves_nothing_behind() -> None:
    with as_step() as one, as_step() as other:
        assert one.id != other.id
        assert look()[0] == other.id
    with pytest.raises(InvalidInput, match=r"outside the body of a step; in a test, .*as_step"):
        look()
