"""What `make demo KILL=1` found: losses that need several deaths in a row."""

from __future__ import annotations

from orchestrator.runtime.incarnations import DeathWatch
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker


def die_with_its_messages(worker: Worker) -> None:
    """Be killed on a broker of files, where what was taken from the queue is gone."""
    worker.vanish()
    watch = DeathWatch(confirmed_broker=False)
    watch.declare(worker.lab.database.hot(), worker.id, "SIGKILL")


def test_a_message_for_an_orphan_that_dies_with_a_second_worker_is_sent_again_at_once(
    lab: Lab,
) -> None:
    handle = lab.start(flows.chain, 1)
    first, second = lab.worker(), lab.worker()
    first.claim(lab.mail.popleft())
    die_with_its_messages(first)
    assert len(lab.sweep().messages) == 1
    lab.mail.popleft()  # reserved by the second worker, and never claimed

    die_with_its_messages(second)
    lab.sweep()
    lab.drain()

    assert handle.result(0) == 1
    assert lab.row(handle, "first")["deaths"] == 1
    lab.sound(handle)


def test_a_death_wants_no_new_message_for_what_a_living_worker_runs(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    living, victim = lab.worker(), lab.worker()
    living.claim(lab.mail.popleft())
    before = lab.row(handle, "first")["dispatch"]

    die_with_its_messages(victim)
    lab.sweep()

    assert lab.row(handle, "first")["dispatch"] == before
    assert not lab.mail
