"""A dead letter is a hint: the step gets another message after a pause, and is not condemned."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from orchestrator.lifecycle import StepStatus
from orchestrator.runtime import quarantine, sweeps
from orchestrator.runtime.foreign import ForeignMessage
from tests.runtime import flows
from tests.runtime.lab import Lab


def put_off(lab: Lab) -> bool:
    """The oldest message died."""
    return lab.database.run(sweeps.put_off, lab.mail.popleft(), lab.settings)


def test_a_step_whose_message_died_gets_another_after_a_pause(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    assert put_off(lab)

    assert lab.sweep().messages == []
    lab.advance(seconds=6)
    [again] = lab.sweep().messages

    assert again.number == 2
    lab.drain()
    assert handle.result(0) == 2
    assert lab.row(handle, "first")["deaths"] == 0
    lab.sound(handle)


def test_the_pause_doubles_with_every_message_that_died_and_nobody_is_condemned(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    pauses = []
    for _ in range(9):
        assert put_off(lab)
        [now] = lab.database.hot().execute("SELECT orchestrator.now()").fetchone()
        pauses.append(round((lab.row(handle, "first")["due_at"] - now) / timedelta(seconds=1)))
        lab.advance(seconds=pauses[-1] + 1)
        lab.sweep()

    assert pauses == [5, 10, 20, 40, 80, 160, 320, 320, 320]
    lab.drain()
    assert handle.result(0) == 2


def test_a_late_letter_changes_nothing(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    old = lab.mail[0]
    lab.advance(seconds=6)
    lab.sweep()
    assert lab.mail[1].number == 2

    assert not put_off(lab)
    assert lab.row(handle, "first")["due_at"] is None
    worker = lab.worker()
    worker.claim(lab.mail[0])
    assert not lab.database.run(sweeps.put_off, lab.mail[0], lab.settings)
    assert lab.row(handle, "first")["status"] == StepStatus.RUNNING
    worker.die()
    lab.sweep()
    lab.drain()
    assert not lab.database.run(sweeps.put_off, old, lab.settings)
    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_retry_keeps_its_due_time_when_an_old_message_dies(lab: Lab) -> None:
    handle = lab.start(flows.retried, 1)
    message = lab.mail.popleft()

    def fail() -> None:
        raise ValueError

    flows.behave["shaky"] = fail
    lab.worker().deliver(message)
    due = lab.row(handle, "shaky")["due_at"]

    assert not lab.database.run(sweeps.put_off, message, lab.settings)
    assert lab.row(handle, "shaky")["due_at"] == due


def test_a_letter_that_is_no_message_of_ours_is_kept_whole(lab: Lab) -> None:
    letter = ForeignMessage(
        queue="orchestrator", body=b"\xff\x00", delivery=uuid4(), headers={"nul": "a\x00"}
    )
    number = lab.database.run(sweeps.set_aside, letter, "it is no message of ours")

    kept = lab.database.run(quarantine.show, number)
    assert (kept.queue, kept.reason, kept.body) == ("orchestrator", "dead letter", b"\xff\x00")
    assert kept.execution_id is None
