"""What proves a death, and what becomes of one that was counted by mistake."""

from __future__ import annotations

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store import incarnations
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker
from tests.runtime.test_crash_table import attempt_of


def elsewhere(worker: Worker) -> Worker:
    """The same worker on another host, where nobody here can look for its process."""
    worker.lab.database.hot().execute(
        "UPDATE orchestrator.workers SET host = 'elsewhere' WHERE id = %s", (worker.id,)
    )
    return worker


def look(lab: Lab, *, steady: bool = True) -> int:
    return len(DeathWatch().look(lab.database.hot(), steady=steady))


def test_a_worker_elsewhere_that_lost_its_lock_and_still_beats_is_not_dead(lab: Lab) -> None:
    worker = elsewhere(lab.worker())
    worker.vanish()

    for _ in range(5):
        lab.advance(seconds=4)
        assert look(lab) == 0
        lab.database.run(incarnations.beat, {worker.id: {}})


def test_a_worker_elsewhere_without_lock_and_beats_is_dead_to_those_who_saw_no_outage(
    lab: Lab,
) -> None:
    elsewhere(lab.worker()).vanish()
    lab.advance(seconds=6)

    assert look(lab, steady=False) == 0
    assert look(lab) == 1
    assert look(lab) == 0


def test_a_silent_worker_elsewhere_that_holds_its_lock_is_not_dead(lab: Lab) -> None:
    elsewhere(lab.worker())
    lab.advance(seconds=600)

    assert look(lab) == 0


def test_a_death_that_was_none_is_taken_back_and_what_the_living_recorded_is_refused(
    lab: Lab,
) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    cut_off, other = elsewhere(lab.worker()), lab.worker()
    [claimed] = cut_off.claim(message)
    cut_off.incarnation._session.close()
    was = cut_off.id

    assert other.deliver(message, redelivered=True) == 3
    assert lab.row(handle, "first")["deaths"] == 1
    cut_off.incarnation.tend([(claimed.address, claimed.token)])

    assert lab.row(handle, "first")["deaths"] == 0
    [(died, ended, reason)] = (
        lab.database.hot()
        .execute(
            "SELECT died, ended_at IS NOT NULL, reason FROM orchestrator.workers WHERE id = %s",
            (was,),
        )
        .fetchall()
    )
    assert (died, ended) == (False, True)
    assert reason.startswith("lives, though")
    assert cut_off.id != was
    with pytest.raises(LeaseLost):
        commit(cut_off.database, attempt_of(cut_off, claimed, 99), lab.settings)
    assert handle.result(0) == 1
    lab.sound(handle)


def test_a_death_taken_back_leaves_those_that_others_died_alone(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    first, second, third = lab.worker(), elsewhere(lab.worker()), lab.worker()
    message = lab.mail.popleft()
    first.claim(message)
    first.die()
    [claimed] = second.claim(message, nonce=2)
    second.incarnation._session.close()
    third.deliver(message, redelivered=True)
    assert lab.row(handle, "first")["deaths"] == 2

    second.incarnation.tend([(claimed.address, claimed.token)])
    second.incarnation.tend([(claimed.address, claimed.token)])

    assert lab.row(handle, "first")["deaths"] == 1
