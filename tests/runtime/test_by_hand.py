"""Ending steps by hand, editing the input, and acts whose answer was lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.client import Orchestrator
from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.runtime import operate, start
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.delivery import commit
from orchestrator.store.database import Database
from tests.runtime import chosen_flows, flows, hard_flows
from tests.runtime.chosen_flows import Approval
from tests.runtime.lab import Lab
from tests.runtime.test_crash_table import attempt_of


def fail() -> None:
    raise ValueError("the gateway said no")


def ran() -> list[str]:
    return [name for name, _ in flows.ran]


def audit(lab: Lab, handle: Any) -> list[tuple[str, str, dict[str, Any]]]:
    rows = lab.database.hot().execute(
        "SELECT actor, act, detail FROM orchestrator.audit WHERE execution_id = %s ORDER BY id",
        (handle.execution_id,),
    )
    return [(row[0], row[1], row[2]) for row in rows.fetchall()]


@pytest.fixture
def failed(lab: Lab) -> Any:
    """A chain whose second step failed."""
    flows.behave["second"] = fail
    handle = lab.start(flows.chain, 1)
    lab.drain()
    flows.behave.clear()
    flows.ran.clear()
    return handle


@pytest.mark.req("E12")
def test_a_failed_step_is_completed_by_hand_and_the_execution_goes_on(
    lab: Lab, failed: Any
) -> None:
    lab.client.complete(failed.id, "second", output=40, actor="ann")
    lab.sound(failed)
    lab.drain()

    assert ran() == ["third"]
    assert failed.result(0) == 37
    lab.sound(failed)
    [(actor, act, detail)] = audit(lab, failed)
    assert (actor, act, detail["steps"], detail["output"]) == ("ann", "complete", ["second"], 40)
    assert [line["kind"] for line in failed.view().history][-3:] == [
        *("step succeeded", "step succeeded", "succeeded")
    ]


def test_the_last_step_completed_by_hand_settles_the_execution(lab: Lab) -> None:
    flows.behave["first"] = fail
    handle = lab.start(flows.single, 1)
    lab.drain()

    lab.client.complete(handle.id, "first", output=7)

    assert handle.result(0) == 7
    lab.sound(handle)


def test_a_skipped_step_gives_nothing_or_what_the_operator_gives(lab: Lab, failed: Any) -> None:
    lab.client.skip(failed.id, "second", output=5)
    lab.drain()

    assert failed.result(0) == 2
    [(_, act, _)] = audit(lab, failed)
    assert act == "skip"


def test_a_step_with_the_wrong_output_is_left_as_it_was(lab: Lab, failed: Any) -> None:
    with pytest.raises(InvalidInput, match="output of step 'second'"):
        lab.client.complete(failed.id, "second", output="no number")

    assert failed.view().facts.status is ExecutionStatus.FAILED
    assert audit(lab, failed) == []
    lab.sound(failed)


def test_a_step_that_runs_is_taken_from_its_worker_whose_outcome_is_refused(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())

    lab.client.complete(handle.id, "first", output=2)
    lab.sound(handle)
    with pytest.raises(Conflict):
        commit(worker.database, attempt_of(worker, claimed, 9), lab.settings)
    lab.drain()

    assert handle.result(0) == 1
    lab.sound(handle)


def test_one_item_of_a_fan_out_is_completed_by_hand(lab: Lab) -> None:
    handle = lab.start(flows.fan, 3)
    worker = lab.worker()
    worker.deliver(lab.mail.popleft())
    ready = [step for step in handle.view().steps if step.status is StepStatus.READY]
    place = ready[0].address

    lab.client.complete(handle.id, f"{place.scope}/{place.name}", output=100)
    lab.drain()

    assert handle.result(0) == 100 + sum(2 * n for n in range(3) if f"double[{n}]" != place.scope)
    lab.sound(handle)


def test_a_paused_execution_counts_what_is_completed_and_sends_nothing(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    lab.client.pause(handle.id)
    lab.mail.clear()

    lab.client.complete(handle.id, "first", output=2)

    assert not lab.mail
    lab.sound(handle)
    lab.client.resume(handle.id)
    lab.drain()
    assert handle.result(0) == 1


def without_the_code(lab: Lab) -> Orchestrator:
    """An operator's machine: it has the database and none of the flows."""
    return Orchestrator(
        lab.database, lab.settings, Catalogue(), publish=lab.post, collect=lambda _seconds: []
    )


