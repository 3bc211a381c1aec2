"""Processes that end with a step in their hands: it is offered again, and counted right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import StepMessage
from orchestrator.runtime import attempts
from orchestrator.store import health, incarnations
from tests.runtime import flows
from tests.runtime.lab import Crash, Lab, Worker

#: A row that nobody holds is offered again by then, without any rule for lost messages.
SOON = 40


@dataclass
class Absorbed:
    """A step run whose newest message came while it was held, and is gone for good."""

    handle: Handle[Any]
    holder: Worker


@pytest.fixture
def absorbed(lab: Lab) -> Absorbed:
    """A message came back and met a sweep's newer one: the row was claimed by the older."""
    handle = lab.start(flows.single, 1)
    older = lab.mail.popleft()
    first, holder, other = lab.worker(), lab.worker(), lab.worker()
    first.claim(older)
    first.incarnation.end(told=True)
    [newer] = lab.sweep().messages
    holder.claim(older, nonce=2)
    assert other.deliver(newer) == 0
    lab.mark(newer)
    lab.mail.clear()
    return Absorbed(handle, holder)


def offered(lab: Lab) -> StepMessage:
    """The message that a sweep sends soon, and the seconds it took."""
    for _ in range(SOON):
        found = lab.sweep().messages
        if found:
            return found[0]
        lab.advance(seconds=1)
    raise AssertionError("nobody holds the step, and no sweep offers it again")


def died(lab: Lab, worker: Worker) -> bool:
    row = lab.database.hot().execute(
        "SELECT died FROM orchestrator.workers WHERE id = %s", (worker.id,)
    )
    return bool(row.fetchone()[0])


def test_a_step_whose_holder_left_is_offered_again_though_its_newest_message_was_absorbed(
    lab: Lab, absorbed: Absorbed
) -> None:
    absorbed.holder.incarnation.end()

    lab.worker().deliver(offered(lab))

    assert absorbed.handle.result(0) == 2
    lab.sound(absorbed.handle)


def test_a_step_whose_holder_died_is_offered_again_though_its_newest_message_was_absorbed(
    lab: Lab, absorbed: Absorbed
) -> None:
    absorbed.holder.die()

    lab.worker().deliver(offered(lab))

    assert absorbed.handle.result(0) == 2
    assert lab.row(absorbed.handle, "first")["deaths"] == 1


def test_a_step_that_was_handed_back_is_offered_again_though_its_newest_message_was_absorbed(
    lab: Lab, absorbed: Absorbed
) -> None:
    address = lab.address(absorbed.handle, "first")
    assert lab.database.run(attempts.hand_back, absorbed.holder.id, [address]) == 1

    lab.worker().deliver(offered(lab))

    assert absorbed.handle.result(0) == 2


def test_a_message_that_came_after_its_lease_was_renewed_late_is_counted_on_by_nobody(
    lab: Lab,
) -> None:
    handle = lab.start(flows.single, 1)
    holder, other = lab.worker(), lab.worker()
    [claimed] = holder.claim(lab.mail.popleft())
    lab.advance(seconds=31)
    [message] = lab.sweep().messages
    lab.database.run(attempts.renew, [(claimed.address, claimed.token)], lab.settings)
    assert other.deliver() == 0
    lab.mark(message)

    holder.incarnation.end()
    lab.worker().deliver(offered(lab))

    assert handle.result(0) == 2
    lab.sound(handle)


