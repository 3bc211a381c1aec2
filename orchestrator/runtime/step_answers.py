"""Why one step run stands where it stands, and what moves it next."""

from __future__ import annotations

from datetime import datetime, timedelta

from orchestrator.flow import planning
from orchestrator.flow.graph import CallNode, Graph, MergeNode, SignalNode, SleepNode, StepNode
from orchestrator.lifecycle import StepStatus
from orchestrator.runtime import places, standing
from orchestrator.runtime.answers import Answer, Situation, clock, when
from orchestrator.runtime.queues import asked
from orchestrator.store.situation import StepSituation

_S = StepStatus

#: A row that should have been looked at so long ago was looked at by nobody.
UNSWEPT_AFTER = timedelta(seconds=30)


def of_step(row: StepSituation, situation: Situation, *, paused: bool) -> Answer:
    """Answer for one step run that is open or has failed."""
    match row.status:
        case _S.FAILED:
            return _of_failed(row, situation)
        case _S.RUNNING:
            return _of_running(row, situation)
        case _S.WAITING:
            return _of_waiting(row, situation)
    if paused:
        wait = standing.wait_of(row, situation.graph, situation.now)
        state = "is ready" if wait is None else f"waits {wait.words}"
        why = f"{state}, but the execution is paused"
        return _about(row, "paused", why, "resume dispatches it")
    return _of_ready(row, situation)


def _of_failed(row: StepSituation, situation: Situation) -> Answer:
    command = f"retry {situation.facts.id}"
    reason = situation.quarantined.get((row.address.name, row.address.scope))
    if reason is not None:
        return _about(
            row,
            "quarantined",
            f"was set aside: {reason} ({_error(row)})",
            "an operator finds out why, then retries it",
            command,
        )
    runs = standing.body_runs(row, situation.graph)
    attempts = {0: "", 1: " at its first attempt"}.get(runs, f" after {runs} attempts")
    next_ = "an operator retries it, with another input if need be, or skips or completes it"
    return _about(row, "failed", f"failed{attempts}: {_error(row)}", next_, command)


def _of_running(row: StepSituation, situation: Situation) -> Answer:
    holder = row.holder
    where = _worker(row)
    if holder is not None and holder.ended:
        why = f"was held by {where}, which is gone"
        return _overdue(row, situation) or _about(
            row, "orphaned", why, "the next sweep offers it to another worker", until=row.attend_at
        )
    if row.lease_until is not None and row.lease_until <= situation.now:
        why = f"is held by {where} under a lease that ran out {when(row.lease_until)}"
        return _overdue(row, situation) or _about(
            row, "lease-over", why, "a sweep offers it to another worker", until=row.attend_at
        )
    asked = ", and is asked to stop" if row.cancel_asked else ""
    attempt = f"attempt {row.attempt}, " if row.attempt > 1 else ""
    progress = f", progress {row.progress}" if row.progress is not None else ""
    if row.absorbed_by is not None:
        taken = standing.absorption(row.address, row.absorbed_by, situation.graph)
        asked = f"{asked}: {taken}"
    return _about(
        row,
        "running",
        f"runs on {where} ({attempt}since {clock(row.began_at)}{progress}){asked}",
        "its worker records its outcome; if the worker dies another takes over",
        until=row.lease_until,
    )


def _of_waiting(row: StepSituation, situation: Situation) -> Answer:
    if row.items is not None:
        done, count = standing.items_ended(row)
        return _about(
            row,
            "items-open",
            f"waits for its items: {done} of {count} have ended",
            "it goes on with the end of the last item",
        )
    missing = _missing(row, situation)
    if isinstance(standing.node_of(row.address, situation.graph), MergeNode):
        names = f" ({', '.join(missing)})" if missing else ""
        return _about(
            row,
            "merge-waits",
            f"has {row.live or 0} of the {row.wanted or 0} values that it wants{names}",
            "it goes on with the next that ends with a value, or when no more can come",
        )
    wanted, live = row.wanted or 0, row.live or 0
    names = f" ({', '.join(missing)})" if missing else ""
    return _about(
        row,
        "join-waits",
        f"waits for {wanted - live} of the {wanted} steps before it{names}",
        "it goes on with the last of them",
    )


def _of_ready(row: StepSituation, situation: Situation) -> Answer:
    if row.due_at is not None and row.due_at > situation.now:
        return _of_parked(row, situation) or _of_early(row, situation)
    if (found := _overdue(row, situation)) is not None:
        return found
    if row.due_at is not None:
        return _about(
            row,
            "overdue",
            f"was due {when(row.due_at)}",
            "the next sweep sends it",
            until=row.due_at,
        )
    if row.dispatch <= row.claimed:
        return _about(
            row,
            "unordered-message",
            "is ready and no message for it is on its way",
            "the next sweep sends one",
            until=row.attend_at,
        )
    if row.sent < row.dispatch:
        return _about(
            row,
            "unsent",
            f"is ready, but the broker has not confirmed its message {row.dispatch}",
            "it is sent again until the broker takes it; is the broker up?",
            "doctor",
            until=row.attend_at,
        )
    return _of_unclaimed(row, situation)