def test_a_failed_fan_out_is_skipped_with_an_empty_list(lab: Lab) -> None:
    handle = lab.start(flows.told, ["a", "b"])
    without_the_code(lab).complete(handle.id, "all_of", output="no list")  # of a type not known
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.FAILED

    with pytest.raises(Conflict, match="is a fan-out"):
        lab.client.complete(handle.id, "same", output=3)
    lab.client.skip(handle.id, "same")

    assert handle.result(0) == ["no list", []]
    lab.sound(handle)


@pytest.mark.req("E12")
def test_a_ready_step_is_failed_by_hand_with_its_reason(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)

    lab.client.fail(handle.id, "first", reason="the order is void", actor="ann")

    assert handle.view().facts.status is ExecutionStatus.FAILED
    error = lab.row(handle, "first")["error"]
    assert (error["kind"], error["message"]) == ("FailedByHand", "the order is void")
    lab.drain()
    assert ran() == []
    lab.sound(handle)


def test_what_cannot_be_ended_by_hand_is_refused_with_the_way_out(lab: Lab, failed: Any) -> None:
    refused: list[tuple[Any, str]] = [
        (lambda: lab.client.complete(failed.id, "first", output=1), "has succeeded"),
        (lambda: lab.client.complete(failed.id, "secnd", output=1), "did you mean 'second'"),
        (lambda: lab.client.complete(failed.id, "third", output=1), "not been ordered yet"),
        (lambda: lab.client.fail(failed.id, "second"), "only a step of a running one"),
        (lambda: lab.client.complete(failed.id, "a/b", output=1), "is not a scope"),
    ]
    for act, sentence in refused:
        with pytest.raises((Conflict, NotFound, InvalidInput), match=sentence):
            act()
    lab.client.retry(failed.id)
    lab.drain()
    with pytest.raises(Conflict, match="is succeeded, so nobody can complete"):
        lab.client.complete(failed.id, "second", output=1)
    waiting = lab.start(flows.diamond, 1)
    worker = lab.worker()
    worker.deliver()
    with pytest.raises(Conflict, match="it waits for others"):
        lab.client.complete(waiting.id, "add", output=1)


@pytest.mark.req("E3")
def test_a_retry_with_another_input_runs_only_what_failed_under_new_keys(lab: Lab) -> None:
    flows.behave["add"] = fail
    handle = lab.start(flows.pairs, [1, 2])
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.FAILED
    broken = [step.address for step in handle.view().steps if step.status is StepStatus.FAILED]
    flows.behave.clear()
    flows.ran.clear()

    lab.client.retry(handle.id, input={"values": [1, 2, 3]}, actor="ann")
    lab.sound(handle)
    lab.drain()

    lab.sound(handle)
    assert set(ran()) <= {"add", "second", "third", "total"}
    assert ("second", 1) not in flows.ran, "what had succeeded is not run again"
    rows = {(step.address.name, step.address.scope): step for step in handle.view().steps[-3:]}
    assert all(lab.row(handle, one.name, one.scope)["status"] == "superseded" for one in broken)
    assert rows
    [(actor, act, detail)] = audit(lab, handle)
    assert (actor, act) == ("ann", "rerun")
    assert detail["input"] == {"old": {"values": [1, 2]}, "new": {"values": [1, 2, 3]}}


