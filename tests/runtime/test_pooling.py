"""Behind a pooler that shares sessions, missing beats are the proof of a death (protocol.md 5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store import incarnations
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.runtime.test_deaths import elsewhere


@pytest.fixture
def pooled(open_lab: Callable[..., Lab]) -> Lab:
    flows.ran.clear()
    flows.behave.clear()
    return open_lab(transaction_pooling=True)


def look(lab: Lab, *, steady: bool = True) -> int:
    return len(DeathWatch.of(lab.settings).look(lab.database.hot(), steady=steady))


def test_no_lock_is_left_in_a_session_that_others_will_use(pooled: Lab) -> None:
    worker = pooled.worker()
    worker.incarnation._session.close()
    worker.incarnation.tend()

    locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    assert pooled.database.hot().execute(
        f"{locks} WHERE locktype = 'advisory' AND datname = current_database()"
    ).fetchone() == (0,)


def test_ten_seconds_without_a_beat_are_the_proof_for_those_who_saw_no_outage(pooled: Lab) -> None:
    handle = pooled.start(flows.single, 1)
    worker = elsewhere(pooled.worker())
    worker.claim(pooled.mail.popleft())
    pooled.advance(seconds=9)
    assert look(pooled) == 0
    pooled.advance(seconds=2)

    assert look(pooled, steady=False) == 0
    assert look(pooled) == 1

    pooled.sweep()
    pooled.drain()
    assert handle.result(0) == 2
    assert pooled.row(handle, "first")["deaths"] == 1


def test_who_beats_lives(pooled: Lab) -> None:
    worker = elsewhere(pooled.worker())
    for _ in range(5):
        pooled.advance(seconds=9)
        assert look(pooled) == 0
        pooled.database.run(incarnations.beat, {worker.id: {}})


def test_a_silent_process_of_this_host_that_is_there_is_not_dead(pooled: Lab) -> None:
    pooled.worker()
    pooled.advance(seconds=600)

    assert look(pooled) == 0


def test_redelivery_proves_no_death(pooled: Lab) -> None:
    pooled.start(flows.single, 1)
    message = pooled.mail.popleft()
    elsewhere(pooled.worker()).claim(message)

    assert pooled.worker().deliver(message, redelivered=True) == 0
