"""What all executions together look like now. Only attended rows and a window of ids are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection as CoreConnection
from sqlalchemy import and_, case, func, or_, select

from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.store import situation, tables
from orchestrator.store.situation import living

_executions, _definitions, _steps = tables.executions, tables.definitions, tables.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTally:
    """Executions of one flow that were started within a window.

    Attributes:
        seconds: the median duration of those that succeeded.
    """

    flow: str
    started: int
    open: int
    succeeded: int
    failed: int
    cancelled: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTally:
    """Step runs whose messages go to one queue.

    Attributes:
        waiting: ready, with a message that no worker has claimed.
        unsent: of these, those whose message the broker has not confirmed.
        later: ready, but due later: retries, sleeps, signals, children.
        running: held by workers; steps that one worker runs one after another count once.
        oldest: when the message that waits longest was wanted.
        overdue: rows that no sweep has looked at for a minute after their time.
        consumers: worker processes that consume the queue.
    """

    queue: str
    waiting: int = 0
    unsent: int = 0
    later: int = 0
    running: int = 0
    oldest: datetime | None = None
    overdue: int = 0
    consumers: int = 0


def flows(connection: CoreConnection, window: timedelta) -> list[FlowTally]:
    """Return the flows of which executions were started within a window, the busiest first."""

    def number(*statuses: ExecutionStatus) -> Any:
        return func.count().filter(_executions.c.status.in_([str(status) for status in statuses]))

    ended = _executions.c.finished_at - _executions.c.created_at
    succeeded = _executions.c.status == str(ExecutionStatus.SUCCEEDED)
    median = func.percentile_cont(0.5).within_group(func.extract("epoch", ended)).filter(succeeded)
    query = (
        select(
            _definitions.c.name,
            func.count(),
            func.count().filter(_executions.c.finished_at.is_(None)),
            number(ExecutionStatus.SUCCEEDED),
            number(ExecutionStatus.FAILED),
            number(ExecutionStatus.CANCELLED),
            median,
        )
        .select_from(
            _executions.join(_definitions, _definitions.c.id == _executions.c.definition_id)
        )
        .where(_executions.c.id >= func.orchestrator.uuid7_at(func.orchestrator.now() - window))
        .group_by(_definitions.c.name)
        .order_by(func.count().desc(), _definitions.c.name)
    )
    return [
        FlowTally(
            flow=row[0],
            started=row[1],
            open=row[2],
            succeeded=row[3],
            failed=row[4],
            cancelled=row[5],
            seconds=None if row[6] is None else float(row[6]),
        )
        for row in connection.execute(query)
    ]


def queues(connection: CoreConnection) -> list[QueueTally]:
    """Return every queue that has open step runs or consumers, by name."""
    now = func.orchestrator.now()
    later = _steps.c.due_at > now
    ready = _steps.c.status == str(StepStatus.READY)
    waiting = and_(ready, or_(_steps.c.due_at.is_(None), _steps.c.due_at <= now))
    # an inline segment is attended to by its head, which may have ended
    running = or_(
        _steps.c.status == str(StepStatus.RUNNING),
        _steps.c.status.not_in([str(StepStatus.READY), str(StepStatus.WAITING)]),
    )
    query = (
        select(
            _steps.c.queue,
            func.count().filter(waiting),
            func.count().filter(and_(waiting, _steps.c.sent < _steps.c.dispatch)),
            func.count().filter(and_(ready, later)),
            func.count().filter(running),
            func.min(case((waiting, _steps.c.dispatched_at))),
            func.count().filter(_steps.c.attend_at < now - timedelta(minutes=1)),
        )
        .where(_steps.c.attend_at.is_not(None))
        .group_by(_steps.c.queue)
    )
    found = {
        row[0]: QueueTally(
            queue=row[0],
            waiting=row[1],
            unsent=row[2],
            later=row[3],
            running=row[4],
            oldest=row[5],
            overdue=row[6],
        )
        for row in connection.execute(query)
    }
    consumed = consumers(connection)
    return [
        replace(found.get(name) or QueueTally(queue=name), consumers=consumed.get(name, 0))
        for name in sorted(found.keys() | consumed.keys())
    ]


def consumers(connection: CoreConnection) -> dict[str, int]:
    """Return by queue how many worker processes run its steps."""
    steps_run = [one for one in living(connection) if one.functions]
    return dict(Counter(queue for one in steps_run for queue in one.queues))


def untaken(
    connection: CoreConnection, lease: timedelta, patience: timedelta
) -> list[tuple[str, int]]:
    """Return by queue how many step runs nobody takes: no living worker consumes it."""
    query = (
        select(_steps.c.queue, func.count())
        .where(situation.untaken(patience, situation.consumed_queues(lease)))
        .group_by(_steps.c.queue)
        .order_by(_steps.c.queue)
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def open_executions(connection: CoreConnection) -> int:
    """Return how many executions have step runs that a sweep attends to: all but paused ones."""
    query = select(func.count(_steps.c.execution_id.distinct())).where(
        _steps.c.attend_at.is_not(None)
    )
    return int(connection.execute(query).scalar_one())


def set_aside(connection: CoreConnection) -> int:
    """Return how much waits in quarantine for an operator."""
    table = tables.quarantine
    query = select(func.count()).where(table.c.released_at.is_(None), table.c.dropped_at.is_(None))
    return int(connection.execute(query).scalar_one())