def test_an_edited_input_is_read_by_the_steps_that_run_again(lab: Lab) -> None:
    flows.behave["second"] = fail
    handle = lab.start(flows.pair, 5)
    lab.drain()
    flows.behave.clear()
    flows.ran.clear()

    lab.client.retry(handle.id, input={"n": 50}, from_steps=["second"])
    lab.drain()

    assert ("second", 50) in flows.ran
    assert handle.result(0) in {100 + 2, 100 + 47}
    lab.sound(handle)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"m": 1}, "no parameter 'm'"),
        ({"n": "many"}, "parameter 'n'"),
        ({}, "changes nothing"),
        ([1], "expected an object"),
    ],
)
def test_an_edited_input_that_does_not_fit_changes_nothing(
    lab: Lab, failed: Any, changes: Any, sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        lab.client.retry(failed.id, input=changes)

    assert failed.view().facts.status is ExecutionStatus.FAILED
    assert audit(lab, failed) == []


def test_an_act_whose_answer_was_lost_is_found_done_when_it_is_repeated(
    lab: Lab, failed: Any
) -> None:
    act = start.new_id()
    given = (lab.catalogue, failed.execution_id, lab.settings)
    messages = lab.database.run(operate.retry, *given, actor="ann", act=act)

    again = lab.database.run(operate.retry, *given, actor="ann", act=act)

    assert [message.id for message in again] == [message.id for message in messages]
    assert len(audit(lab, failed)) == 1
    with pytest.raises(Conflict):
        lab.database.run(operate.retry, *given, actor="ann", act=start.new_id())
    cancelled = start.new_id()
    for _ in range(2):
        assert lab.database.run(
            operate.cancel, failed.execution_id, lab.settings, actor="ann", act=cancelled
        )
    lab.sound(failed)


def test_names_that_no_database_holds_are_refused_in_a_sentence(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)

    with pytest.raises(InvalidInput, match="the actor"):
        lab.client.cancel(handle.id, actor="a\0b")
    with pytest.raises(InvalidInput, match="the key"):
        lab.client.find("single", "a\0b")
    json.dumps(audit(lab, handle))
    assert audit(lab, handle) == []


def test_a_signal_that_never_comes_is_completed_by_hand(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    [waiting] = [step for step in handle.view().steps if step.status is StepStatus.READY]

    lab.client.complete(handle.id, waiting.address.name, output={"ok": False, "by": "ann"})
    lab.drain()

    assert handle.result(0) == "noted None"
    lab.sound(handle)


@pytest.mark.parametrize(
    ("flow", "place", "output"),
    [
        (chosen_flows.patient, "manager_ok", {"ok": "perhaps"}),
        (chosen_flows.patient, "manager_ok", 7),
        (hard_flows.waiting_items, "waiting_item[0]/number", "seven"),
        (chosen_flows.parent, "child", "seven"),
    ],
)
def test_what_stands_for_a_signal_or_a_child_must_be_of_its_type(
    lab: Lab, flow: Any, place: str, output: Any
) -> None:
    handle = lab.start(flow, 2)
    worker = lab.worker()
    worker.deliver()
    if place.endswith("number"):
        lab.drain(worker)
    name = place.rpartition("/")[2]

    for act in (lab.client.complete, lab.client.skip):
        with pytest.raises(InvalidInput, match=f"output of step '{name}'"):
            act(handle.id, place, output=output)

    assert audit(lab, handle) == []
    lab.sound(handle)


def test_the_default_of_a_signal_may_stand_for_it_though_it_is_of_another_type(lab: Lab) -> None:
    handle = lab.start(hard_flows.or_none, 1)
    lab.drain()

    with pytest.raises(InvalidInput, match="output of step 'go'"):
        lab.client.complete(handle.id, "go", output="later")
    lab.client.complete(handle.id, "go", output="never")
    lab.drain()

    assert handle.result(0) == "noted never"


def test_a_signal_of_a_flow_that_is_not_known_here_is_completed_as_it_is(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()

    without_the_code(lab).complete(handle.id, "manager_ok", output={"ok": False, "by": "ann"})
    lab.drain()

    assert handle.result(0) == "noted None"


def test_a_step_whose_failure_was_taken_is_refused_with_who_took_it(lab: Lab) -> None:
    flows.behave["risky"] = fail
    excused = lab.start(chosen_flows.excused, 1)
    lab.drain()
    lab.advance(seconds=2)
    lab.sweep()

    def while_its_handler_runs() -> None:
        with pytest.raises(Conflict, match=r"its handler risky_on_error took it; .* --from risky"):
            lab.client.complete(excused.id, "risky", output="x")

    flows.behave["excuse"] = while_its_handler_runs
    lab.drain()
    assert excused.result(0) == "noted excused ValueError: the gateway said no"

    tolerant = lab.start(hard_flows.branched_items, 2)
    worker = lab.worker()
    while hasty := [message for message in lab.mail if message.queue != "slow"]:
        lab.mail.remove(hasty[0])
        worker.deliver(hasty[0])
    failed = "branched_item[1]/fail_if_odd"
    with pytest.raises(Conflict, match=r"goes on without the item branched_item\[1\]; .* --from"):
        lab.client.skip(tolerant.id, failed)
    assert audit(lab, tolerant) == []
    lab.sound(tolerant)


def test_a_step_that_lost_or_was_skipped_is_refused_with_the_reason(lab: Lab) -> None:
    race = lab.start(hard_flows.two_waits, 1)
    lab.drain()
    with pytest.raises(Conflict, match="cut off before it ended, and first_of has what it wanted"):
        lab.client.complete(race.id, "go", output="x")

    branch = lab.start(hard_flows.compared, 1, 2)
    worker = lab.worker()
    worker.deliver()
    if lab.mail:
        worker.deliver()
    [skipped] = [one for one in branch.view().steps if one.status is StepStatus.SKIPPED]
    lab.client.retry(branch.id, from_steps=["note"])
    with pytest.raises(Conflict, match=r"was skipped \(.*\); what follows went on .* --from text"):
        lab.client.complete(branch.id, skipped.address.name, output="x")


def test_an_item_that_was_lost_to_a_failed_fan_out_is_completed_by_hand(lab: Lab) -> None:
    flows.behave["fail_if_odd"] = fail
    handle = lab.start(chosen_flows.tolerant, 2)
    lab.drain()
    assert handle.view().facts.status is ExecutionStatus.FAILED
    flows.behave.clear()

    lab.client.complete(handle.id, "fail_if_odd[1]/fail_if_odd", output=5)
    lab.drain()

    assert handle.result(0) == 5
    lab.sound(handle)


def test_a_child_that_nobody_waits_for_any_more_is_cancelled(lab: Lab) -> None:
    flows.behave.clear()
    handle = lab.start(chosen_flows.parent, 2)
    worker = lab.worker()
    worker.deliver()
    [waiting] = [step for step in handle.view().steps if step.child is not None]

    lab.client.complete(handle.id, waiting.address.name, output=7)
    lab.drain()

    assert handle.view().facts.status is ExecutionStatus.SUCCEEDED
    child = lab.client.get(str(waiting.child))
    assert child.facts.status is ExecutionStatus.CANCELLED
    lab.sound(handle)


class Forgetful(Database):
    """Each transaction commits, its answer is lost, and it is run again with the same arguments."""

    def run(self, transaction: Any, /, *args: Any, **kwargs: Any) -> Any:
        super().run(transaction, *args, **kwargs)
        return super().run(transaction, *args, **kwargs)


@pytest.mark.parametrize(
    "act",
    [
        lambda client, known: client.cancel(known),
        lambda client, known: client.pause(known),
        lambda client, known: client.fail(known, "first"),
        lambda client, known: client.complete(known, "first", output=2),
        lambda client, known: client.skip(known, "first", output=2),
    ],
    ids=["cancel", "pause", "fail", "complete", "skip"],
)
def test_every_act_is_done_once_though_its_first_answer_is_lost(lab: Lab, act: Any) -> None:
    handle = lab.start(flows.chain, 1)
    database = Forgetful(lab.url)
    client = Orchestrator(
        database, lab.settings, lab.catalogue, publish=lab.post, collect=lambda _seconds: []
    )

    act(client, handle.id)
    database.close()

    assert len(audit(lab, handle)) == 1
    lab.sound(handle)


def test_retries_and_resumes_are_done_once_though_their_first_answer_is_lost(
    lab: Lab, failed: Any
) -> None:
    database = Forgetful(lab.url)
    client = Orchestrator(
        database, lab.settings, lab.catalogue, publish=lab.post, collect=lambda _seconds: []
    )

    client.retry(failed.id)
    lab.drain()
    client.retry(failed.id, from_steps=["third"])
    client.pause(failed.id)
    client.resume(failed.id)
    lab.drain()
    database.close()

    assert [act for _, act, _ in audit(lab, failed)] == ["retry", "rerun", "pause", "resume"]
    assert ran() == ["second", "third", "third"]
    assert failed.result(0) == 1
    lab.sound(failed)


def test_an_event_without_a_key_is_sent_once_though_the_first_answer_is_lost(lab: Lab) -> None:
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    database = Forgetful(lab.url)
    client = Orchestrator(
        database, lab.settings, lab.catalogue, publish=lab.post, collect=lambda _seconds: []
    )

    client.send(handle.id, "manager_ok", Approval(ok=True))
    database.close()
    lab.advance(seconds=6)
    lab.sweep()  # whom the first answer named is woken, and its message is not sent yet
    lab.drain()

    [count] = lab.database.hot().execute("SELECT count(*) FROM orchestrator.events").fetchone()
    assert count == 1
    assert handle.result(0) == "noted large 1"
