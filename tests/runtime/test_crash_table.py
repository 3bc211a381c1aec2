"""The crash table of the protocol (protocol.md 9), row by row, in one process."""

from __future__ import annotations

import secrets

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.runtime import record
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.outcomes import Succeeded
from orchestrator.store import incarnations
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker


def attempt_of(worker: Worker, claimed, value: object = 1, nonce: int | None = None):
    """The record that a worker would make of a claim."""
    lab = worker.lab
    registered = lab.database.run(lab.catalogue.definition, claimed.definition_id)
    return record.Attempt(
        claimed=claimed,
        registered=registered,
        catalogue=lab.catalogue,
        outcome=Succeeded(value, str(value)),
        head=claimed.address,
        holder=worker.id,
        nonce=nonce or secrets.randbits(63),
        may_continue=lambda _name, _scope: True,
    )


@pytest.mark.req("E10")
def test_a_worker_killed_before_its_record_is_replaced_at_once_by_redelivery(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    victim, other = lab.worker(), lab.worker()
    [claimed] = victim.claim(message)
    victim.die()

    other.deliver(message, redelivered=True)

    assert handle.result(0) == (1 + 1) * 2 - 3
    row = lab.row(handle, "first")
    assert (row["attempt"], row["deaths"], row["holder"]) == (2, 1, other.id)
    assert claimed.address.id == lab.address(handle, "first").id
    lab.sound(handle)


def test_redelivery_and_a_free_lock_prove_the_death_of_a_worker_elsewhere(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    victim, other = lab.worker(), lab.worker()
    victim.claim(message)
    elsewhere = "UPDATE orchestrator.workers SET host = 'elsewhere' WHERE id = %s"
    lab.database.hot().execute(elsewhere, (victim.id,))

    assert other.deliver(message, redelivered=True) == 0
    victim.vanish()
    assert other.deliver(message, redelivered=True) == 3

    assert handle.result(0) == 1
    assert lab.row(handle, "first")["deaths"] == 1
    lab.sound(handle)


def test_redelivery_alone_proves_nothing(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    slow, other = lab.worker(), lab.worker()
    slow.claim(message)

    assert other.deliver(message, redelivered=True) == 0

    assert lab.row(handle, "first")["holder"] == slow.id
    assert flows.ran == []


def test_a_worker_killed_before_its_record_is_found_by_the_sweep_without_redelivery(
    lab: Lab,
) -> None:
    handle = lab.start(flows.chain, 1)
    victim = lab.worker()
    victim.claim(lab.mail.popleft())
    victim.die()

    lab.sweep()
    lab.drain()

    assert handle.result(0) == 1
    assert lab.row(handle, "first")["deaths"] == 1
    lab.sound(handle)


def test_a_worker_killed_inside_an_inline_segment_goes_on_where_it_stood(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    victim, other = lab.worker(), lab.worker()
    [claimed] = victim.claim(message)
    answer = commit(victim.database, attempt_of(victim, claimed, 2), lab.settings)
    assert [row.address.name for row in answer.ordered if row.inline] == ["second"]
    victim.die()

    other.deliver(message, redelivered=True)

    assert handle.result(0) == 1
    assert [name for name, _ in flows.ran] == ["second", "third"]
    assert (lab.row(handle, "first")["attempt"], lab.row(handle, "second")["attempt"]) == (1, 2)
    lab.sound(handle)


def test_an_inline_segment_whose_worker_vanished_is_found_through_its_head(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    victim = lab.worker()
    [claimed] = victim.claim(lab.mail.popleft())
    commit(victim.database, attempt_of(victim, claimed, 2), lab.settings)
    assert lab.row(handle, "second")["attend_at"] is None
    victim.vanish()

    lab.advance(seconds=31)
    lab.sweep()
    lab.sweep()
    lab.drain()

    assert handle.result(0) == 1
    assert lab.row(handle, "second")["deaths"] == 0
    lab.sound(handle)


@pytest.mark.req("E4")
def test_a_message_lost_between_commit_and_publish_is_sent_by_the_unsent_sweep(lab: Lab) -> None:
    handle = lab.start(flows.hop, 1)
    lab.lose = True
    lab.worker().deliver()
    lab.lose = False
    row = lab.row(handle, "apart")
    assert (row["counter_updated"], row["message_sent"], row["dispatch"]) == (True, False, 1)

    assert lab.sweep().messages == []
    lab.advance(seconds=6)
    [message] = lab.sweep().messages

    assert (message.address.name, message.number) == ("apart", 2)
    lab.drain()
    assert handle.result(0) == 4
    lab.sound(handle)


@pytest.mark.req("E4")
def test_a_message_sent_but_not_marked_is_sent_again_and_changes_nothing(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    original = lab.mail[0]
    lab.advance(seconds=6)
    lab.sweep()
    assert [message.number for message in lab.mail] == [1, 2]

    lab.drain()

    assert flows.ran == [("first", 1)]
    assert handle.result(0) == 2
    assert original.address == lab.address(handle, "first")
    lab.sound(handle)


@pytest.mark.req("E4")
def test_a_late_confirm_of_an_older_message_proves_nothing(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    older = lab.mail[0]
    lab.advance(seconds=6)
    [newer] = lab.sweep().messages

    lab.mark(older)
    assert lab.row(handle, "first")["message_sent"] is False
    lab.mark(newer)
    assert lab.row(handle, "first")["message_sent"] is True
    lab.mark(older)
    assert lab.row(handle, "first")["sent"] == 2


def test_a_claim_whose_answer_was_lost_gets_the_same_answer_again(lab: Lab) -> None:
    lab.start(flows.single, 1)
    message, worker = lab.mail.popleft(), lab.worker()

    [once] = worker.claim(message, nonce=77)
    [again] = worker.claim(message, nonce=77)

    assert (once.token, once.attempt) == (again.token, again.attempt) == (1, 1)
    assert worker.claim(message, nonce=78) == []


@pytest.mark.parametrize("name", ["chain", "diamond", "fan"])
def test_a_record_whose_answer_was_lost_gets_the_same_answer_again(lab: Lab, name: str) -> None:
    handle = lab.start(next(flow for flow in flows.ALL if flow.name == name), 2)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    value = [0, 1] if name == "fan" else 3
    attempt = attempt_of(worker, claimed, value, nonce=4711)

    once = commit(worker.database, attempt, lab.settings)
    again = commit(worker.database, attempt, lab.settings)

    assert once.ordered
    assert set(again.ordered) == set(once.ordered)
    lab.sound(handle)


def test_a_worker_gone_for_good_is_replaced_when_its_lease_ends(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    victim = lab.worker()
    victim.claim(lab.mail.popleft())
    victim.vanish()

    lab.advance(seconds=29)
    assert lab.sweep().messages == []
    lab.advance(seconds=2)
    assert len(lab.sweep().messages) == 1
    lab.drain()

    assert handle.result(0) == 2
    assert lab.row(handle, "first")["deaths"] == 0
    lab.sound(handle)


def test_a_stopped_worker_is_fenced_by_its_token(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    stopped = lab.worker()
    [claimed] = stopped.claim(lab.mail.popleft())
    lab.advance(seconds=31)
    lab.sweep()
    lab.drain()
    assert handle.result(0) == 2

    with pytest.raises(LeaseLost, match="no longer held with token 1"):
        commit(stopped.database, attempt_of(stopped, claimed, 99), lab.settings)

    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_worker_whose_lease_ran_out_may_still_record_while_nobody_took_over(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    slow = lab.worker()
    [claimed] = slow.claim(lab.mail.popleft())
    lab.advance(seconds=60)
    lab.sweep()

    commit(slow.database, attempt_of(slow, claimed, 2), lab.settings)

    lab.drain()
    assert handle.result(0) == 2
    assert flows.ran == []
    lab.sound(handle)


def test_a_wiped_broker_is_noticed_when_a_later_message_of_its_queue_was_claimed(lab: Lab) -> None:
    lost = lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())
    worker = lab.worker()
    lab.advance(seconds=61)
    assert lab.sweep().messages == []

    later = lab.start(flows.single, 2)
    worker.deliver()
    beat_claims(lab, worker)
    lab.advance(seconds=31)
    swept = lab.sweep()

    assert [message.address.execution_id for message in swept.messages] == [lost.execution_id]
    lab.drain(worker)
    assert lost.result(0) == 2
    assert later.result(0) == 3


def test_a_wiped_broker_is_noticed_when_nothing_was_claimed_for_ten_minutes(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())

    for _ in range(19):
        lab.advance(seconds=31)
        assert lab.sweep().messages == []
    lab.advance(seconds=31)
    lab.sweep()
    lab.drain()

    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_transaction_whose_connection_died_is_run_again(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.database.hot().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)

    assert handle.result(0) == 2
    assert lab.row(handle, "first")["deaths"] == 0
    lab.sound(handle)


def test_an_outage_of_the_database_kills_nobody(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())
    lab.advance(seconds=300)

    assert lab.sweep(steady=False).messages == []

    assert lab.row(handle, "first")["holder"] == worker.id


def beat_claims(lab: Lab, worker: Worker) -> None:
    """Tell what a worker claimed last, as its beat does."""
    [now] = lab.database.hot().execute("SELECT orchestrator.now()::text").fetchone()
    lab.database.run(incarnations.beat, {worker.id: {lab.settings.queue: [now, now]}})
