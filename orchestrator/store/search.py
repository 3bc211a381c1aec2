"""Finding executions: by name, and by what they are, the newest first.

An id is a UUIDv7, so the primary key is the order of starting: a page is a range of it, and
"since" bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy import Connection as CoreConnection

from orchestrator.lifecycle import ExecutionStatus, StepStatus
from orchestrator.records import ExecutionFacts
from orchestrator.store import situation, tables

#: An open execution is stuck when no sweep has looked at a row of it for so long after its time.
STUCK_AFTER = timedelta(minutes=1)
#: ... or when a step waits for so long in a queue that no living worker consumes,
#: or when so many messages for one of its steps were sent and none was claimed.
_UNCLAIMED_MESSAGES = 3
#: Ids are drawn by starters, whose clocks may differ from the database's by so much.
_SKEW = timedelta(hours=1)

#: The kind of the error of an execution that has failed by its deadline: no step has it.
DEADLINE_PASSED = "DeadlinePassed"

_executions, _state, _definitions, _steps, _journal = (
    tables.executions,
    tables.execution_state,
    tables.definitions,
    tables.steps,
    tables.journal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which executions are wanted; what is empty or None restricts nothing.

    Attributes:
        keys: patterns in which ``*`` stands for any text.
        since, until: bounds of when they were started.
        steps: names of steps of which one has failed.
        errors: kinds of the error with which a step has failed, or the execution itself.
        open: whether they have not ended.
        stuck: open, not paused, and not moving: a step overdue for a sweep, parked because no
            worker has its function, or sent several times and never claimed.
    """

    flows: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    statuses: tuple[ExecutionStatus, ...] = ()
    keys: tuple[str, ...] = ()
    since: datetime | timedelta | None = None
    until: datetime | timedelta | None = None
    steps: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    paused: bool | None = None
    open: bool | None = None
    stuck: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An execution that was looked for, with the first of its steps that failed for good.

    Attributes:
        seconds: how long it took, or has taken so far.
        deadline: the one by which it failed; None if it did not fail so.
    """

    facts: ExecutionFacts
    seconds: float
    failed_step: str | None
    failed_scope: str | None
    error: dict[str, Any] | None
    deadline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An execution that a text may mean; ``expired``: only its key is left."""

    id: UUID
    flow: str
    key: str | None
    expired: bool


