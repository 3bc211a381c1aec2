"""A retry policy counts failures: what became of workers takes nothing from it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator import this_step
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import attempts, incarnations
from tests.runtime import flows
from tests.runtime.lab import Lab


def fail() -> None:
    raise ValueError("no")


def wait(lab: Lab) -> float:
    """How long the step waits now, in whole seconds."""
    row = lab.database.hot().execute(
        "SELECT due_at - orchestrator.now() FROM orchestrator.steps WHERE name = 'shaky'"
    )
    [left] = row.fetchone()
    return round(left / timedelta(seconds=1))


def fails_to_the_end(lab: Lab, handle: object) -> list[float]:
    """Let it fail as often as it may; the waits in between."""
    waits = []
    while handle.view().facts.status is ExecutionStatus.RUNNING:  # type: ignore[attr-defined]
        lab.drain()
        if handle.view().facts.status is ExecutionStatus.RUNNING:  # type: ignore[attr-defined]
            waits.append(wait(lab))
            lab.advance(seconds=waits[-1] + 1)
            lab.sweep()
    return waits


@pytest.mark.parametrize("how", ["dies", "is cut off", "hands it back"])
def test_what_becomes_of_workers_uses_up_no_attempt_of_the_policy(lab: Lab, how: str) -> None:
    flows.behave["shaky"] = fail
    handle = lab.start(flows.retried, 1)
    for nonce in (1, 2):
        worker = lab.worker()
        worker.claim(lab.mail.popleft(), nonce=nonce)
        if how == "dies":
            worker.die()
        elif how == "hands it back":
            address = lab.address(handle, "shaky")
            lab.database.run(attempts.hand_back, worker.id, [address])
        else:
            worker.vanish()
            lab.advance(seconds=31)
        lab.sweep()

    assert fails_to_the_end(lab, handle) == [10, 20]

    row = lab.row(handle, "shaky")
    assert row["status"] == "failed"
    assert row["attempt"] == (3 if how == "hands it back" else 5)
    assert len(flows.ran) == 3
    lab.sound(handle)


def test_a_death_between_two_failures_leaves_their_count(lab: Lab) -> None:
    failed = []

    def note() -> None:
        failed.append((this_step().attempt, this_step().failed))
        fail()

    flows.behave["shaky"] = note
    handle = lab.start(flows.retried, 1)
    lab.drain()
    lab.advance(seconds=11)
    lab.sweep()
    worker = lab.worker()
    worker.claim(lab.mail.popleft())
    worker.die()
    lab.sweep()

    assert fails_to_the_end(lab, handle) == [20]
    assert failed == [(1, 0), (3, 1), (4, 2)]


def test_a_worker_that_lacks_the_function_leaves_the_count_of_failures(lab: Lab) -> None:
    flows.behave["shaky"] = fail
    handle = lab.start(flows.retried, 1)
    lab.drain()
    lab.advance(seconds=11)
    [message] = lab.sweep().messages
    lab.mail.clear()
    lab.database.run(incarnations.postpone, message.address, function="flows:shaky")
    lab.advance(seconds=61)
    lab.sweep()

    assert fails_to_the_end(lab, handle) == [20]


def test_an_attempt_that_took_too_long_is_a_failure(lab: Lab) -> None:
    handle = lab.start(flows.retried, 1)
    waits = []
    for nonce in (1, 2, 3):
        worker = lab.worker()
        [claimed] = worker.claim(lab.mail.popleft(), nonce=nonce)
        attempts.time_out(lab.database, lab.catalogue, lab.settings, claimed, worker.id)
        if lab.row(handle, "shaky")["status"] == "ready":
            waits.append(wait(lab))
            lab.advance(seconds=waits[-1] + 1)
            lab.sweep()

    assert waits == [10, 20]
    assert handle.view().facts.status is ExecutionStatus.FAILED
