"""What `explain` and `show` read: why an execution stands where it stands, by its rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    tuple_,
)
from sqlalchemy import Connection as CoreConnection

from orchestrator.lifecycle import StepStatus
from orchestrator.records import StepAddress
from orchestrator.store import tables

_steps, _workers, _payloads = tables.steps, tables.workers, tables.payloads
#: In which order rows are shown: what wants attention first.
_URGENCY = (
    StepStatus.FAILED,
    StepStatus.RUNNING,
    StepStatus.READY,
    StepStatus.WAITING,
    StepStatus.CANCELLED,
    StepStatus.SUCCEEDED,
    StepStatus.SKIPPED,
)


#: The same as text, as tallies have it.
BY_URGENCY = tuple(map(str, _URGENCY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The incarnation that holds or held a step run; ``ended``: it is gone."""

    id: UUID
    host: str | None
    pid: int | None
    ended: bool
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSituation:
    """A step run's row with its holder: everything by which it can be said what it waits for."""

    address: StepAddress
    status: StepStatus
    queue: str
    attempt: int = 0
    deaths: int = 0
    token: int = 0
    dispatch: int = 0
    sent: int = 0
    claimed: int = 0
    wanted: int | None = None
    live: int | None = None
    items: int | None = None
    next: int | None = None
    due_at: datetime | None = None
    lease_until: datetime | None = None
    dispatched_at: datetime | None = None
    attend_at: datetime | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    ended_no: int | None = None
    absorbed_by: str | None = None
    until_at: datetime | None = None
    child: UUID | None = None
    arrived: int | None = None
    total: int | None = None
    counter_updated: bool = True
    cancel_asked: bool = False
    closed_by: str | None = None
    error: dict[str, Any] | None = None
    progress: Any = None
    holder: Holder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A worker process that has not ended: what it consumes and what it can run."""

    id: UUID
    parent: UUID | None
    host: str
    pid: int
    queues: tuple[str, ...]
    functions: tuple[str, ...]
    started_at: datetime
    beat_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTally:
    """The rows of one node over all its scopes.

    Attributes:
        path: the node's name with the names of the eaches around it, as in ``folder/parse``.
        counts: how many rows have a status.
        later: how many of the ready ones wait for a moment, a signal or a child.
        attempts: the most that one row has taken.
        seconds: from the first begin to the last end.
    """

    path: str
    counts: dict[str, int]
    later: int
    attempts: int
    seconds: float | None

    @property
    def states(self) -> dict[str, int]:
        """How many rows read so: ready rows that wait for something are waiting."""
        found = dict(self.counts)
        ready, waiting = str(StepStatus.READY), str(StepStatus.WAITING)
        if self.later:
            found[waiting] = found.get(waiting, 0) + self.later
            found[ready] -= self.later
        return {status: count for status, count in found.items() if count}


def now(connection: CoreConnection) -> datetime:
    """Return the database's time."""
    moment: datetime = connection.execute(select(func.orchestrator.now())).scalar_one()
    return moment


def steps(
    connection: CoreConnection,
    execution_id: UUID,
    *,
    statuses: Collection[StepStatus],
    limit: int,
    places: Collection[tuple[str, str]] | None = None,
) -> list[StepSituation]:
    """Return step runs of an execution that are in one of these statuses, the urgent ones first.

    Args:
        places: only these (name, scope).
    """
    urgency = case(
        {str(status): place for place, status in enumerate(_URGENCY)},
        value=_steps.c.status,
        else_=literal(len(_URGENCY)),
    )
    query = (
        _query()
        .where(_steps.c.execution_id == execution_id)
        .where(_steps.c.status.in_([str(status) for status in statuses]))
        .order_by(urgency, _steps.c.ended_no, _steps.c.scope, _steps.c.name, _steps.c.run)
        .limit(limit)
    )
    if places is not None:
        query = query.where(tuple_(_steps.c.name, _steps.c.scope).in_(list(places)))
    return [_situation(row) for row in connection.execute(query).mappings()]


def tally(connection: CoreConnection, execution_id: UUID) -> list[StepTally]:
    """Return the rows of an execution summed by node, in the order in which they began."""
    eaches = func.regexp_replace(_steps.c.scope, r"\[[0-9]+\]", "", "g")
    path = func.ltrim(eaches.concat("/").concat(_steps.c.name), "/").label("path")
    is_ready = _steps.c.status == str(StepStatus.READY)
    later = is_ready & (_steps.c.due_at > func.orchestrator.now())
    query = (
        select(
            path,
            _steps.c.status,
            func.count().label("rows"),
            func.count().filter(later).label("later"),
            func.max(_steps.c.attempt).label("attempts"),
            func.min(_steps.c.began_at).label("began"),
            func.max(_steps.c.ended_at).label("ended"),
        )
        .where(_steps.c.execution_id == execution_id)
        .group_by(path, _steps.c.status)
    )
    rows = connection.execute(query).mappings().all()
    skipped = str(StepStatus.SKIPPED)
    summed: dict[str, list[RowMapping]] = {}
    for row in sorted(rows, key=lambda row: (row["began"] is None, row["began"], row["path"])):
        summed.setdefault(row["path"], []).append(row)
    return [
        StepTally(
            path=name,
            counts={row["status"]: row["rows"] for row in found},
            later=sum(row["later"] for row in found),
            # the claim that finds out that a step is skipped runs no body
            attempts=max(row["attempts"] - (row["status"] == skipped) for row in found),
            seconds=_seconds(
                [row["began"] for row in found if row["began"] is not None],
                [row["ended"] for row in found if row["ended"] is not None],
            ),
        )
        for name, found in summed.items()
    ]


