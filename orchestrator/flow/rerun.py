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

What has *arrived* is what stays and has ended: with a value when it succeeded, without one when it
was skipped, or failed or lost in a way that the execution could do without. A node whose failure a
handler took has arrived when its handler has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import EachNode, Graph, MergeNode, Node, handled
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
        absorbed: whether the execution does without this row, though it failed or was cancelled.
    """

    name: str
    scope: str
    run: int
    status: StepStatus
    absorbed: bool = False
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
    """A row to insert: ready at once, or waiting with the arrivals that stay.

    ``total`` and ``arrived`` are those of a merge: how many arrivals can come, and have come.
    """

    name: str
    scope: str
    run: int
    wanted: int
    live: int
    ready: bool
    items: int | None = None
    next: int = 0
    total: int | None = None
    arrived: int | None = None

    @property
    def counts(self) -> bool:
        """Whether the row keeps a tally of arrivals."""
        return self.wanted > 1 or not self.ready or self.total is not None


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
    while more := _skipped_for(graph, current, reached):
        chosen = {*chosen, *more}
        reached = _reached(graph, current, chosen)
    leaving = {
        place: row
        for place, row in current.items()
        if (row.status is StepStatus.CANCELLED and not row.absorbed) or reached.touches(place)
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


def lost_items(graph: Graph, rows: Sequence[RowFacts], but: Collection[Place] = ()) -> list[Place]:
    """Return the steps whose failure was done without until too many items had failed.

    Args:
        but: eaches that are not asked about.
    """
    current = {row.place: row for row in rows if row.status is not StepStatus.SUPERSEDED}
    failed = {place: row for place, row in current.items() if row.status is StepStatus.FAILED}
    short = [
        place
        for place, row in failed.items()
        if row.items is not None and not row.absorbed and place not in but
    ]
    by_each: dict[Place, list[Place]] = {}
    for place, row in failed.items():
        item = _item_without(graph, row)
        if item is not None:
            by_each.setdefault(next(_eaches_around(item)), []).append(place)
    found: list[Place] = []
    while short:
        for place in by_each.get(short.pop(), ()):
            # what failed because too many of its own items did is cured by these
            (found if failed[place].items is None else short).append(place)
    return sorted(found)


def _item_without(graph: Graph, row: RowFacts) -> str | None:
    """The item that its each does without because this row failed."""
    if row.status is not StepStatus.FAILED or not row.absorbed:
        return None
    if planning.level(graph, row.scope).handler(row.name) is not None:
        return None
    return planning.accepting_item(graph, row.scope)


def _skipped_for(graph: Graph, current: Mapping[Place, RowFacts], reached: _Reached) -> set[Place]:
    """What was skipped in items whose failure runs again: it is asked anew."""
    items = {
        item
        for place, row in current.items()
        if reached.touches(place) and (item := _item_without(graph, row)) is not None
    }
    if not items:
        return set()
    return {
        place
        for place, row in current.items()
        if row.status is StepStatus.SKIPPED
        and not reached.touches(place)
        and any(item in items for item in planning.accepting_items(graph, place[1]))
    }


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
        here = planning.level(graph, scope)
        handler = here.handler(name)
        following = (*here.dependents(name), *(() if handler is None else (handler,)))
        dependents = {(next_, scope) for next_ in following}
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
        if row.status is StepStatus.FAILED and not row.absorbed:
            raise Conflict(
                f"step {_label(place)} failed and is not among the steps to run again: choose it as"
                " well, or retry it first"
            )
    for name, scope in sorted(reached.starts):
        here = planning.level(graph, scope)
        if _handles_failure(here.node(name), staying, scope):
            continue
        for dependency in here.dependencies(name):
            if _arrival(here, staying, (dependency, scope)) is None:
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
        if handled(node) is not None:
            if _handles_failure(node, self.staying, scope):
                yield self._order(node.name, scope, wanted=0, live=0)
            return
        dependencies = level.dependencies(node.name)
        found = (_arrival(level, self.staying, (name, scope)) for name in dependencies)
        arrivals = [arrival for arrival in found if arrival is not None]
        if isinstance(node, MergeNode) and arrivals:
            total, live = len(dependencies), sum(arrivals)
            yield RerunOrder(
                name=node.name,
                scope=scope,
                run=self.newest.get((node.name, scope), 0) + 1,
                wanted=node.wanted,
                live=live,
                ready=live >= node.wanted or len(arrivals) == total,
                total=total,
                arrived=len(arrivals),
            )
        elif arrivals or not dependencies:
            yield self._order(node.name, scope, wanted=len(dependencies), live=len(arrivals))

    def _resumed(
        self, node: EachNode, scope: str, old: RowFacts, count: int
    ) -> Iterator[RerunOrder]:
        """An each that keeps its list, then the rows that its items lack."""
        ordered = min(old.next, count)
        sinks = node.body.sinks
        arrivals = [
            sum(
                _arrival(node.body, self.staying, (sink, scopes.child(scope, node.name, i)))
                is not None
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


def _arrival(level: Graph, rows: Mapping[Place, RowFacts], place: Place) -> bool | None:
    """Whether what a node brought came with a value; None if it has brought nothing yet."""
    row = rows.get(place)
    if row is None:
        return None
    if row.status is StepStatus.SUCCEEDED:
        return True
    handler = level.handler(place[0])
    if row.status is StepStatus.FAILED and row.absorbed and handler is not None:
        return _arrival(level, rows, (handler, place[1]))
    return False if row.absorbed or row.status is StepStatus.SKIPPED else None


def _handles_failure(node: Node, rows: Mapping[Place, RowFacts], scope: str) -> bool:
    """Whether a node is the handler of a failure that stays."""
    of = handled(node)
    row = None if of is None else rows.get((of, scope))
    return row is not None and row.status is StepStatus.FAILED and row.absorbed


def _eaches_around(scope: str) -> Iterator[Place]:
    """The eaches whose items a scope lies in, innermost first."""
    while (outer := scopes.parent(scope)) is not None:
        scope = outer[0]
        yield outer[1], scope


def _label(place: Place) -> str:
    name, scope = place
    return repr(f"{scope}/{name}" if scope else name)
