"""Why an execution does not move, and what moves it next: one line per answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    Graph,
    MergeNode,
    Output,
    Param,
    SignalNode,
    SleepNode,
    StepNode,
)
from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.records import ExecutionFacts, StepAddress
from orchestrator.runtime import inspection, overview
from orchestrator.runtime.answers import Situation
from orchestrator.runtime.explaining import Explanation, explain
from orchestrator.runtime.incarnations import Incarnation
from orchestrator.store.situation import Holder, Living, StepSituation
from tests.runtime import flows
from tests.runtime.lab import Lab

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ENDLESS = datetime(9999, 1, 1, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(seconds=20), NOW - timedelta(seconds=20)
LONG_AGO = NOW - timedelta(minutes=10)
EXECUTION = UUID(int=7)
CHILD = UUID(int=8)
WORKER = Living(
    id=UUID(int=1),
    parent=None,
    host="red",
    pid=4711,
    queues=("orchestrator",),
    functions=("shop:charge",),
    started_at=LONG_AGO,
    beat_at=NOW,
)
HOLDER = Holder(id=WORKER.id, host="red", pid=4711, ended=False, reason=None)
GONE = Holder(id=WORKER.id, host="red", pid=4711, ended=True, reason="SIGKILL")
GRAPH = Graph(
    ("items",),
    (
        StepNode("charge", "shop:charge"),
        StepNode("ship", "shop:ship"),
        StepNode("close", "shop:close", (("a", Output("charge")), ("b", Output("ship")))),
        EachNode("lines", Param("items"), "line", Graph(("line",), (StepNode("x", "shop:x"),))),
        SignalNode("approval", "manager_ok", within="3d"),
        SleepNode("pause", lasts="3d"),
        CallNode("child", "invoice"),
        MergeNode("best", ("charge", "ship")),
    ),
)


def execution(status: ExecutionStatus = ExecutionStatus.RUNNING, **given: Any) -> ExecutionFacts:
    ended = status in {
        ExecutionStatus.SUCCEEDED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
    }
    values: dict[str, Any] = {
        "id": EXECUTION,
        "definition_id": 1,
        "flow": "checkout",
        "version": "1",
        "key": None,
        "status": status,
        "paused": False,
        "started": 2,
        "finished": 1,
        "failed": 0,
        "position": 3,
        "reruns": 0,
        "created_at": LONG_AGO,
        "finished_at": EARLIER if ended else None,
    }
    return ExecutionFacts(**{**values, **given})


def row(name: str, status: StepStatus, scope: str = "", **given: Any) -> StepSituation:
    values: dict[str, Any] = {"queue": "orchestrator", **given}
    return StepSituation(address=StepAddress(EXECUTION, name, scope, 0), status=status, **values)


def sent(name: str = "charge", **given: Any) -> StepSituation:
    """A ready row whose message was confirmed and not claimed."""
    values = {"dispatch": 1, "sent": 1, "dispatched_at": EARLIER, "attend_at": LATER, **given}
    return row(name, StepStatus.READY, **values)


def running(**given: Any) -> StepSituation:
    values = {"holder": HOLDER, "lease_until": LATER, "began_at": EARLIER, "attempt": 1, **given}
    return row("charge", StepStatus.RUNNING, **values)


def told(*steps: StepSituation, **given: Any) -> Explanation:
    facts = given.pop("facts", execution())
    values: dict[str, Any] = {"workers": [WORKER], "graph": GRAPH, **given}
    return explain(Situation(facts=facts, now=NOW, steps=steps, **values))


ERROR = {"kind": "ValueError", "message": "no"}
PARKED = {"kind": "parked", "function": "shop:ship", "message": "none has it"}
POSTPONED = {"kind": "postponed", "function": "shop:ship", "message": "it lacks it"}


@pytest.mark.parametrize(
    ("step", "code", "words", "command"),
    [
        (row("charge", StepStatus.READY, attend_at=LATER), "unordered-message", "no message", None),
        (sent(sent=0), "unsent", "not confirmed its message 1", "doctor"),
        (sent(), "unclaimed", "no worker has taken it yet", "queue-depth"),
        (sent(queue="far"), "no-consumer", "which no living worker consumes", "worker -Q far"),
        (sent("ship"), "no-function", "no living worker has the step function shop:ship", None),
        (sent(due_at=EARLIER), "overdue", "was due at 2026-01-31 11:59:40", None),
        (sent(attend_at=LONG_AGO), "no-sweep", "no sweep came", "sweep"),
        (sent(due_at=LATER, error=ERROR, attempt=1), "retry-due", "failed at attempt 1", None),
        (sent(due_at=LATER, error=PARKED), "no-function", "step function shop:ship", None),
        (sent(due_at=LATER, error=POSTPONED), "postponed", "lacks its function", None),
        (
            sent(due_at=LATER, error={**POSTPONED, "function": "shop:charge"}, queue="gpu"),
            "postponed",
            "the worker process 4711 on red has it, but consumes orchestrator and not gpu",
            "worker -Q gpu",
        ),
        (sent(due_at=LATER), "due-later", "waits until 12:00:20 UTC", None),
        (running(), "running", "the worker process 4711 on red", None),
        (running(cancel_asked=True), "running", "asked to stop", None),
        (running(cancel_asked=True, absorbed_by="quickest"), "running", "asked to stop", None),
        (running(progress={"done": 3}), "running", "progress {'done': 3}", None),
        (running(lease_until=EARLIER), "lease-over", "a lease that ran out", None),
        (running(holder=GONE), "orphaned", "which is gone", None),
        (running(holder=GONE, attend_at=LONG_AGO), "no-sweep", "no sweep came", "sweep"),
        (
            row("close", StepStatus.WAITING, wanted=2, live=1),
            "join-waits",
            "waits for 1 of the 2 steps before it (ship: ready)",
            None,
        ),
        (
            row("lines", StepStatus.WAITING, items=10, wanted=10, live=4),
            "items-open",
            "4 of 10 have ended",
            None,
        ),
        (
            row("best", StepStatus.WAITING, wanted=1, live=0, arrived=1, total=2),
            "merge-waits",
            "0 of the 1 values",
            None,
        ),
        (
            row("approval", StepStatus.READY, due_at=LATER, until_at=LATER),
            "signal-awaited",
            "waits for the event 'manager_ok' until 2026-01-31 12:00:20 UTC",
            f"send {EXECUTION} manager_ok --data '...'",
        ),
        (
            row("approval", StepStatus.READY, due_at=ENDLESS, until_at=ENDLESS),
            "signal-awaited",
            "waits for the event 'manager_ok'",
            f"send {EXECUTION} manager_ok --data '...'",
        ),
        (row("pause", StepStatus.READY, due_at=LATER, until_at=LATER), "sleeping", "sleeps", None),
        (
            row("child", StepStatus.READY, due_at=LATER, child=CHILD),
            "child-awaited",
            f"the child execution {CHILD} of flow 'invoice'",
            f"explain {CHILD}",
        ),
    ],
)
def test_each_open_step_says_what_it_waits_for(
    step: StepSituation, code: str, words: str, command: str | None
) -> None:
    arrived = {("charge", ""): StepStatus.SUCCEEDED, ("ship", ""): StepStatus.READY}

    found = told(step, arrived=arrived)

    [answer] = found.steps
    assert (answer.code, answer.command) == (code, command)
    assert words in answer.why
    assert answer.next
    of_running = {"moving", "loser-awaited"}
    assert found.whole.code in {code, *of_running}, "the whole waits for what its step waits for"


def test_without_any_worker_that_is_said() -> None:
    found = told(sent(), workers=[])

    assert (found.whole.code, found.whole.command) == ("no-worker", "worker")


def test_a_loser_that_runs_is_waited_for_when_nothing_else_is_to_be_done() -> None:
    loser = running(cancel_asked=True, absorbed_by="best")
    signal = row("approval", StepStatus.READY, due_at=LATER, until_at=LATER)
    gone = running(cancel_asked=True, absorbed_by="best", holder=GONE)

    assert told(loser).whole.code == "loser-awaited"
    assert "charge, which lost to others at best and still runs" in told(loser).whole.why
    assert "best has what it wanted without it" in told(loser).steps[0].why
    assert told(loser, signal).whole.code == "signal-awaited"
    assert told(gone).whole.code == "orphaned"


@pytest.mark.parametrize(
    ("facts", "steps", "code", "words", "command"),
    [
        (execution(ExecutionStatus.SUCCEEDED), (), "succeeded", "it succeeded at", None),
        (
            execution(ExecutionStatus.CANCELLED),
            (),
            "cancelled",
            "it was cancelled",
            f"retry {EXECUTION} --from STEP",
        ),
        (
            execution(ExecutionStatus.FAILED),
            (row("charge", StepStatus.FAILED, attempt=3, error=ERROR),),
            "failed",
            "step charge failed after 3 attempts: ValueError: no",
            f"retry {EXECUTION}",
        ),
        (
            execution(ExecutionStatus.FAILING),
            (row("ship", StepStatus.FAILED, attempt=1, error=ERROR), running()),
            "failing",
            "1 step is still running: charge",
            None,
        ),
        (
            execution(ExecutionStatus.CANCELLING),
            (running(),),
            "cancelling",
            "being cancelled, and 1 step is still running",
            None,
        ),
        (
            execution(paused=True),
            (row("charge", StepStatus.READY),),
            "paused",
            "it is paused",
            f"resume {EXECUTION}",
        ),
        (execution(), (), "nothing-open", "contradict", "doctor --rows"),
    ],
)
def test_the_whole_says_how_it_stands(
    facts: ExecutionFacts,
    steps: tuple[StepSituation, ...],
    code: str,
    words: str,
    command: str | None,
) -> None:
    whole = told(*steps, facts=facts).whole

    assert (whole.code, whole.command) == (code, command)
    assert words in whole.why


def test_a_step_in_quarantine_says_why_it_was_set_aside() -> None:
    failed = row("charge", StepStatus.FAILED, attempt=3, deaths=3, error=ERROR)

    found = told(
        failed,
        facts=execution(ExecutionStatus.FAILED),
        quarantined={("charge", ""): "killed 3 workers"},
    )

    assert [answer.code for answer in found.steps] == ["quarantined"]
    assert "set aside: killed 3 workers" in found.whole.why


def test_a_failure_that_somebody_took_is_no_answer() -> None:
    taken = row("ship", StepStatus.FAILED, attempt=1, error=ERROR, absorbed_by="handler")

    assert [answer.step for answer in told(taken, running()).steps] == ["charge"]


def test_the_gravest_reason_stands_for_the_whole() -> None:
    waiting = row("close", StepStatus.WAITING, wanted=2, live=1)

    assert told(waiting, sent("ship")).whole.code == "no-function"


@pytest.mark.req("E13")
def test_the_facts_are_read_from_the_rows(lab: Lab) -> None:
    handle = lab.start(flows.diamond, 1)

    def code() -> str:
        return inspection.explain(lab.database, lab.catalogue, handle.execution_id).whole.code

    lab.mark(lab.mail[0])
    assert code() == "no-worker"
    worker = lab.worker()
    assert code() == "unclaimed"
    worker.claim(lab.mail[0])
    assert code() == "moving"
    lab.advance(seconds=31)
    assert code() == "lease-over"
    lab.client.pause(handle.id)
    assert code() == "paused"
    lab.client.cancel(handle.id)
    assert code() == "cancelling"


def test_a_join_names_the_steps_that_have_not_arrived(lab: Lab) -> None:
    handle = lab.start(flows.diamond, 1)
    lab.worker().deliver()  # first, and one of the two behind it inline

    found = inspection.explain(lab.database, lab.catalogue, handle.execution_id)

    [join] = [answer for answer in found.steps if answer.step == "add"]
    assert join.code == "join-waits"
    assert "(third: ready)" in join.why or "(second: ready)" in join.why


def test_processes_of_a_pool_consume_what_their_main_process_does(lab: Lab) -> None:
    main = Incarnation(lab.database, queues=["orchestrator"], functions=())
    child = Incarnation(lab.database, queues=(), functions=lab.catalogue.functions, parent=main.id)
    handle = lab.start(flows.chain, 1)
    lab.mark(lab.mail[0])

    found = inspection.explain(lab.database, lab.catalogue, handle.execution_id)

    assert found.whole.code == "unclaimed"
    [queue] = overview.queues(lab.database)
    assert (queue.queue, queue.waiting, queue.consumers) == ("orchestrator", 1, 1)
    for one in (child, main):
        one.end()
