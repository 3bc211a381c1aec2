"""When a confirmed message is presumed lost, and how often a waiting row is looked at."""

from __future__ import annotations

from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store import sweeping
from tests.runtime import flows
from tests.runtime.lab import Lab


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