def living(connection: CoreConnection) -> list[Living]:
    """Return the worker processes that have not ended, the oldest first.

    Messages for the processes of a pool are consumed by its main process: its queues are theirs.
    """
    main = _workers.alias("main")
    own = func.cardinality(_workers.c.queues) > 0
    query = (
        select(
            *(_workers.c[name] for name in ("id", "parent", "host", "pid")),
            case((own, _workers.c.queues), else_=main.c.queues).label("queues"),
            *(_workers.c[name] for name in ("functions", "started_at", "beat_at")),
        )
        .select_from(_workers.outerjoin(main, main.c.id == _workers.c.parent))
        .where(_workers.c.ended_at.is_(None))
        .order_by(_workers.c.id)
    )
    return [
        Living(
            **{
                **row,
                "queues": tuple(row["queues"] or ()),
                "functions": tuple(row["functions"]),
            }
        )
        for row in connection.execute(query).mappings()
    ]


def consumed(connection: CoreConnection, lease: timedelta) -> set[str]:
    """Return the queues that worker processes consume which gave a sign of life within a lease."""
    return set(connection.execute(consumed_queues(lease)).scalars())


def consumed_queues(lease: timedelta | None = None) -> Select[Any]:
    """Return the query for queues of workers that have not ended, and gave a sign of life."""
    query = select(func.unnest(_workers.c.queues)).where(_workers.c.ended_at.is_(None))
    if lease is None:
        return query
    return query.where(_workers.c.beat_at > func.orchestrator.now() - lease)


def untaken(patience: timedelta, queues: Any) -> ColumnElement[bool]:
    """Return what holds for step runs that wait for so long in none of these queues' consumers.

    Each message that a sweep sends anew begins its time anew: one that was repeated has waited.
    """
    now = func.orchestrator.now()
    waited = or_(_steps.c.dispatched_at < now - patience, _steps.c.dispatch - _steps.c.claimed > 1)
    return and_(
        _steps.c.status == str(StepStatus.READY),
        _steps.c.attend_at.is_not(None),
        or_(_steps.c.due_at.is_(None), _steps.c.due_at <= now),
        waited,
        _steps.c.queue.not_in(queues),
    )


def quarantined(connection: CoreConnection, execution_id: UUID) -> dict[tuple[str, str], str]:
    """Return by (name, scope) why step runs of an execution were set aside and not released."""
    table = tables.quarantine
    query = (
        select(table.c.name, table.c.scope, table.c.reason)
        .where(table.c.execution_id == execution_id, table.c.released_at.is_(None))
        .order_by(table.c.id)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query) if row[0] is not None}


def deaths(connection: CoreConnection, execution_id: UUID) -> dict[tuple[str, str, int], int]:
    """Return by (name, scope, run) how often step runs were taken over from a dead worker."""
    query = select(*(_steps.c[name] for name in ("name", "scope", "run", "deaths"))).where(
        _steps.c.execution_id == execution_id, _steps.c.deaths > 0
    )
    return {(row[0], row[1], row[2]): row[3] for row in connection.execute(query)}


def input_of(connection: CoreConnection, execution_id: UUID) -> Any:
    """Return the encoded input of an execution, an object by parameter name."""
    query = select(tables.execution_state.c.input).where(
        tables.execution_state.c.execution_id == execution_id
    )
    return connection.execute(query).scalar_one_or_none()


def output_of(connection: CoreConnection, address: StepAddress) -> Any:
    """Return the encoded output of a step run; None when it has none."""
    execution, name, scope, run = address
    query = (
        select(func.coalesce(_steps.c.output, _payloads.c.value))
        .select_from(
            _steps.outerjoin(
                _payloads,
                (_payloads.c.execution_id == _steps.c.execution_id)
                & (_payloads.c.name == _steps.c.name)
                & (_payloads.c.scope == _steps.c.scope)
                & (_payloads.c.run == _steps.c.run)
                & (_payloads.c.kind == "output")
                & (_payloads.c.part == 0),
            )
        )
        .where(_steps.c.execution_id == execution, _steps.c.name == name)
        .where(_steps.c.scope == scope, _steps.c.run == run)
    )
    return connection.execute(query).scalar_one_or_none()


def _query() -> Select[Any]:
    apart = {"address", "holder"}
    columns = [field.name for field in fields(StepSituation) if field.name not in apart]
    return select(
        *(_steps.c[name] for name in ("execution_id", "name", "scope", "run", *columns)),
        _steps.c.holder,
        _workers.c.host,
        _workers.c.pid,
        _workers.c.ended_at.label("holder_ended"),
        _workers.c.reason,
    ).select_from(_steps.outerjoin(_workers, _workers.c.id == _steps.c.holder))


def _situation(row: RowMapping) -> StepSituation:
    rest = dict(row)
    holder, host, pid, ended, reason = (
        rest.pop(name) for name in ("holder", "host", "pid", "holder_ended", "reason")
    )
    address = StepAddress(*(rest.pop(name) for name in ("execution_id", "name", "scope", "run")))
    return StepSituation(
        address=address,
        **{**rest, "status": StepStatus(rest["status"])},
        holder=None
        if holder is None
        else Holder(
            id=holder, host=host, pid=pid, ended=ended is not None or host is None, reason=reason
        ),
    )


def _seconds(began: list[datetime], ended: list[datetime]) -> float | None:
    if not began or not ended:
        return None
    return max(0.0, (max(ended) - min(began)).total_seconds())
