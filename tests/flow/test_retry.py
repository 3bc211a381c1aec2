"""Retry policies decide from names of error types and wait from a fraction handed in."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput, Reject, TimedOut
from orchestrator.flow.retry import NO_RETRY, Retry, error_types
from tests.flow.simulator import law

policies = st.builds(
    Retry,
    attempts=st.integers(1, 100),
    first=st.integers(0, 100),
    factor=st.floats(1, 10),
    cap=st.integers(0, 3_600),
    jitter=st.booleans(),
)
fractions = st.floats(0, 1, exclude_max=True)


def test_waits_grow_by_the_factor_up_to_the_cap() -> None:
    policy = Retry(attempts=6, first="1s", factor=2, cap="5s", jitter=False)

    waits = [policy.delay(attempt) for attempt in (1, 2, 3, 4, 5)]

    assert [wait.total_seconds() for wait in waits] == [1, 2, 4, 5, 5]


@law
@given(policies, st.integers(1, 5_000), fractions)
def test_a_later_failure_never_waits_less_and_never_longer_than_the_cap(
    policy: Retry, attempt: int, fraction: float
) -> None:
    wait, next_wait = policy.delay(attempt, fraction), policy.delay(attempt + 1, fraction)

    assert timedelta(0) <= wait <= next_wait <= policy.cap


@law
@given(policies, st.integers(1, 50), fractions)
def test_jitter_leaves_between_half_of_the_wait_and_all_of_it(
    policy: Retry, attempt: int, fraction: float
) -> None:
    whole = Retry(first=policy.first, factor=policy.factor, cap=policy.cap, jitter=False)

    wait = policy.delay(attempt, fraction)

    rounding = timedelta(microseconds=1)
    least = whole.delay(attempt) / 2 if policy.jitter else whole.delay(attempt)
    assert least - rounding <= wait <= whole.delay(attempt)


@law
@given(policies)
def test_a_policy_reads_back_from_its_json(policy: Retry) -> None:
    assert policy == Retry.from_json(policy.to_json())


def test_an_error_is_tried_again_if_its_type_or_a_base_is_named() -> None:
    policy = Retry(attempts=3, on=(OSError, "shop.errors.Busy"), not_on=FileNotFoundError)

    assert policy.decide(error_types(OSError), 1)
    assert policy.decide(error_types(ConnectionResetError), 2)
    assert policy.decide(("shop.errors.VeryBusy", "shop.errors.Busy", "builtins.Exception"), 1)
    assert not policy.decide(error_types(FileNotFoundError), 1)
    assert not policy.decide(error_types(ValueError), 1)


def test_the_last_attempt_is_not_followed_by_another() -> None:
    policy = Retry(attempts=3)

    assert [policy.decide(error_types(OSError), n) for n in (1, 2, 3)] == [True, True, False]
    assert not NO_RETRY.decide(error_types(OSError), 1)


def test_a_rejection_is_never_tried_again_and_a_timeout_is_an_error_like_others() -> None:
    policy = Retry(attempts=3)

    assert not policy.decide(error_types(Reject), 1)
    assert policy.decide(error_types(TimedOut), 1)
    assert not policy.decide(error_types(KeyboardInterrupt), 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"attempts": True}, "attempts=True"),
        ({"attempts": 2.5}, "attempts=2.5"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"first": "1 fortnight"}, "1 fortnight"),
        ({"cap": -1}, "-1"),
        ({"jitter": 0.3}, "jitter=0.3"),
        ({"on": (int,)}, "on=<class 'int'>"),
        ({"not_on": ("",)}, "not_on=''"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_field(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        Retry(**options)

    assert named in str(refused.value)


@pytest.mark.parametrize("document", [None, [], {"attemps": 3}, {"attempts": "3"}, {"on": [3]}])
def test_a_malformed_policy_document_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInput):
        Retry.from_json(document)
