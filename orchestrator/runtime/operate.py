"""What operators do to an execution: cancel, pause, resume, retry, re-run, repair.

Each act is one transaction under the execution's lock, written into its journal and the audit. The
id of an act is drawn by its caller and kept over the repetitions of its transaction: an act whose
commit succeeded and whose answer was lost is not done, nor refused, a second time.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from orchestrator.codec import JSON
from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import functions
from orchestrator.flow import rerun as reruns
from orchestrator.flow import scope as scopes
from orchestrator.lifecycle import TERMINAL_EXECUTION, ExecutionStatus, StepStatus
from orchestrator.records import StepAddress, StepFacts, StepMessage
from orchestrator.runtime import edits, places, plans, record, reopened, reports
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.messages import of_ordered
from orchestrator.settings import Settings
from orchestrator.store import acts, executions, moves, replies, sweeping
from orchestrator.store.database import Connection
from orchestrator.store.executions import LockedExecution

#: What the end of an execution cut off or was caused by: it goes on when that is opened again.
_REOPENED = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})


def cancel(
    connection: Connection,
    execution_id: UUID,
    settings: Settings,
    *,
    actor: str,
    act: UUID | None = None,
) -> bool:
    """Cancel an execution: what is not running ends now, what is running is asked to stop.

    Returns:
        False when it had ended or was ending already, cancelled or failed.

    Raises:
        NotFound: no such execution.
    """
    with connection.transaction():
        locked = lock(connection, execution_id)
        if was_done(connection, execution_id, act):
            return True
        if locked.status is not ExecutionStatus.RUNNING:
            return False
        acts.write(connection, execution_id, "cancel", actor, {}, act=act)
        moves.record_steps(
            connection,
            execution_id,
            expected=locked.state,
            nonce=secrets.randbits(63),
            holder=None,
            close=str(ExecutionStatus.CANCELLING),
            cause="cancel",
            lease=settings.lease,
            unsent_after=settings.unsent_after,
        )
    reports.operated(execution_id, "cancel", actor)
    return True


def pause(
    connection: Connection, execution_id: UUID, *, actor: str, act: UUID | None = None
) -> bool:
    """Pause an execution: running bodies finish and are counted, nothing further is dispatched.

    Returns:
        False when it is paused already.

    Raises:
        NotFound: no such execution.
        Conflict: it is not running.
    """
    with connection.transaction():
        locked = lock(connection, execution_id)
        if was_done(connection, execution_id, act):
            return True
        if locked.status is not ExecutionStatus.RUNNING:
            raise Conflict(
                f"execution {execution_id} is {locked.status}: only a running one pauses"
            )
        if locked.paused:
            return False
        executions.set_paused(connection, execution_id, paused=True)
        acts.write(connection, execution_id, "pause", actor, {}, act=act)
    reports.operated(execution_id, "pause", actor)
    return True


def resume(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    settings: Settings,
    *,
    actor: str,
    act: UUID | None = None,
) -> list[StepMessage] | None:
    """Resume a paused execution; return the messages to send, or None when it was not paused.

    Raises:
        NotFound: no such execution.
    """
    with connection.transaction():
        locked = lock(connection, execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        if was_done(connection, execution_id, act):
            return of_ordered(registered, acts.unsent(connection, execution_id), locked.key)
        if not locked.paused:
            return None
        executions.set_paused(connection, execution_id, paused=False)
        acts.write(connection, execution_id, "resume", actor, {}, act=act)
        sweeping.look_anew(connection, execution_id)
        woken = executions.dispatch_ready(
            connection, execution_id, unsent_after=settings.unsent_after
        )
    reports.operated(execution_id, "resume", actor)
    return of_ordered(registered, woken, locked.key)


def retry(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    settings: Settings,
    *,
    actor: str,
    act: UUID | None = None,
    cancelled: bool = False,
) -> list[StepMessage]:
    """Retry a failed execution from its failed steps; return the messages to send.

    Finished steps are not run again. What the failure had closed reopens, what ended while the
    execution was failing now orders its successors. Ids and idempotency keys stay. A deadline that
    has passed does not come again; if all was done, only too late, the execution succeeds.

    Args:
        cancelled: a cancelled one is retried, too: its parent is.

    Raises:
        NotFound: no such execution.
        Conflict: it has not failed.
    """
    with connection.transaction():
        locked = lock(connection, execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        if was_done(connection, execution_id, act):
            return of_ordered(registered, acts.unsent(connection, execution_id), locked.key)
        was_cancelled = locked.status is ExecutionStatus.CANCELLED
        if locked.status is not ExecutionStatus.FAILED and not (cancelled and was_cancelled):
            raise Conflict(
                f"execution {execution_id} is {locked.status}: only a failed one is retried; "
                "to run finished steps again, re-run it from a step"
            )
        lost, ended = to_reopen(connection, registered, execution_id)
        acts.write(connection, execution_id, "retry", actor, reopened.told(ended), act=act)
        reopen_with_items(connection, registered, locked, lost, settings)
        if lock(connection, execution_id).status in TERMINAL_EXECUTION:
            # its deadline passed, or it was cancelled, and all that had begun succeeded: what was
            # never ordered is left
            _order_again(connection, registered, locked, (), settings)
        woken = dispatch(connection, locked, settings)
    reports.operated(execution_id, "retry", actor)
    return of_ordered(registered, woken, locked.key)


def rerun(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    chosen: Sequence[tuple[str, str]],
    settings: Settings,
    *,
    actor: str,
    changes: Mapping[str, JSON] | None = None,
    act: UUID | None = None,
) -> list[StepMessage]:
    """Run chosen steps and all after them again, under new ids; return the messages to send.

    Args:
        chosen: (step name, scope) of each; scope ``""`` at the top; none: the steps that failed.
        changes: new values of parameters of the execution's input. Steps that are not run again
            keep what they made of the old ones.

    Raises:
        NotFound: no such execution or step.
        Conflict: the execution is closing, an affected step is running, or none has failed.
        InvalidInput: a change does not fit the flow's parameters.
    """
    with connection.transaction():
        locked = lock(connection, execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        if was_done(connection, execution_id, act):
            return of_ordered(registered, acts.unsent(connection, execution_id), locked.key)
        if locked.status in {ExecutionStatus.FAILING, ExecutionStatus.CANCELLING}:
            raise Conflict(f"execution {execution_id} is {locked.status}: wait until it has ended")
        chosen = chosen or _failed(connection, execution_id)
        replaced = None
        if changes is not None:
            changes = edits.parameters(catalogue, registered, changes, settings)
            replaced = acts.change_input(connection, execution_id, changes)
        ended: list[StepFacts] = []
        if locked.status in TERMINAL_EXECUTION and locked.status is not ExecutionStatus.SUCCEEDED:
            rows = executions.step_rows(connection, execution_id)
            ended = [row for row in rows if row.status in _REOPENED and not row.absorbed_by]
            reopen(connection, execution_id, registered, locked, settings)
        _order_again(connection, registered, locked, chosen, settings)
        kept = executions.keep_ends(connection, execution_id, ended)
        detail: dict[str, Any] = {
            "from": [scopes.options_path(name, scope) for name, scope in chosen],
            "run": locked.reruns + 1,
            **reopened.told([row for row in ended if row.address not in kept]),
        }
        if changes is not None:
            detail["input"] = {"old": replaced, "new": dict(changes)}
        acts.write(connection, execution_id, "rerun", actor, detail, act=act)
        woken = dispatch(connection, locked, settings)
    reports.operated(execution_id, "rerun", actor)
    return of_ordered(registered, woken, locked.key)


def repair(
    connection: Connection, catalogue: Catalogue, address: StepAddress, settings: Settings
) -> list[StepMessage]:
    """Complete whichever half of a row from elsewhere is missing, and only that half.

    A row that is not counted gets counted; a ready one whose newest message was not confirmed gets
    a new message.

    Raises:
        NotFound: no such execution.
    """
    with connection.transaction():
        locked = lock(connection, address.execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        executions.count_row(connection, address)
        woken = None
        if locked.status is ExecutionStatus.RUNNING and not locked.paused:
            woken = executions.dispatch_unsent(
                connection, address, unsent_after=settings.unsent_after
            )
    return of_ordered(registered, [woken] if woken else [], locked.key)


def lock(connection: Connection, execution_id: UUID) -> LockedExecution:
    """Lock an execution for the rest of the transaction.

    Raises:
        NotFound: no such execution.
    """
    locked = executions.lock(connection, execution_id)
    if locked is None:
        raise NotFound(f"no execution {execution_id}; it may have expired")
    return locked


def was_done(connection: Connection, execution_id: UUID, act: UUID | None) -> bool:
    """Return whether this very act on a locked execution was committed already."""
    return act is not None and acts.acted(connection, execution_id, act)


def no_such_step(
    registered: Registered,
    execution_id: UUID,
    place: tuple[str, str],
    current: Iterable[tuple[str, str]],
) -> NotFound:
    """Return the refusal of a step that has no row, with the one that was probably meant."""
    text = places.text_of(*place)
    hint = functions.near_miss(text, [places.text_of(*one) for one in current])
    if scopes.options_path(*place) in set(registered.graph.paths()):
        hint = ": it has not been ordered yet"
    return NotFound(
        f"execution {execution_id} has no step {text!r}"
        f"{hint or f'; `orchestrator show {execution_id}` lists them'}"
    )


def reopen(
    connection: Connection,
    execution_id: UUID,
    registered: Registered,
    locked: LockedExecution,
    settings: Settings,
) -> None:
    """Put back what the end of a locked execution cut off, and order what it owes."""
    owing = executions.reopen_steps(connection, execution_id)
    executions.release(connection, execution_id)
    orders, arrivals = [], []
    for address in owing:
        more_orders, more_arrivals = plans.successors(registered, address, settings)
        idle = record.idle(connection, registered.graph, address)
        orders += [{**order, "cause": None} for order in more_orders if order["name"] not in idle]
        arrivals += [{**arrival, "cause": None} for arrival in more_arrivals]
    if not orders and not arrivals:
        return
    if locked.reruns:
        orders = record.with_runs(connection, orders, execution_id, locked.reruns)
        arrivals = record.with_runs(connection, arrivals, execution_id, locked.reruns)
    moves.record_steps(
        connection,
        execution_id,
        expected=(str(ExecutionStatus.RUNNING), locked.paused, locked.reruns),
        nonce=secrets.randbits(63),
        holder=None,
        orders=orders,
        arrivals=arrivals,
        lease=settings.lease,
        unsent_after=settings.unsent_after,
    )


def to_reopen(
    connection: Connection,
    registered: Registered,
    execution_id: UUID,
    *,
    but: Collection[tuple[str, str]] = (),
) -> tuple[list[tuple[str, str]], list[StepFacts]]:
    """Return the places of lost items and all step runs that `reopen_with_items` opens again.

    Args:
        but: eaches whose items are left alone.
    """
    rows = executions.step_rows(connection, execution_id)
    lost = list(reruns.lost_items(registered.graph, _facts(rows), but))
    ended = [
        row
        for row in rows
        if row.status in _REOPENED
        and (row.absorbed_by is None or (row.address.name, row.address.scope) in lost)
    ]
    return lost, ended


def reopen_with_items(
    connection: Connection,
    registered: Registered,
    locked: LockedExecution,
    lost: Sequence[tuple[str, str]],
    settings: Settings,
) -> None:
    """Put back what the end of a locked execution cut off, and items of which too many failed.

    What had failed in these, the ``lost`` of `to_reopen`, keeps its id, as all that is retried;
    what was skipped for it is ordered anew.
    """
    reopen(connection, locked.id, registered, locked, settings)
    if lost:
        _order_again(connection, registered, locked, lost, settings, kept=lost)


def dispatch(
    connection: Connection, locked: LockedExecution, settings: Settings
) -> list[executions.Woken]:
    """Want messages for what is ready, unless the execution is paused: resume will.

    Whoever heard that the execution had ended will hear of its next end, too.
    """
    if locked.status in TERMINAL_EXECUTION:
        replies.want_again(connection, locked.id)
    if locked.paused:
        return []
    return executions.dispatch_ready(connection, locked.id, unsent_after=settings.unsent_after)


def _order_again(
    connection: Connection,
    registered: Registered,
    locked: LockedExecution,
    chosen: Sequence[tuple[str, str]],
    settings: Settings,
    *,
    kept: Sequence[tuple[str, str]] = (),
) -> None:
    """Supersede chosen step runs and all after them, and order them anew.

    Those that are ``kept`` and could begin now go on under their old ids instead.
    """
    executions.lock_steps(connection, locked.id)
    rows = _facts(executions.step_rows(connection, locked.id))
    current = {row.place for row in rows if row.status is not StepStatus.SUPERSEDED}
    for place in chosen:
        if tuple(place) not in current:
            raise no_such_step(registered, locked.id, place, current)
    plan = reruns.rerun(registered.graph, rows, chosen)
    if not plan.orders and not plan.superseded:
        executions.succeed_late(connection, locked.id)
        return
    retried = {(o.name, o.scope) for o in plan.orders if o.ready}.intersection(kept)
    superseded = [StepAddress(locked.id, *address) for address in plan.superseded]
    again = [address for address in superseded if (address.name, address.scope) in retried]
    executions.insert_rerun(
        connection,
        locked.id,
        [
            {
                "name": order.name,
                "scope": order.scope,
                "run": locked.reruns + 1,
                "status": "ready" if order.ready else "waiting",
                "queue": registered.queue(order.name, order.scope, settings),
                "wanted": order.wanted if order.counts else None,
                "live": order.live if order.counts else None,
                "total": order.total,
                "arrived": order.arrived,
                "items": order.items,
                "next": order.next if order.items is not None else None,
            }
            for order in plan.orders
            if (order.name, order.scope) not in retried
        ],
    )
    executions.supersede(connection, locked.id, sorted(set(superseded).difference(again)))
    executions.reopen_absorbed(connection, locked.id, again)


def _facts(rows: Iterable[StepFacts]) -> list[reruns.RowFacts]:
    return [
        reruns.RowFacts(
            name=row.address.name,
            scope=row.address.scope,
            run=row.address.run,
            status=row.status,
            wanted=row.wanted or 0,
            live=row.live or 0,
            items=row.items,
            next=row.next or 0,
            absorbed=row.absorbed_by is not None,
        )
        for row in rows
    ]


def _failed(connection: Connection, execution_id: UUID) -> list[tuple[str, str]]:
    rows = executions.step_rows(connection, execution_id)
    failed = [
        row.address for row in rows if row.status is StepStatus.FAILED and not row.absorbed_by
    ]
    if not failed:
        raise Conflict(
            f"no step of execution {execution_id} has failed: name the steps that are to run again"
        )
    return [(address.name, address.scope) for address in failed]
