"""What operators do to an execution: cancel, pause, resume, retry, re-run, repair.

Each act is one transaction under the execution's lock, written into its journal and the audit.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from uuid import UUID

from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import rerun as reruns
from orchestrator.flow import scope as scopes
from orchestrator.lifecycle import TERMINAL_EXECUTION, ExecutionStatus
from orchestrator.records import StepAddress, StepMessage
from orchestrator.runtime import plans, record, reports
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.messages import of_ordered
from orchestrator.settings import Settings
from orchestrator.store import executions, moves
from orchestrator.store.database import Connection
from orchestrator.store.executions import LockedExecution


def cancel(connection: Connection, execution_id: UUID, settings: Settings, *, actor: str) -> bool:
    """Cancel an execution: what is not running ends now, what is running is asked to stop.

    Returns:
        False when it had ended or was ending already, cancelled or failed.

    Raises:
        NotFound: no such execution.
    """
    with connection.transaction():
        locked = _lock(connection, execution_id)
        if locked.status is not ExecutionStatus.RUNNING:
            return False
        executions.write_line(connection, execution_id, "cancel", actor, {})
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


def pause(connection: Connection, execution_id: UUID, *, actor: str) -> bool:
    """Pause an execution: running bodies finish and are counted, nothing further is dispatched.

    Returns:
        False when it is paused already.

    Raises:
        NotFound: no such execution.
        Conflict: it is not running.
    """
    with connection.transaction():
        locked = _lock(connection, execution_id)
        if locked.status is not ExecutionStatus.RUNNING:
            raise Conflict(
                f"execution {execution_id} is {locked.status}: only a running one pauses"
            )
        if locked.paused:
            return False
        executions.set_paused(connection, execution_id, paused=True)
        executions.write_line(connection, execution_id, "pause", actor, {})
    reports.operated(execution_id, "pause", actor)
    return True


def resume(
    connection: Connection,
    catalogue: Catalogue,
    execution_id: UUID,
    settings: Settings,
    *,
    actor: str,
) -> list[StepMessage] | None:
    """Resume a paused execution; return the messages to send, or None when it was not paused.

    Raises:
        NotFound: no such execution.
    """
    with connection.transaction():
        locked = _lock(connection, execution_id)
        if not locked.paused:
            return None
        registered = catalogue.definition(connection, locked.definition_id)
        executions.set_paused(connection, execution_id, paused=False)
        executions.write_line(connection, execution_id, "resume", actor, {})
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
) -> list[StepMessage]:
    """Retry a failed execution from its failed steps; return the messages to send.

    Finished steps are not run again. What the failure had closed reopens, what ended while the
    execution was failing now orders its successors. Ids and idempotency keys stay.

    Raises:
        NotFound: no such execution.
        Conflict: it has not failed.
    """
    with connection.transaction():
        locked = _lock(connection, execution_id)
        if locked.status is not ExecutionStatus.FAILED:
            raise Conflict(
                f"execution {execution_id} is {locked.status}: only a failed one is retried; "
                "to run finished steps again, re-run it from a step"
            )
        registered = catalogue.definition(connection, locked.definition_id)
        executions.write_line(connection, execution_id, "retry", actor, {})
        _reopen(connection, execution_id, registered, locked, settings)
        woken = _dispatch(connection, locked, settings)
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
) -> list[StepMessage]:
    """Run chosen steps and all after them again, under new ids; return the messages to send.

    Args:
        chosen: (step name, scope) of each; scope ``""`` at the top.

    Raises:
        NotFound: no such execution or step.
        Conflict: the execution is closing, or an affected step is running.
    """
    with connection.transaction():
        locked = _lock(connection, execution_id)
        if locked.status in {ExecutionStatus.FAILING, ExecutionStatus.CANCELLING}:
            raise Conflict(f"execution {execution_id} is {locked.status}: wait until it has ended")
        registered = catalogue.definition(connection, locked.definition_id)
        if locked.status in TERMINAL_EXECUTION and locked.status is not ExecutionStatus.SUCCEEDED:
            _reopen(connection, execution_id, registered, locked, settings)
        executions.lock_steps(connection, execution_id)
        rows = [
            reruns.RowFacts(
                name=row.address.name,
                scope=row.address.scope,
                run=row.address.run,
                status=row.status,
                wanted=row.wanted or 0,
                live=row.live or 0,
                items=row.items,
                next=row.next or 0,
            )
            for row in executions.step_rows(connection, execution_id)
        ]
        plan = reruns.rerun(registered.graph, rows, chosen)
        number = locked.reruns + 1
        executions.insert_rerun(
            connection,
            execution_id,
            [
                {
                    "name": order.name,
                    "scope": order.scope,
                    "run": number,
                    "status": "ready" if order.ready else "waiting",
                    "queue": registered.queue(order.name, order.scope, settings),
                    "wanted": order.wanted if order.wanted > 1 or not order.ready else None,
                    "live": order.live if order.wanted > 1 or not order.ready else None,
                    "items": order.items,
                    "next": order.next if order.items is not None else None,
                }
                for order in plan.orders
            ],
        )
        executions.supersede(
            connection,
            execution_id,
            [StepAddress(execution_id, *address) for address in plan.superseded],
        )
        executions.write_line(
            connection,
            execution_id,
            "rerun",
            actor,
            {"from": [scopes.options_path(name, scope) for name, scope in chosen], "run": number},
        )
        woken = _dispatch(connection, locked, settings)
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
        locked = _lock(connection, address.execution_id)
        registered = catalogue.definition(connection, locked.definition_id)
        executions.count_row(connection, address)
        woken = None
        if locked.status is ExecutionStatus.RUNNING and not locked.paused:
            woken = executions.dispatch_unsent(
                connection, address, unsent_after=settings.unsent_after
            )
    return of_ordered(registered, [woken] if woken else [], locked.key)


def _reopen(
    connection: Connection,
    execution_id: UUID,
    registered: Registered,
    locked: LockedExecution,
    settings: Settings,
) -> None:
    """Put back what the end of an execution cut off, and order what it owes."""
    owing = executions.reopen_steps(connection, execution_id)
    executions.release(connection, execution_id)
    orders, arrivals = [], []
    for address in owing:
        more_orders, more_arrivals = plans.successors(registered, address, settings)
        orders += [{**order, "cause": None} for order in more_orders]
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


def _dispatch(
    connection: Connection, locked: LockedExecution, settings: Settings
) -> list[executions.Woken]:
    """Want messages for what is ready, unless the execution is paused: resume will."""
    if locked.paused:
        return []
    return executions.dispatch_ready(connection, locked.id, unsent_after=settings.unsent_after)


def _lock(connection: Connection, execution_id: UUID) -> LockedExecution:
    locked = executions.lock(connection, execution_id)
    if locked is None:
        raise NotFound(f"no execution {execution_id}; it may have expired")
    return locked
