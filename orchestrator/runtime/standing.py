"""How a step run stands for those who read it: what it waits for, who took its failure, its runs.

The status in a row says what workers may do with it. A wait for a signal is ``ready`` there, with a
time from which on it may be claimed: for a reader it is waiting, and for something. Likewise a row
counts its claims, while a reader counts how often the body ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orchestrator.errors import NotFound
from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import Graph, MergeNode, Node, SignalNode, StepNode
from orchestrator.lifecycle import StepStatus
from orchestrator.records import StepAddress
from orchestrator.runtime.answers import clock
from orchestrator.store.situation import StepSituation

_S = StepStatus

_ENDLESS = 9999  # what has no end is parked until this year


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a step run waits for.

    Attributes:
        kind: a word that does not change: ``signal``, ``time``, ``execution``, ``items`` (of a
            fan-out), ``values`` (of a merge), ``steps`` (of a join), ``attempt`` (a retry that is
            not due), ``worker`` (one that has the step's function).
        words: the same for a person, to be read after "waiting".
        signal: the name of the event.
        execution: the child execution.
        until: when the wait is over whatever happens.
        done, of: how much has come, and how much is wanted.
    """

    kind: str
    words: str
    signal: str | None = None
    execution: UUID | None = None
    until: datetime | None = None
    done: int | None = None
    of: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A step run with what its row means to a reader.

    Attributes:
        wait: what it waits for, if it does.
        runs: how often its body was begun since it was ordered or retried.
        absorption: why the execution does without it, if it does.
    """

    row: StepSituation
    wait: Wait | None
    runs: int
    absorption: str | None

    @property
    def state(self) -> str:
        """The status as it reads: ``waiting`` stands for a ready one that waits for something."""
        return str(self.row.status if self.wait is None else _S.WAITING)


def standing(row: StepSituation, graph: Graph | None, now: datetime) -> Standing:
    """Return how a step run stands at this time of the database."""
    taken = row.absorbed_by
    return Standing(
        row=row,
        wait=wait_of(row, graph, now),
        runs=body_runs(row, graph),
        absorption=None if taken is None else absorption(row.address, taken, graph),
    )


def wait_of(row: StepSituation, graph: Graph | None, now: datetime) -> Wait | None:
    """Return what a step run waits for; None when it has ended, runs, or could run at once.

    Args:
        graph: of its definition; without it, what the row alone tells.
        now: the database's time.
    """
    if row.status is _S.WAITING:
        return _counted(row, graph)
    if row.status is _S.READY and row.due_at is not None and row.due_at > now:
        return _parked(row, graph)
    return None


def node_of(address: StepAddress, graph: Graph | None) -> Node | None:
    """Return the node of a step run; None when its graph is not known or does not have it."""
    return node_at(scopes.options_path(address.name, address.scope), graph)


def node_at(path: str, graph: Graph | None) -> Node | None:
    """Return the node at a path as in ``folder/parse``; None when there is none that is known."""
    *eaches, name = path.split("/")
    try:
        for each in eaches:
            graph = None if graph is None else graph.each(each).body
        return None if graph is None else graph.node(name)
    except NotFound:
        return None


def has_body(path: str, graph: Graph | None) -> bool:
    """Whether a function is run for the node at a path, as far as the graph is known."""
    node = node_at(path, graph)
    return node is None or isinstance(node, StepNode)


def wait_over(row: StepSituation) -> datetime | None:
    """Return when the wait of a parked row is over; None if it has no end."""
    return _with_end(row.until_at)


def items_ended(row: StepSituation) -> tuple[int, int]:
    """Return how many items of an expanded each have ended, and how many there are."""
    count = row.items or 0
    arrivals_per_item = max(1, (row.wanted or 0) // max(1, count))
    return (row.live or 0) // arrivals_per_item, count


def body_runs(row: StepSituation, graph: Graph | None) -> int:
    """Return how often the body of a step run was begun since it was ordered or retried.

    What the engine does itself (fan-outs, merges, waits, calls) has no body; the claim that found
    out that a step is skipped ran none.
    """
    by_engine = row.items is not None or row.total is not None or row.child is not None
    path = scopes.options_path(row.address.name, row.address.scope)
    if by_engine or not has_body(path, graph):
        return 0
    return max(0, row.attempt - (row.status is _S.SKIPPED))


def has_lost(row: StepSituation) -> bool:
    """Whether a step still runs though the merge that wanted it has what it wanted."""
    return row.status is _S.RUNNING and row.absorbed_by is not None


def absorption(address: StepAddress, absorbed_by: str, graph: Graph | None) -> str:
    """Tell why an execution does without a step run that failed, lost or was cut off."""
    if "[" in absorbed_by:
        return f"its fan-out goes on without the item {absorbed_by}"
    here = None if graph is None else planning.level(graph, address.scope)
    if here is not None and here.handler(address.name) == absorbed_by:
        return f"its handler {absorbed_by} took it"
    return f"{absorbed_by} has what it wanted without it"


def _counted(row: StepSituation, graph: Graph | None) -> Wait:
    if row.items is not None:
        done, of = items_ended(row)
        return Wait(kind="items", words=f"for its items {done}/{of}", done=done, of=of)
    done, of = row.live or 0, row.wanted or 0
    if row.total is not None or isinstance(node_of(row.address, graph), MergeNode):
        return Wait(kind="values", words=f"for its first values {done}/{of}", done=done, of=of)
    return Wait(kind="steps", words=f"for steps before it {done}/{of}", done=done, of=of)


def _parked(row: StepSituation, graph: Graph | None) -> Wait:
    node = node_of(row.address, graph)
    over = wait_over(row)
    within = f" until {_moment(over)}" if over is not None else ""
    if isinstance(node, SignalNode):
        words = f"for signal {node.signal}{within}"
        return Wait(kind="signal", words=words, signal=node.signal, until=over)
    if row.child is not None:
        return Wait(kind="execution", words=f"for execution {row.child}", execution=row.child)
    kind = (row.error or {}).get("kind")
    if kind in {"parked", "postponed"}:
        function = (row.error or {}).get("function")
        return Wait(kind="worker", words=f"for a worker that has {function}")
    if isinstance(node, StepNode) and row.error is not None:
        words = f"for attempt {row.attempt + 1} at {clock(row.due_at)}"
        return Wait(kind="attempt", words=words, until=row.due_at)
    until = _with_end(row.due_at) if row.until_at is None else over
    words = "without end" if until is None else f"until {_moment(until)}"
    return Wait(kind="time", words=words, until=until)


def _with_end(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and moment.year < _ENDLESS else None


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
