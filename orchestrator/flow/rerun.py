"""Re-running from chosen steps: what becomes superseded, and what is ordered anew.

A chosen step and everything after it run again. *After* a node are its dependents in the same
scope, the each around it, and so on outwards. An each is touched in one of two ways:

- *wholly*, when it is chosen or comes after something affected: its list is computed again, all its
item
  rows are superseded, and it is ordered like any node;
- *partly*, when only some of its items are affected: it keeps its list, its cursor and the arrivals
of the
  items that stay, and waits for the others again. (The new row takes over the stored list of the
  old one.)

For every node that is left without a row one rule says what is ordered, from the rows that stay:
nothing when none of its inputs has succeeded (its row comes with its first arrival), a waiting row
with the arrivals that are there, or a ready one when all of them are.

The same rule mends what a closing execution left behind. While it closes, whoever is not running is
cancelled and whoever succeeds orders nothing; when it runs again, cancelled rows are superseded and
ordered anew by the rule, and nodes that were never ordered are. With no step chosen at all,
``rerun`` does only this: that is what reopening an execution for the retry of a failed step needs,
once that step's own row is ready again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import EachNode, Graph, Node
from orchestrator.lifecycle import StepStatus

#: A node in a scope, whatever its runs.
Place: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What a re-run needs to know of one step row.

    Attributes:
        wanted: how many arrivals the row waits for; of an expanded each those of its items.
        live: how many there were.
        items: of an each that was expanded, the number of its items; else None.
        next: of an each, the cursor: items from here on are not ordered yet.
    """

    name: str
    scope: str
    run: int
    status: StepStatus
    wanted: int = 0
    live: int = 0
    items: int | None = None
    next: int = 0

    @property
    def place(self) -> Place:
        """The node and its scope."""
        return self.name, self.scope


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunOrder:
    """A row to insert: ready at once, or waiting with the arrivals that stay."""

    name: str
    scope: str
    run: int
    wanted: int
    live: int
    ready: bool
    items: int | None = None
    next: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerun:
    """The plan of a re-run.

    Attributes:
        superseded: rows (name, scope, run) that leave both counters.
        orders: rows to insert and to count.
        runs: the run that each affected node without an order will have when its first input
        arrives.
    """

    superseded: tuple[tuple[str, str, int], ...]
    orders: tuple[RerunOrder, ...]
    runs: Mapping[Place, int]


def rerun(
    graph: Graph,
    rows: Sequence[RowFacts],
    chosen: Collection[Place],
    windows: Mapping[str, int] | None = None,
) -> Rerun:
    """Return the plan of running ``chosen`` and all that is after them again.

    ``rows`` are all rows of the execution, superseded ones included. ``windows`` tells, by options
    path, how many items of an each may be open at once; it matters only where items ended while the
    execution was closing, and without it one item at a time goes on.

    Raises NotFound for a chosen step without a row, and Conflict when a chosen step misses an
    input, when an affected step is running, or when a failed step would stay and keep the execution
    from its end.
    """
    current = {row.place: row for row in rows if row.status is not StepStatus.SUPERSEDED}
    reached = _reached(graph, current, chosen)
    leaving = {
        place: row
        for place, row in current.items()
        if row.status is StepStatus.CANCELLED or reached.touches(place)
    }
    staying = {place: row for place, row in current.items() if place not in leaving}
    _refuse_conflicts(graph, reached, leaving, staying)
    newest: dict[Place, int] = {}
    for row in rows:
        newest[row.place] = max(newest.get(row.place, 0), row.run)
    orders = _Orders(graph, reached, leaving, staying, newest, windows or {})
    ordered = tuple(orders.of_level(graph, scopes.TOP))
    created = {(order.name, order.scope) for order in ordered}
    return Rerun(
        superseded=tuple((row.name, row.scope, row.run) for row in leaving.values()),
        orders=ordered,
        runs={place: newest[place] + 1 for place in leaving if place not in created},
    )


@dataclass(frozen=True, slots=True)
class _Reached:
    """The affected places: wholly, partly (eaches around affected items), and where to start."""

    wholly: set[Place]
    partly: set[Place]
    starts: set[Place]

    def touches(self, place: Place) -> bool:
        return place in self.wholly or place in self.partly or self.inside(place[1])

    def inside(self, scope: str) -> bool:
        """Whether a scope lies in an item of an each that is run again wholly."""
        return any(each in self.wholly for each in _eaches_around(scope))


