"""Races around rows that wait, with two connections and a barrier: whoever wins, nothing hangs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.records import StepMessage
from orchestrator.runtime import events
from tests.runtime import chosen_flows, flows, hard_flows
from tests.runtime.chosen_flows import Approval
from tests.runtime.lab import Lab, Worker, check_sound
from tests.runtime.test_races import at_once, rounds


def taken(lab: Lab, name: str) -> StepMessage:
    [found] = [message for message in lab.mail if message.address.name == name]
    lab.mail.remove(found)
    return found


def deliver(worker: Worker, message: StepMessage) -> Callable[[], int]:
    return lambda: worker.deliver(message)


def sent(lab: Lab, worker: Worker, handle: Handle[object], value: object) -> Callable[[], None]:
    """A send over a connection of its own."""

    def send() -> None:
        messages = worker.database.run(
            events.send,
            lab.catalogue,
            handle.execution_id,
            "manager_ok" if isinstance(value, Approval) else "go",
            value,
            settings=lab.settings,
        )
        lab.post(messages)

    return send


def raise_errors(answers: list[object]) -> None:
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def settle(lab: Lab) -> None:
    """What pumps and sweeps do, but nothing that waits for a long time."""
    for _ in range(3):
        lab.relay()
        lab.drain()
        lab.advance(seconds=6)
        lab.sweep()
    lab.relay()
    lab.drain()


def test_a_signal_and_the_park_of_its_wait(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(chosen_flows.patient, 1)
        one, two = lab.worker(), lab.worker()
        wait = taken(lab, "manager_ok")
        raise_errors(at_once(deliver(one, wait), sent(lab, two, handle, Approval(ok=True))))
        settle(lab)
        assert handle.result(0) == "noted large 1"
        lab.sound(handle)


def test_a_signal_and_the_end_of_the_time_for_it(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(chosen_flows.approved, 1)
        lab.drain()
        lab.advance(days=3, seconds=1)
        lab.sweep()
        one, two = lab.worker(), lab.worker()
        wait = taken(lab, "manager_ok")
        raise_errors(at_once(deliver(one, wait), sent(lab, two, handle, Approval(ok=True))))
        settle(lab)
        assert handle.result(0) in {"large 1", "small 1"}
        lab.sound(handle)


def test_two_signals_at_once_are_both_taken(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(hard_flows.two_waits, 1)
        held = taken(lab, "large")
        lab.drain()
        one, two = lab.worker(), lab.worker()
        raise_errors(at_once(sent(lab, one, handle, "x"), sent(lab, two, handle, "y")))
        lab.drain()
        assert sorted(handle.result(0)) == ["x", "y"]
        lab.drain()
        lab.mail.append(held)
        lab.drain()
        lab.sound(handle)


def test_a_signal_and_the_merge_that_makes_its_wait_lose(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(hard_flows.two_waits, 1)
        large = taken(lab, "large")
        lab.drain()
        one, two = lab.worker(), lab.worker()
        raise_errors(at_once(deliver(one, large), sent(lab, two, handle, "x")))
        settle(lab)
        if handle.view().facts.status is ExecutionStatus.RUNNING:  # the merge has taken the signal
            sent(lab, two, handle, "y")()
            settle(lab)
            assert handle.result(0) == ["x", "y"]
        else:
            assert handle.result(0) == ["large 1", "x"]
        lab.sound(handle)


@pytest.mark.parametrize("wait", ["go", "child"])
def test_the_park_of_a_wait_and_the_merge_that_makes_it_lose(lab: Lab, wait: str) -> None:
    flow = hard_flows.signal_or_large if wait == "go" else hard_flows.call_or_large
    for _ in rounds(lab):
        handle = lab.start(flow, 2)
        waiting, large = taken(lab, wait), taken(lab, "large")
        one, two = lab.worker(), lab.worker()
        raise_errors(at_once(deliver(one, waiting), deliver(two, large)))
        settle(lab)
        assert handle.result(0) == "large 2"
        lab.sound(handle)
        child = lab.row(handle, wait)["child"]
        if child is not None:
            assert lab.client.get(child).facts.finished_at is not None
            check_sound(lab.database.hot(), child)


def test_two_arrivals_at_a_merge(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(chosen_flows.race, 1)
        small, large = taken(lab, "small"), taken(lab, "large")
        one, two = lab.worker(), lab.worker()
        raise_errors(at_once(deliver(one, small), deliver(two, large)))
        settle(lab)
        assert handle.result(0) in {"small 1", "large 1"}
        lab.sound(handle)


@pytest.mark.parametrize("act", ["cancel", "pause"])
def test_the_start_of_a_child_and_the_cancel_or_pause_of_its_parent(lab: Lab, act: str) -> None:
    for _ in rounds(lab):
        handle = lab.start(chosen_flows.parent, 2)
        one = lab.worker()
        call = taken(lab, "child")
        client = lab.client
        raise_errors(at_once(deliver(one, call), lambda: getattr(client, act)(handle.id)))
        settle(lab)
        if act == "pause":
            lab.client.resume(handle.id)
            settle(lab)
            assert handle.result(0) == 22
        else:
            assert handle.view().facts.status is ExecutionStatus.CANCELLED
        lab.sound(handle)
        child = lab.row(handle, "child")["child"]
        if child is not None:
            assert lab.client.get(child).facts.finished_at is not None
            check_sound(lab.database.hot(), child)


@pytest.mark.parametrize("act", ["cancel", "pause"])
def test_the_end_of_a_child_and_the_cancel_or_pause_of_its_parent(lab: Lab, act: str) -> None:
    for _ in rounds(lab):
        handle = lab.start(chosen_flows.parent, 2)
        one = lab.worker()
        one.deliver(taken(lab, "child"))
        client = lab.client
        last = taken(lab, "fail_if_odd")
        raise_errors(at_once(deliver(one, last), lambda: getattr(client, act)(handle.id)))
        settle(lab)
        if act == "pause":
            lab.client.resume(handle.id)
            settle(lab)
            assert handle.result(0) == 22
        else:
            assert handle.view().facts.finished_at is not None
        lab.sound(handle)
        check_sound(lab.database.hot(), lab.row(handle, "child")["child"])


def test_the_end_of_a_child_told_by_two_at_once(lab: Lab) -> None:
    for _ in rounds(lab):
        handles = [lab.start(chosen_flows.parent, 2) for _ in range(3)]
        one, two = lab.worker(), lab.worker()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(events, "deliver_all", lambda *_: ([], 0))
            lab.drain(one)

        def relay(worker: Worker) -> Callable[[], None]:
            return lambda: lab.post(
                events.deliver_all(worker.database, lab.catalogue, lab.settings)[0]
            )

        raise_errors(at_once(relay(one), relay(two)))
        lab.drain()
        assert [handle.result(0) for handle in handles] == [22, 22, 22]
        for handle in handles:
            lab.sound(handle)


def test_the_retry_of_a_parent_and_the_end_of_its_closing_child(lab: Lab) -> None:
    for _ in rounds(lab):
        flows.behave.clear()
        handle = lab.start(hard_flows.beside_child, 2)
        one, two = lab.worker(), lab.worker()
        one.deliver(taken(lab, "child"))
        [running] = two.claim(taken(lab, "fail_if_odd"))

        def fail() -> None:
            raise ValueError("no")

        flows.behave["other"] = fail
        one.deliver(taken(lab, "other"))
        flows.behave.clear()
        client = lab.client
        client.retry(handle.id)
        again = taken(lab, "child")
        found = lab.database.run(lab.catalogue.definition, running.definition_id)
        raise_errors(at_once(deliver(one, again), lambda: two.delivery._segment(found, running)))
        settle(lab)
        settle(lab)
        assert handle.result(0) == 21 + 200
        lab.sound(handle)
        check_sound(lab.database.hot(), lab.row(handle, "child")["child"])
