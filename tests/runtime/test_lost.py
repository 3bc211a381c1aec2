"""When a confirmed message is presumed lost, and how often a waiting row is looked at."""

from __future__ import annotations

from uuid import UUID

from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store import incarnations, sweeping
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker


def claims(lab: Lab, worker: Worker, *, dispatched: float) -> None:
    """The beat of a worker that just claimed a message wanted so many seconds ago."""
    [wanted, now] = (
        lab.database.hot()
        .execute(
            "SELECT (orchestrator.now() - make_interval(secs => %s))::text,"
            " orchestrator.now()::text",
            (dispatched,),
        )
        .fetchone()
    )
    lab.database.run(incarnations.beat, {worker.id: {lab.settings.queue: [wanted, now]}})


def test_rows_of_a_deep_backlog_are_looked_at_ever_more_seldom_and_loss_is_still_found(
    lab: Lab,
) -> None:
    handle = lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())
    worker = lab.worker()
    looks = 0
    for _ in range(240):  # two hours, in which the queue moves on before this row
        lab.advance(seconds=30)
        claims(lab, worker, dispatched=10_000)
        swept = lab.sweep()
        assert swept.messages == []
        looks += swept.looked_at
    assert looks < 60

    claims(lab, worker, dispatched=0)
    found = 0
    while not lab.sweep().messages:
        lab.advance(seconds=30)
        found += 30

    assert found <= 150
    lab.drain()
    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_silent_queue_is_found_out_when_its_time_has_come_however_old_the_row(lab: Lab) -> None:
    lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())
    waited = 0
    while not lab.sweep().messages:
        lab.advance(seconds=5)
        waited += 5

    assert 600 <= waited <= 610


def test_what_a_worker_that_ended_long_ago_had_claimed_says_nothing(lab: Lab) -> None:
    lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())
    gone, here = lab.worker(), lab.worker()
    claims(lab, gone, dispatched=-3600)
    ended(lab, gone.id)
    lab.advance(seconds=700)
    claims(lab, here, dispatched=10_000)

    assert lab.sweep().messages == []


def ended(lab: Lab, incarnation: UUID) -> None:
    lab.database.run(incarnations.end, incarnation, died=False, reason="stopped")


def test_a_message_that_died_with_its_worker_on_a_broker_of_files_is_replaced_by_the_next(
    lab: Lab,
) -> None:
    handle = lab.start(flows.single, 1)
    lab.mark(lab.mail.popleft())
    worker = lab.worker()
    worker.incarnation._session.close()

    DeathWatch(confirmed_broker=False).declare(lab.database.hot(), worker.id, "SIGKILL")
    [message] = lab.sweep().messages

    assert (message.number, lab.row(handle, "first")["dispatch"]) == (2, 2)
    lab.drain()
    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_message_that_a_worker_reserved_for_too_long_is_replaced_by_the_next(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    reserved = lab.mail.popleft()
    lab.mark(reserved)

    assert lab.database.run(sweeping.offer_again, reserved.address, reserved.number)
    assert not lab.database.run(sweeping.offer_again, reserved.address, reserved.number)
    [message] = lab.sweep().messages

    assert (message.number, lab.row(handle, "first")["dispatch"]) == (2, 2)