def _of_parked(row: StepSituation, situation: Situation) -> Answer | None:
    """Tell of a signal, a sleep or a child execution that is waited for."""
    over = standing.wait_over(row)
    within = f" until {over:%Y-%m-%d %H:%M:%S} UTC" if over is not None else ""
    match standing.node_of(row.address, situation.graph):
        case SignalNode(signal=signal):
            next_ = f"somebody sends the event {signal!r}" + (", or its time is over" * bool(over))
            command = f"send {situation.facts.id} {signal} --data '...'"
            why = f"waits for the event {signal!r}{within}"
            return _about(row, "signal-awaited", why, next_, command, until=over)
        case SleepNode():
            return _about(row, "sleeping", f"sleeps{within}", "it goes on then", until=over)
        case CallNode(flow=flow) if row.child is not None:
            why = f"waits for the child execution {row.child} of flow {flow!r}"
            next_ = "the end of the child ends it"
            return _about(row, "child-awaited", why, next_, f"explain {row.child}")
    return None


def _of_early(row: StepSituation, situation: Situation) -> Answer:
    kind = (row.error or {}).get("kind")
    due = clock(row.due_at)
    if kind == "parked":
        return _without_function(row, situation, str((row.error or {}).get("function")))
    if kind == "postponed":
        function = str((row.error or {}).get("function"))
        elsewhere = _elsewhere(row, situation, function)
        return _about(
            row,
            "postponed",
            f"met a worker that lacks its function ({function}){elsewhere}",
            f"it is offered again at {due}{'; start a worker that has it there' * bool(elsewhere)}",
            f"worker -Q {asked(row.queue)}" if elsewhere else None,
            until=row.due_at,
        )
    if row.error is not None:
        return _about(
            row,
            "retry-due",
            f"failed at attempt {row.attempt}: {_error(row)}",
            f"attempt {row.attempt + 1} follows at {due}",
            until=row.due_at,
        )
    return _about(row, "due-later", f"waits until {due}", "it goes on then", until=row.due_at)


def _elsewhere(row: StepSituation, situation: Situation, function: str) -> str:
    """Tell which living worker has the function, if all that have it consume other queues."""
    able = [one for one in situation.workers if function in one.functions]
    if not able or any(row.queue in one.queues for one in able):
        return ""
    first = able[0]
    return (
        f"; the worker process {first.pid} on {first.host} has it, but consumes "
        f"{', '.join(first.queues) or 'nothing'} and not {row.queue}"
    )


def _of_unclaimed(row: StepSituation, situation: Situation) -> Answer:
    sent = f"its message was sent {when(row.dispatched_at)} to queue {row.queue}"
    if not situation.workers:
        return _about(
            row,
            "no-worker",
            f"is ready and {sent}, but no worker is alive",
            "start a worker",
            "worker",
        )
    if not any(row.queue in worker.queues for worker in situation.workers):
        return _about(
            row,
            "no-consumer",
            f"is ready and {sent}, which no living worker consumes",
            "start a worker for this queue",
            f"worker -Q {asked(row.queue)}",
        )
    function = _function(row, situation)
    if function is not None and not any(function in one.functions for one in situation.workers):
        return _without_function(row, situation, function)
    return _about(
        row,
        "unclaimed",
        f"is ready and {sent}, where no worker has taken it yet",
        "a worker of this queue takes it when it has a free process; a lost message is sent again",
        "queue-depth",
        until=row.attend_at,
    )


def _without_function(row: StepSituation, situation: Situation, function: str) -> Answer:
    return _about(
        row,
        "no-function",
        f"is ready, but no living worker has the step function {function}",
        "deploy a worker whose modules hold it",
        until=row.due_at if row.due_at and row.due_at > situation.now else None,
    )


def _overdue(row: StepSituation, situation: Situation) -> Answer | None:
    """Tell of a row that a sweep should have looked at: neither pump nor beat is at work."""
    if row.attend_at is None or row.attend_at > situation.now - UNSWEPT_AFTER:
        return None
    return _about(
        row,
        "no-sweep",
        f"should have been looked at {when(row.attend_at)}, and no sweep came",
        "start a worker or beat, or sweep by hand",
        "sweep",
    )


def _missing(row: StepSituation, situation: Situation) -> list[str]:
    """Name what a join still waits for, and how far each of it has come."""
    waits = waited_for(row, situation.graph)
    places = [(name, row.address.scope) for name in waits]
    stand = [
        (name, situation.arrived.get(place)) for name, place in zip(waits, places, strict=True)
    ]
    return [
        f"{name}: {'not begun' if status is None else status}"
        for name, status in stand
        if status not in {_S.SUCCEEDED, _S.SKIPPED}
    ]


def waited_for(row: StepSituation, graph: Graph | None) -> tuple[str, ...]:
    """Return the names of the nodes that a row's node waits for, in its own scope."""
    node = standing.node_of(row.address, graph)
    if node is None or graph is None:
        return ()
    return planning.level(graph, row.address.scope).dependencies(node.name)


def _function(row: StepSituation, situation: Situation) -> str | None:
    node = standing.node_of(row.address, situation.graph)
    return node.function if isinstance(node, StepNode) else None


def _about(
    row: StepSituation,
    code: str,
    why: str,
    next_: str,
    command: str | None = None,
    *,
    until: datetime | None = None,
) -> Answer:
    return Answer(code=code, step=place_of(row), why=why, next=next_, command=command, until=until)


def place_of(row: StepSituation) -> str:
    """Return the place of a row, as in ``lines[3]/reserve``."""
    return places.text_of(row.address.name, row.address.scope)


def _worker(row: StepSituation) -> str:
    holder = row.holder
    if holder is None or holder.host is None:
        return "a worker that is not known any more"
    return f"the worker process {holder.pid} on {holder.host}"


def _error(row: StepSituation) -> str:
    error = row.error or {}
    return f"{error.get('kind', 'no reason is stored')}: {error.get('message', '')}".rstrip(": ")