def _reached(
    graph: Graph, current: Mapping[Place, RowFacts], chosen: Collection[Place]
) -> _Reached:
    for name, scope in chosen:
        if (name, scope) not in current:
            raise NotFound(f"step {_label((name, scope))} has no row that could run again")
    wholly, partly = set(chosen), set[Place]()
    after = set[Place]()
    waiting = sorted(chosen)
    while waiting:
        name, scope = waiting.pop()
        dependents = {(next_, scope) for next_ in planning.level(graph, scope).dependents(name)}
        around = set(list(_eaches_around(scope))[:1])
        after |= dependents
        waiting += sorted((dependents - wholly) | (around - partly))
        wholly |= dependents
        partly |= around
    found = _Reached(wholly, partly - wholly, set())
    # Whatever lies after another chosen step is simply affected: its inputs have to come first.
    found.starts.update(p for p in chosen if p not in after and not found.inside(p[1]))
    return found


def _refuse_conflicts(
    graph: Graph,
    reached: _Reached,
    leaving: Mapping[Place, RowFacts],
    staying: Mapping[Place, RowFacts],
) -> None:
    for place, row in leaving.items():
        if row.status is StepStatus.RUNNING:
            raise Conflict(
                f"step {_label(place)} is running and would have to run again: wait for it"
            )
    for place, row in staying.items():
        if row.status is StepStatus.FAILED:
            raise Conflict(
                f"step {_label(place)} failed and is not among the steps to run again: choose it as"
                " well, or retry it first"
            )
    for name, scope in sorted(reached.starts):
        for dependency in planning.level(graph, scope).dependencies(name):
            if not _succeeded(staying, (dependency, scope)):
                raise Conflict(
                    f"step {_label((name, scope))} cannot run: its input {dependency!r} has not"
                    " succeeded"
                )


@dataclass(frozen=True, slots=True)
class _Orders:
    """Walks the scopes that stay and orders every node that is left without a row."""

    graph: Graph
    reached: _Reached
    leaving: Mapping[Place, RowFacts]
    staying: Mapping[Place, RowFacts]
    newest: Mapping[Place, int]
    windows: Mapping[str, int]

    def of_level(self, level: Graph, scope: str) -> Iterator[RerunOrder]:
        for node in level.nodes:
            place = node.name, scope
            if place in self.staying:
                continue
            old = self.leaving.get(place)
            if (
                isinstance(node, EachNode)
                and old is not None
                and old.items is not None
                and place not in self.reached.wholly
            ):
                yield from self._resumed(node, scope, old, old.items)
            else:
                yield from self._fresh(level, node, scope)

    def _fresh(self, level: Graph, node: Node, scope: str) -> Iterator[RerunOrder]:
        """A node as it is ordered in the normal course, with the arrivals that are there."""
        wanted = len(level.dependencies(node.name))
        live = sum(
            _succeeded(self.staying, (dependency, scope))
            for dependency in level.dependencies(node.name)
        )
        if live or not wanted:
            yield self._order(node.name, scope, wanted=wanted, live=live)

    def _resumed(
        self, node: EachNode, scope: str, old: RowFacts, count: int
    ) -> Iterator[RerunOrder]:
        """An each that keeps its list, then the rows that its items lack."""
        ordered = min(old.next, count)
        sinks = node.body.sinks
        arrivals = [
            sum(
                _succeeded(self.staying, (sink, scopes.child(scope, node.name, i)))
                for sink in sinks
            )
            for i in range(ordered)
        ]
        still_open = sum(arrived < len(sinks) for arrived in arrivals)
        window = self.windows.get(scopes.options_path(node.name, scope), 1)
        further = min(max(window - still_open, 0), count - ordered)
        yield self._order(
            node.name,
            scope,
            wanted=count * len(sinks),
            live=sum(arrivals),
            items=count,
            next=old.next + further,
        )
        for index, arrived in enumerate([*arrivals, *[0] * further]):
            if arrived < len(sinks):
                yield from self.of_level(node.body, scopes.child(scope, node.name, index))

    def _order(
        self,
        name: str,
        scope: str,
        *,
        wanted: int,
        live: int,
        items: int | None = None,
        next: int = 0,  # noqa: A002 - the name of the column
    ) -> RerunOrder:
        return RerunOrder(
            name=name,
            scope=scope,
            run=self.newest.get((name, scope), 0) + 1,
            wanted=wanted,
            live=live,
            ready=live == wanted,
            items=items,
            next=next,
        )


def _succeeded(rows: Mapping[Place, RowFacts], place: Place) -> bool:
    row = rows.get(place)
    return row is not None and row.status is StepStatus.SUCCEEDED


def _eaches_around(scope: str) -> Iterator[Place]:
    """The eaches whose items a scope lies in, innermost first."""
    while (outer := scopes.parent(scope)) is not None:
        scope = outer[0]
        yield outer[1], scope


def _label(place: Place) -> str:
    name, scope = place
    return repr(f"{scope}/{name}" if scope else name)
