"""The items of an `each`, in the rows in which they are stored."""

from __future__ import annotations

from tests.runtime import flows
from tests.runtime.lab import Lab


def test_large_items_are_stored_a_few_a_row_and_each_is_found(lab: Lab) -> None:
    values = [f"{i}" + "x" * (9_000 if i % 2 else 10) for i in range(150)]
    handle = lab.start(flows.told, values)
    lab.drain()

    inline, items = handle.result(0)

    assert items == inline == values
    sizes = (
        lab.database.hot()
        .execute(
            "SELECT length(value::text) FROM orchestrator.payloads"
            " WHERE execution_id = %s AND kind = 'items' ORDER BY part",
            (handle.execution_id,),
        )
        .fetchall()
    )
    assert len(sizes) > 10
    assert max(size for (size,) in sizes) < 70_000


def test_items_are_found_again_after_a_rerun_with_parts_of_other_sizes(lab: Lab) -> None:
    values = ["y" * (70_000 if i < 3 else 1) for i in range(110)]
    handle = lab.start(flows.told, values)
    lab.drain()
    lab.client.retry(handle.id, from_steps=["all_of"])
    lab.drain()

    inline, items = handle.result(0)

    assert items == inline == values
