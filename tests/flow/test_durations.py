"""Durations as people write them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.flow import durations
from tests.flow.simulator import law

durations_of_any_length = st.timedeltas(timedelta(0), timedelta(days=999_999_999))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30),
        ("1m", 60),
        ("2h", 7_200),
        ("3d", 259_200),
        ("1m30s", 90),
        ("1h 30m", 5_400),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        ("10us", 0.00001),
        ("0s", 0),
        (7, 7),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
    ],
)
def test_a_duration_is_text_with_a_unit_seconds_or_a_timedelta(
    written: Any, seconds: float
) -> None:
    assert timedelta(seconds=seconds) == durations.parse(written)


@pytest.mark.parametrize(
    "written",
    [
        *("", "30", "s", "30 sec", "30x", "-1s", "1m-3s", "٣s", "9999999999d"),
        *(True, None, [], -1, 1e30, float("nan"), float("inf"), timedelta(seconds=-1)),
    ],
)
def test_anything_else_is_refused_with_what_was_written(written: Any) -> None:
    with pytest.raises(InvalidInput, match="is not a duration"):
        durations.parse(written)


@law
@given(durations_of_any_length)
def test_a_duration_written_as_text_reads_back_exactly(duration: timedelta) -> None:
    assert duration == durations.parse(durations.text(duration))


@law
@given(durations_of_any_length, durations_of_any_length)
def test_a_longer_duration_never_reads_as_a_shorter_one(a: timedelta, b: timedelta) -> None:
    written = durations.text(a), durations.text(b)

    assert (a <= b) == (durations.parse(written[0]) <= durations.parse(written[1]))