def find(
    connection: CoreConnection, search: Search, *, limit: int, before: UUID | None = None
) -> list[Found]:
    """Return a page of executions, the newest first.

    Args:
        before: the last id of the page before.
    """
    failed = (
        select(_steps.c.name, _steps.c.scope, _steps.c.error)
        .where(_executions.c.failed > 0, _failed_rows(_steps.c, search=None))
        .order_by(_steps.c.ended_no)
        .limit(1)
        .lateral("failed")
    )
    now = func.orchestrator.now()
    ended = func.coalesce(_executions.c.finished_at, now)
    query = (
        _facts()
        .add_columns(
            func.extract("epoch", ended - _executions.c.created_at).label("seconds"),
            failed.c.name.label("failed_step"),
            failed.c.scope.label("failed_scope"),
            failed.c.error,
            _passed_deadline().label("deadline"),
        )
        .outerjoin(failed, literal(True))
        .where(*_conditions(search))
        .order_by(_executions.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(_executions.c.id < before)
    found = []
    for row in connection.execute(query).mappings():
        rest = dict(row)
        seconds = float(rest.pop("seconds"))
        step, scope, error = (rest.pop(name) for name in ("failed_step", "failed_scope", "error"))
        passed = rest.pop("deadline")
        found.append(
            Found(
                facts=ExecutionFacts.from_row(rest),
                seconds=max(0.0, seconds),
                failed_step=step,
                failed_scope=scope,
                error=error,
                deadline=passed,
            )
        )
    return found


def flow_names(connection: CoreConnection) -> list[str]:
    """Return the names of all flows that were ever registered."""
    query = select(_definitions.c.name).distinct().order_by(_definitions.c.name)
    return list(connection.execute(query).scalars())


def versions_of(connection: CoreConnection, flow: str) -> list[tuple[int, str]]:
    """Return (id, version) of the stored definitions of a flow, the newest first."""
    query = (
        select(_definitions.c.id, _definitions.c.version)
        .where(_definitions.c.name == flow)
        .order_by(_definitions.c.id.desc())
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def with_id_between(connection: CoreConnection, low: UUID, high: UUID, limit: int) -> list[Named]:
    """Return executions whose id lies between two, both included, the newest first."""
    query = (
        select(_executions.c.id, _definitions.c.name, _state.c.key)
        .select_from(_joined())
        .where(_executions.c.id.between(low, high))
        .order_by(_executions.c.id.desc())
        .limit(limit)
    )
    return [
        Named(id=row[0], flow=row[1], key=row[2], expired=False)
        for row in connection.execute(query)
    ]


def with_key(connection: CoreConnection, key: str, flow: str | None) -> list[Named]:
    """Return the executions that have a key: one of each flow at most."""
    names = [flow] if flow is not None else flow_names(connection)
    keys = tables.keys
    query = (
        select(keys.c.execution_id, keys.c.definition, keys.c.key, keys.c.expires_at)
        .where(keys.c.definition.in_(names), keys.c.key == key)
        .order_by(keys.c.definition)
    )
    return [
        Named(id=row[0], flow=row[1], key=row[2], expired=row[3] is not None)
        for row in connection.execute(query)
    ]


def _joined() -> Any:
    return _executions.join(_definitions, _definitions.c.id == _executions.c.definition_id).join(
        _state, _state.c.execution_id == _executions.c.id
    )


def _facts() -> Select[Any]:
    columns = [
        _executions.c[name]
        for name in ("id", "definition_id", "status", "paused", "started", "finished", "failed")
    ]
    columns += [_executions.c[name] for name in ("position", "reruns", "created_at", "finished_at")]
    return select(
        *columns, _definitions.c.name.label("flow"), _definitions.c.version, _state.c.key
    ).select_from(_joined())


def _conditions(search: Search) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if search.flows:
        conditions.append(_definitions.c.name.in_(search.flows))
    if search.versions:
        conditions.append(_definitions.c.version.in_(search.versions))
    if search.statuses:
        conditions.append(_executions.c.status.in_([str(status) for status in search.statuses]))
    if search.keys:
        conditions.append(or_(*(_like(pattern) for pattern in search.keys)))
    if search.paused is not None:
        conditions.append(_executions.c.paused.is_(search.paused))
    if search.open is not None:
        conditions.append(_executions.c.finished_at.is_(None) == literal(search.open))
    if search.since is not None:
        moment = _moment(search.since)
        conditions.append(_executions.c.id >= func.orchestrator.uuid7_at(moment - _SKEW))
        conditions.append(_executions.c.created_at >= moment)
    if search.until is not None:
        moment = _moment(search.until)
        conditions.append(_executions.c.id <= func.orchestrator.uuid7_at(moment + _SKEW))
        conditions.append(_executions.c.created_at <= moment)
    if search.steps or search.errors:
        by_step = and_(
            _executions.c.failed > 0, exists().where(_failed_rows(_steps.c, search=search))
        )
        by_itself = DEADLINE_PASSED in search.errors and not search.steps
        conditions.append(or_(by_step, _passed_deadline().is_not(None)) if by_itself else by_step)
    if search.stuck:
        conditions.append(_executions.c.finished_at.is_(None))
        conditions.append(_executions.c.paused.is_(False))
        conditions.append(_executions.c.id.in_(select(_stuck().c.execution_id)))
    return conditions


def _like(pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return _state.c.key == pattern
    escaped = pattern.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return _state.c.key.like(escaped.replace("*", "%"), escape="\\")


def _moment(bound: datetime | timedelta) -> Any:
    return func.orchestrator.now() - bound if isinstance(bound, timedelta) else literal(bound)


def _failed_rows(columns: Any, search: Search | None) -> ColumnElement[bool]:
    conditions = [
        columns.execution_id == _executions.c.id,
        columns.status == str(StepStatus.FAILED),
    ]
    if search is not None and search.steps:
        conditions.append(columns.name.in_(search.steps))
    if search is not None and search.errors:
        conditions.append(columns.error["kind"].astext.in_(search.errors))
    return and_(*conditions)


def _passed_deadline() -> ScalarSelect[Any]:
    """Return the deadline by which an execution has failed; null if a step did it, or nothing."""
    return (
        select(case((_journal.c.kind == "deadline", _journal.c.data["after"].astext)))
        .where(_executions.c.status.in_(["failing", "failed"]))
        .where(_journal.c.execution_id == _executions.c.id)
        .where(_journal.c.kind.in_(["failing", "deadline"]))
        .order_by(_journal.c.position.desc())
        .limit(1)
        .correlate(_executions)
        .scalar_subquery()
    )


def _stuck() -> CTE:
    """Return the executions that do not move, found by the index of what sweeps attend to.

    Materialized: of millions of executions few are attended to.
    """
    overdue = _steps.c.attend_at < func.orchestrator.now() - STUCK_AFTER
    parked = _steps.c.error["kind"].astext == "parked"
    unclaimed = and_(
        _steps.c.due_at.is_(None), _steps.c.dispatch - _steps.c.claimed >= _UNCLAIMED_MESSAGES
    )
    ready = _steps.c.status == str(StepStatus.READY)
    query = select(_steps.c.execution_id).distinct()
    query = query.where(_steps.c.attend_at.is_not(None))
    untaken = situation.untaken(STUCK_AFTER, situation.consumed_queues())
    query = query.where(or_(overdue, and_(ready, or_(parked, unclaimed)), untaken))
    return query.cte("stuck").prefix_with("MATERIALIZED")
