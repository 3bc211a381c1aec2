"""How the items of an `each` are cut into rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store import values

SIZES = st.lists(st.sampled_from([1, 10, 1_000, 30_000, 70_000]), max_size=250)


@given(SIZES)
def test_parts_hold_all_items_in_order_and_no_more_than_is_read_at_ease(sizes: list[int]) -> None:
    items = ["x" * size for size in sizes]

    parts = list(values.parts(items))

    assert [item for _, part in parts for item in part] == items
    position = 0
    for first, part in parts:
        assert first == position
        assert 1 <= len(part) <= 100
        assert len(part) == 1 or sum(map(len, part)) <= 1 << 16
        position += len(part)
