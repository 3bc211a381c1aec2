"""Races with two connections and a barrier: whoever wins, the laws hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import StepMessage
from orchestrator.runtime import operate, sweeps
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.outcomes import Expanded
from orchestrator.store import moves
from orchestrator.store.database import Database
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker
from tests.runtime.test_crash_table import attempt_of

ROUNDS = 8


def rounds(lab: Lab) -> Iterator[int]:
    """The rounds of a race, each with workers of its own."""
    for number in range(ROUNDS):
        yield number
        lab.retire()


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Run acts in threads that all start at one barrier; an exception is an answer too."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def test_two_workers_claim_one_message_and_one_gets_it(lab: Lab) -> None:
    for _ in rounds(lab):
        lab.start(flows.single, 1)
        message = lab.mail.popleft()
        one, two = lab.worker(), lab.worker()

        answers = at_once(lambda: one.claim(message, nonce=1), lambda: two.claim(message, nonce=2))

        assert sorted(len(answer) for answer in answers) == [0, 1]


def test_a_claim_waits_for_a_mark_or_a_sweep_that_holds_the_row(lab: Lab) -> None:
    for _ in rounds(lab):
        lab.start(flows.single, 1)
        message, worker, other = lab.mail.popleft(), lab.worker(), Database(lab.url)
        held, claimed = Barrier(2), []

        def hold(message: StepMessage = message, other: Database = other) -> None:
            with other.hot().transaction():
                moves.mark_sent(other.hot(), [message])
                held.wait()
                time.sleep(0.05)

        def claim(message: StepMessage = message, worker: Worker = worker) -> None:
            held.wait()
            claimed.extend(worker.claim(message))

        at_once(hold, claim)

        assert len(claimed) == 1, "the message is gone and nobody has the step"
        other.close()


@pytest.mark.req("E8")
def test_the_last_two_arrivals_of_a_join_at_once_fire_it_once_and_settle_once(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.diamond, 1)
        one, two = lab.worker(), lab.worker()
        [claimed] = one.claim(lab.mail.popleft(), nonce=11)
        apart = attempt_of(one, claimed, 2)
        lab.post(_messages(lab, handle, commit(one.database, _alone(apart), lab.settings)))
        [left] = one.claim(lab.mail.popleft(), nonce=12)
        [right] = two.claim(lab.mail.popleft(), nonce=13)

        answers = at_once(
            lambda: commit(one.database, attempt_of(one, left, 4), lab.settings),
            lambda: commit(two.database, attempt_of(two, right, -1), lab.settings),
        )

        fired = [row for answer in answers for row in answer.ordered]
        assert [row.address.name for row in fired] == ["add"]
        lab.sound(handle)
        one.die()
        two.die()
        lab.sweep()
        lab.drain()
        assert handle.result(0) == 3
        lab.sound(handle)


def test_the_last_items_of_a_fan_out_at_once_fire_it_once(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.fan, 3)
        worker = lab.worker()
        [numbers] = worker.claim(lab.mail.popleft(), nonce=21)
        listed = _alone(attempt_of(worker, numbers, [0, 1, 2]))
        lab.post(_messages(lab, handle, commit(worker.database, listed, lab.settings)))
        [each_row] = worker.claim(lab.mail.popleft(), nonce=22)
        expanded = _alone(attempt_of(worker, each_row), outcome=Expanded([0, 1, 2]))
        answer = commit(worker.database, expanded, lab.settings)
        crew = [lab.worker() for _ in range(3)]
        lab.post(_messages(lab, handle, answer))
        claims = [
            member.claim(lab.mail.popleft(), nonce=30 + i)[0] for i, member in enumerate(crew)
        ]

        answers = at_once(
            *(
                lambda member=member, claimed=claimed: commit(
                    member.database, attempt_of(member, claimed, 2), lab.settings
                )
                for member, claimed in zip(crew, claims, strict=True)
            )
        )

        assert not [answer for answer in answers if isinstance(answer, Exception)], answers
        fired = [row.address for answer in answers for row in answer.ordered]
        assert [(address.name, address.scope) for address in fired] == [("double", "")]
        lab.sound(handle)


def test_a_record_and_its_double_at_once_change_the_counters_once(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        worker, ghost = lab.worker(), Database(lab.url)
        [claimed] = worker.claim(lab.mail.popleft())
        same = attempt_of(worker, claimed, 2, nonce=5)

        answers = at_once(
            lambda: commit(worker.database, same, lab.settings),
            lambda: commit(ghost, same, lab.settings),
        )

        assert not any(isinstance(answer, Exception) for answer in answers)
        lab.sound(handle)
        assert handle.result(0) == 2
        ghost.close()


def test_a_takeover_and_the_late_record_at_once_let_one_win(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        slow, heir = lab.worker(), lab.worker()
        [claimed] = slow.claim(lab.mail.popleft())
        lab.advance(seconds=31)
        swept = lab.sweep().messages
        [again] = [message for message in swept if message.address == claimed.address]
        lab.mail.clear()

        answers = at_once(
            lambda: commit(slow.database, attempt_of(slow, claimed, 2), lab.settings),
            lambda: heir.claim(again, nonce=8),
        )

        recorded = not isinstance(answers[0], Exception)
        assert isinstance(answers[0], LeaseLost) or recorded
        assert recorded == (answers[1] == [])
        lab.sound(handle)


@pytest.mark.req("E12")
def test_cancel_and_the_last_record_at_once_end_the_execution_once(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        worker, operator = lab.worker(), Database(lab.url, clock_offset=lab.offset)
        [claimed] = worker.claim(lab.mail.popleft())

        at_once(
            lambda: commit(worker.database, attempt_of(worker, claimed, 2), lab.settings),
            lambda: operator.run(operate.cancel, handle.execution_id, lab.settings, actor="ann"),
        )

        assert handle.view().facts.status in {ExecutionStatus.SUCCEEDED, ExecutionStatus.CANCELLED}
        assert lab.row(handle, "first")["status"] == "succeeded"
        lab.sound(handle)
        operator.close()


@pytest.mark.req("E12")
def test_pause_and_a_record_at_once_leave_nothing_dispatched_behind(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.hop, 1)
        worker, operator = lab.worker(), Database(lab.url, clock_offset=lab.offset)
        [claimed] = worker.claim(lab.mail.popleft())

        at_once(
            lambda: commit(worker.database, attempt_of(worker, claimed, 2), lab.settings),
            lambda: operator.run(operate.pause, handle.execution_id, actor="ann"),
        )
        lab.mail.clear()
        lab.client.resume(handle.id)
        lab.drain()

        assert handle.result(0) == 4
        lab.sound(handle)
        operator.close()


def test_two_sweeps_at_once_send_one_message_per_step(lab: Lab) -> None:
    handles = [lab.start(flows.single, 1) for _ in range(20)]
    lab.mail.clear()
    lab.advance(seconds=6)
    others = [Database(lab.url, clock_offset=lab.offset) for _ in range(2)]

    swept: Sequence[sweeps.Swept] = at_once(
        *(
            lambda other=other: other.run(sweeps.redrive, lab.settings, steady=True)
            for other in others
        )
    )

    sent = [message.address for one in swept for message in one.messages]
    assert sorted(sent) == sorted(lab.address(handle, "first") for handle in handles)
    for other in others:
        other.close()


def test_two_retries_by_operators_at_once_retry_once(lab: Lab) -> None:
    def fail() -> None:
        raise ValueError("no")

    for _ in rounds(lab):
        flows.behave["first"] = fail
        handle = lab.start(flows.single, 1)
        lab.drain()
        flows.behave.clear()
        operators = [Database(lab.url, clock_offset=lab.offset) for _ in range(2)]

        answers = at_once(
            *(
                lambda own=own: own.run(
                    operate.retry, lab.catalogue, handle.execution_id, lab.settings, actor="ann"
                )
                for own in operators
            )
        )

        assert sum(isinstance(answer, Exception) for answer in answers) == 1
        lab.sound(handle)
        for own in operators:
            own.close()


def _alone(attempt: Any, **changes: Any) -> Any:
    """The same record by a worker that goes on with nothing itself."""
    return replace(attempt, may_continue=lambda _name, _scope: False, **changes)


def _messages(lab: Lab, handle: Any, answer: Any) -> Any:
    registered = lab.database.run(lab.catalogue.registered, handle.view().facts.flow)
    return of_ordered(registered, answer.ordered, None)