def test_a_message_that_came_during_a_pause_is_counted_on_by_nobody(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.worker().claim(lab.mail.popleft())
    lab.workers[-1].die()
    [message] = lab.sweep().messages
    lab.client.pause(handle.id)
    assert lab.worker().deliver() == 0
    lab.mark(message)
    lab.sweep()

    lab.client.resume(handle.id)
    lab.worker().deliver(offered(lab))

    assert handle.result(0) == 2


def test_who_leaves_by_itself_with_a_step_in_its_hands_has_died_of_it(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())

    worker.incarnation.end()
    lab.worker().deliver(offered(lab))

    assert died(lab, worker)
    assert lab.row(handle, "first")["deaths"] == 1
    [(reason,)] = lab.database.hot().execute(
        "SELECT reason FROM orchestrator.workers WHERE id = %s", (worker.id,)
    )
    assert reason == "stopped, with 1 step run in its hands"


def test_who_leaves_in_the_middle_of_a_chain_has_died_of_the_step_that_it_held(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    flows.behave["second"] = leave_from(worker)
    with pytest.raises(Crash):
        worker.deliver()
    flows.behave.clear()

    lab.sweep()
    lab.worker().deliver(offered(lab))

    assert died(lab, worker)
    assert (lab.row(handle, "first")["deaths"], lab.row(handle, "second")["deaths"]) == (0, 1)
    assert handle.result(0) == 1


def test_who_was_told_to_leave_has_not_died_of_what_it_still_held(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    worker = lab.worker()
    worker.claim(lab.mail.popleft())

    worker.incarnation.end(told=True)
    lab.worker().deliver(offered(lab))

    assert not died(lab, worker)
    assert lab.row(handle, "first")["deaths"] == 0
    assert handle.result(0) == 2


def test_who_leaves_empty_handed_has_not_died(lab: Lab) -> None:
    lab.start(flows.fan, 3)
    worker = lab.worker()
    lab.drain(worker)
    lab.start(flows.single, 1)
    given_back = worker.claim(lab.mail.popleft())
    lab.database.run(attempts.hand_back, worker.id, [one.address for one in given_back])

    worker.incarnation.end()

    assert not died(lab, worker)


def test_a_step_that_always_makes_its_process_leave_is_set_aside(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    message = lab.mail.popleft()
    for _ in range(lab.settings.max_deaths):
        worker = lab.worker()
        assert worker.claim(message)
        worker.incarnation.end()
        message = offered(lab)
        lab.mail.clear()

    lab.worker().deliver(message)

    row = lab.row(handle, "first")
    assert (row["status"], row["error"]["kind"]) == ("failed", "Quarantined")
    assert flows.ran == []
    lab.sound(handle)


def test_the_living_that_were_taken_for_dead_have_not_died_of_what_they_hold(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.database.run(incarnations.end, worker.id, died=True, reason="its lock is free")
    worker.incarnation.tend([(claimed.address, claimed.token)])

    lab.worker().deliver(offered(lab))

    assert lab.row(handle, "first")["deaths"] == 0


def test_doctor_finds_a_running_step_that_waits_for_a_message_of_before_its_claim(
    lab: Lab, absorbed: Absorbed
) -> None:
    what = "running steps that count on a message of before their claim"
    assert what not in {found.what for found in lab.database.run_calm(health.unsound)}
    lab.database.hot().execute("UPDATE orchestrator.steps SET claimed = 1 WHERE dispatch = 2")

    assert what in {found.what for found in lab.database.run_calm(health.unsound)}


def leave_from(worker: Worker) -> Callable[[], None]:
    def leave() -> None:
        worker.incarnation.end()
        raise Crash

    return leave


class LibraryExit(BaseException):
    """What a library raises that wants to get past every `except Exception`."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, GeneratorExit, SystemExit, LibraryExit])
def test_whatever_a_body_raises_is_a_failure_of_its_attempt(
    lab: Lab, raised: type[BaseException]
) -> None:
    def behave() -> None:
        raise raised("enough")

    flows.behave["first"] = behave
    handle = lab.start(flows.chain, 1)

    lab.worker().deliver()

    row = lab.row(handle, "first")
    assert (row["status"], row["deaths"]) == ("failed", 0)
    assert (row["error"]["kind"], row["error"]["message"]) == (raised.__name__, "enough")
    assert handle.view().facts.status is ExecutionStatus.FAILED
    lab.sound(handle)


def test_an_attempt_that_is_cut_off_by_the_end_of_its_process_has_not_failed(lab: Lab) -> None:
    def end() -> None:
        raise Crash

    flows.behave["first"] = end
    handle = lab.start(flows.single, 1)

    with pytest.raises(Crash):
        lab.worker().deliver()

    assert lab.row(handle, "first")["status"] == "running"
