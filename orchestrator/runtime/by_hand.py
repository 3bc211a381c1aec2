"""Ending a step by hand: an operator stands in for its worker.

The row is claimed for the operator, with a new token, so that a worker that still runs it cannot
record any more; then the outcome goes the way of every outcome, through `record`. All in one
transaction, so nobody sees the operator hold it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import Conflict
from orchestrator.flow import planning
from orchestrator.flow.graph import EachNode
from orchestrator.lifecycle import ENDED_STEP, ExecutionStatus, StepStatus
from orchestrator.records import StepAddress, StepFacts, StepMessage
from orchestrator.runtime import edits, operate, places, record, reopened, reports, standing
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.outcomes import Expanded, Failed, Outcome, Succeeded
from orchestrator.runtime.plans import Attempt
from orchestrator.settings import Settings
from orchestrator.store import acts, events, executions
from orchestrator.store.database import Connection
from orchestrator.store.executions import LockedExecution


def complete(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    chosen: Sequence[tuple[str, str]],
    settings: Settings,
    *,
    output: JSON,
    actor: str,
    kind: str = "complete",
    act: UUID | None = None,
) -> list[StepMessage]:
    """End steps as succeeded with this output; return the messages to send.

    A failed execution goes on with it: its other failed steps are retried. A step that runs is
    taken from its worker, whose outcome is refused then.

    Args:
        chosen: (step name, scope) of each.
        kind: ``complete``, or ``skip`` when nothing did the step's work.

    Raises:
        NotFound: no such execution or step.
        Conflict: a step has ended well already, still waits for others, or the execution is closing
            or cancelled.
        InvalidInput: the output does not fit the step.
    """
    with connection.transaction():
        locked = operate.lock(connection, execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        if operate.was_done(connection, execution_id, act):
            return of_ordered(registered, acts.unsent(connection, execution_id), locked.key)
        rows = _rows(connection, registered, execution_id, chosen)
        _refuse_closed(locked, f"{kind} a step of it")
        outcomes = [
            _success(catalogue, registered, row, output, skips=kind == "skip", settings=settings)
            for row in rows
        ]
        was_failed = locked.status is ExecutionStatus.FAILED
        detail = {"steps": [_path(row.address) for row in rows], **_shown(output, settings)}
        if was_failed:
            lost, ended = operate.to_reopen(connection, registered, execution_id, but=chosen)
            detail |= reopened.told(ended)
        acts.write(connection, execution_id, kind, actor, detail, act=act)
        if was_failed:
            operate.reopen_with_items(connection, registered, locked, lost, settings)
        messages = [
            message
            for row, outcome in zip(rows, outcomes, strict=True)
            for message in _record(
                connection, catalogue, registered, row, outcome, settings=settings
            )
        ]
        # what was reopened beside these steps is to be sent as well
        if was_failed:
            woken = operate.dispatch(connection, locked, settings)
            messages = of_ordered(registered, woken, locked.key)
    reports.operated(execution_id, kind, actor)
    return messages


def fail(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    chosen: tuple[str, str],
    settings: Settings,
    *,
    reason: str,
    actor: str,
    act: UUID | None = None,
) -> list[StepMessage]:
    """End a step as failed for this reason, without another attempt; return messages to send.

    Raises:
        NotFound: no such execution or step.
        Conflict: the step has ended already or still waits for others, or the execution is not
            running.
    """
    with connection.transaction():
        locked = operate.lock(connection, execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        if operate.was_done(connection, execution_id, act):
            return of_ordered(registered, acts.unsent(connection, execution_id), locked.key)
        [row] = _rows(connection, registered, execution_id, [chosen])
        if locked.status is not ExecutionStatus.RUNNING:
            raise Conflict(
                f"execution {execution_id} is {locked.status}: only a step of a running one is "
                "failed by hand"
            )
        if row.status in ENDED_STEP:
            raise Conflict(f"step {_path(row.address)} has ended already: it {row.status}")
        detail = {"steps": [_path(row.address)], "reason": reason}
        acts.write(connection, execution_id, "fail", actor, detail, act=act)
        failed = Failed(_error(row, reason, actor))
        messages = _record(connection, catalogue, registered, row, failed, settings=settings)
    reports.operated(execution_id, "fail", actor)
    return messages


def _rows(
    connection: Connection,
    registered: Registered,
    execution_id: UUID,
    chosen: Sequence[tuple[str, str]],
) -> list[StepFacts]:
    """Return the current rows of these places, in the order of their keys."""
    rows = executions.step_rows(connection, execution_id)
    current = {
        (row.address.name, row.address.scope): row
        for row in rows
        if row.status is not StepStatus.SUPERSEDED
    }
    for place in chosen:
        if place not in current:
            raise operate.no_such_step(registered, execution_id, place, current)
    found = [current[one] for one in dict.fromkeys(chosen)]
    for row in found:
        if row.status is StepStatus.WAITING:
            what = "its items have not ended" if row.items is not None else "it waits for others"
            raise Conflict(f"step {_path(row.address)} cannot be ended by hand: {what}; end those")
    return sorted(found, key=lambda row: row.address)


def _refuse_closed(locked: LockedExecution, deed: str) -> None:
    if locked.status in {ExecutionStatus.RUNNING, ExecutionStatus.FAILED}:
        return
    cure = {
        ExecutionStatus.SUCCEEDED: "it is done; to run a step again, retry it from there",
        ExecutionStatus.CANCELLED: "to go on, retry it from a step",
    }.get(locked.status, "wait until it has ended")
    raise Conflict(f"execution {locked.id} is {locked.status}, so nobody can {deed}: {cure}")


def _success(
    catalogue: Catalogue,
    registered: Registered,
    row: StepFacts,
    output: JSON,
    *,
    skips: bool,
    settings: Settings,
) -> Outcome:
    address = row.address
    if row.status is StepStatus.SUCCEEDED:
        raise Conflict(f"step {_path(address)} has succeeded; to run it again, retry from it")
    if row.status is StepStatus.CANCELLED and not row.absorbed_by:
        raise Conflict(
            f"step {_path(address)} was cut off before it began: retry the execution first"
        )
    node = planning.level(registered.graph, address.scope).node(address.name)
    if isinstance(node, EachNode):
        if output in (None, []):
            return Expanded([])
        raise Conflict(
            f"step {_path(address)} is a fan-out: it can be skipped, with an empty list as its "
            "result, or its items can be ended one by one"
        )
    if skips and output is None:
        if row.status is not StepStatus.SKIPPED and not row.absorbed_by:  # else it is over
            edits.refuse_none(catalogue, registered, address)
        return Succeeded(None, "null")
    value = edits.output(catalogue, registered, address, output, settings)
    return Succeeded(value, codec.canonical(value))


def _record(
    connection: Connection,
    catalogue: Catalogue,
    registered: Registered,
    row: StepFacts,
    outcome: Outcome,
    *,
    settings: Settings,
) -> list[StepMessage]:
    operator, address = UUID(int=secrets.randbits(128)), row.address
    seized = acts.seize(connection, address, holder=operator, lease=settings.lease)
    if seized is None:
        raise _over(registered, row)
    if seized.child is not None:  # nobody waits for it any more
        events.tell(connection, seized.child, "cancel", address.execution_id)
    _, answer = record.record_full(
        connection,
        Attempt(
            claimed=seized,
            registered=registered,
            catalogue=catalogue,
            outcome=outcome,
            head=address,
            holder=operator,
            nonce=secrets.randbits(63),
            may_continue=lambda _name, _scope: False,
        ),
        settings,
    )
    if answer.kind in {"fenced", "full"}:
        raise Conflict(
            f"step {_path(address)} cannot be ended by hand: the execution is closing since the "
            "step before it was"
        )
    return [*of_ordered(registered, answer.ordered, seized.key), *answer.begun]


def _over(registered: Registered, row: StepFacts) -> Conflict:
    """Return the refusal of a step that is neither ready nor running, also after a reopening."""
    address = row.address
    why, cure = "it waits for others", "end those"
    if row.absorbed_by is not None:
        taken = standing.absorption(address, row.absorbed_by, registered.graph)
        word = "failed" if row.status is StepStatus.FAILED else "was cut off before it ended"
        why = f"it {word}, and {taken}"
    elif row.status is StepStatus.SKIPPED:
        why = f"it was skipped ({row.closed_by or 'nobody needed it'})"
    if row.status in ENDED_STEP:
        cure = (
            "what follows went on with that; to run it and what follows again: "
            f"`orchestrator retry {address.execution_id} --from {_path(address)}`"
        )
    return Conflict(f"step {_path(address)} cannot be ended by hand: {why}; {cure}")


def _error(row: StepFacts, reason: str, actor: str) -> dict[str, Any]:
    return {
        "kind": "FailedByHand",
        "message": codec.encode(reason),
        "attempt": row.attempt,
        "actor": actor,
    }


def _path(address: StepAddress) -> str:
    return places.text_of(address.name, address.scope)


def _shown(output: JSON, settings: Settings) -> dict[str, Any]:
    size = len(codec.canonical(output).encode())
    if size > settings.inline_output_bytes:
        return {"output_bytes": size}
    return {"output": output}
