"""Random graphs, a tiny runtime in memory that applies the planner, and the naive model beside it.

The simulator keeps rows as the database does: a join row is inserted at its first arrival, fires at
live == wanted, an each row expands, orders a window of items, refills one per completed item and
gathers. It decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.graph import (
    Binding,
    DictOf,
    EachNode,
    Graph,
    ListOf,
    Literal,
    Node,
    Output,
    Param,
    StepNode,
)
from orchestrator.flow.rerun import Place, Rerun, RowFacts, rerun
from orchestrator.lifecycle import ENDED_STEP, StepStatus

law = settings(deadline=None, max_examples=150)
seeds = st.integers(0, 2**32).map(Random)
windows = st.integers(1, 4)

T = TypeVar("T")
Names: TypeAlias = tuple[str, ...]
_SIZES = (0, 1, 3)
Counts: TypeAlias = Mapping[tuple[str, ...], tuple[int, ...]]


class Tape:
    """Choices read off random bytes: one draw per graph is quick, and zeros choose the simplest."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, limit: int) -> int:
        return next(self._data, 0) % limit

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]


def random_binding(tape: Tape, params: Names, earlier: Names, depth: int = 1) -> Binding:
    """A parameter, an earlier output, a literal, or a list or dict of these."""
    kinds = ("param", "output", "output", "literal", "list", "dict")
    match tape.pick(kinds[: 6 if depth else 4]):
        case "output" if earlier:
            return Output(tape.pick(earlier))
        case "list":
            inner = (random_binding(tape, params, earlier, 0) for _ in range(tape.below(3)))
            return ListOf(tuple(inner))
        case "dict":
            keys = ("k", "$k", "l")[: tape.below(3)]
            return DictOf(tuple((k, random_binding(tape, params, earlier, 0)) for k in keys))
        case "literal":
            return Literal(tape.pick((None, True, 7, "text", [1], {"$date": "x"})))
    return Param(tape.pick(params))


def random_graph(tape: Tape, depth: int, prefix: str, params: Names) -> Graph:
    """A DAG in which a node depends on any earlier ones; some nodes are eaches of such graphs."""
    nodes: list[Node] = []
    names: Names = ()
    for number in range(2 + tape.below(5) if depth == 2 else 1 + tape.below(3)):
        name = f"{prefix}{number}"
        given = [random_binding(tape, params, names) for _ in range(tape.below(4))]
        bound = tuple((f"{name}_p{i}", binding) for i, binding in enumerate(given))
        after = (tape.pick(names),) if names and tape.below(3) == 1 else ()
        if depth and tape.below(5) > 2:
            inner = (f"{name}_x", *(param for param, _ in bound))
            body = random_graph(tape, depth - 1, f"{name}_", inner)
            items = random_binding(tape, params, names)
            nodes.append(EachNode(name, items, inner[0], body, bound, after=after))
        else:
            nodes.append(StepNode(name, "m:f", bound, after=after))
        names = (*names, name)
    result = random_binding(tape, params, names) if tape.below(4) else None
    return Graph(params, tuple(nodes), result)


def random_counts(tape: Tape, graph: Graph) -> Counts:
    """For each each: how many items it has in one scope after another."""
    return {
        path: (tape.pick(_SIZES), tape.pick(_SIZES), tape.pick(_SIZES))
        for path in _each_paths(graph)
    }


def _counted(data: bytes) -> tuple[Graph, Counts]:
    tape = Tape(data)
    graph = random_graph(tape, 2, "n", ("x",))
    return graph, random_counts(tape, graph)


counted_graphs = st.binary(min_size=80, max_size=240).map(_counted)


def item_count(counts: Counts, name: str, scope: str) -> int:
    """How many items the each ``name`` has in ``scope``: a pure function of the place."""
    varied = counts[(*scopes.path(scope), name)]
    outer = scopes.parent(scope)
    return varied[outer[2] % 3 if outer else 0]


def all_places(graph: Graph, counts: Counts, scope: str = "") -> set[Place]:
    """The naive model: every node of every level, once per item of the eaches around it."""
    found: set[Place] = set()
    for node in planning.level(graph, scope).nodes:
        found.add((node.name, scope))
        if isinstance(node, EachNode):
            for index in range(item_count(counts, node.name, scope)):
                found |= all_places(graph, counts, scopes.child(scope, node.name, index))
    return found


def affected_places(graph: Graph, counts: Counts, chosen: set[Place]) -> set[Place]:
    """The naive model of a re-run: close ``chosen`` under 'after', eaches around items apart."""
    places = all_places(graph, counts)
    found, partly = set(chosen), set[Place]()
    while True:
        more = {
            (name, scope)
            for name, scope in places
            for dependency in planning.level(graph, scope).dependencies(name)
            if (dependency, scope) in found | partly
        }
        more |= {(n, s) for n, s in places if (p := _around(s)) is not None and p in found}
        around = {p for _, scope in found | partly if (p := _around(scope)) is not None}
        if more <= found and around <= partly:
            return found | partly
        found |= more
        partly |= around


@dataclass
class Row:
    """A step row in memory."""

    name: str
    scope: str
    run: int
    status: StepStatus
    wanted: int
    live: int
    items: int | None = None
    next: int = 0

    @property
    def facts(self) -> RowFacts:
        return RowFacts(
            name=self.name,
            scope=self.scope,
            run=self.run,
            status=self.status,
            wanted=self.wanted,
            live=self.live,
            items=self.items,
            next=self.next,
        )


@dataclass
class Simulator:
    """An execution in memory. Every move picks a row at random."""

    graph: Graph
    counts: Counts
    random: Random
    window: int = 2
    rows: list[Row] = field(default_factory=list)
    closing: bool = False
    started: int = 0
    finished: int = 0

    def start(self) -> None:
        """Order the first steps."""
        for order in planning.first(self.graph):
            self._order(order)

    def started_and_moved(self, share: float) -> Simulator:
        """Start and move, but for a share below 1 never to the very end."""
        self.start()
        for _ in range(int(share * 2 * len(all_places(self.graph, self.counts)))):
            self.move()
        return self

    def run_to_the_end(self) -> None:
        """Move until nothing can; counters may agree only then."""
        while self.move():
            settled = self.finished == self.started
            assert settled == (not self.open_rows()), "finished equals started before the end"

    def move(self) -> bool:
        """Begin or end one step run; return whether there was one."""
        movable = self.movable()
        if not movable:
            return False
        row = self.random.choice(movable)
        if row.status is StepStatus.READY:
            row.status = StepStatus.RUNNING
        else:
            self._end_body(row)
        return True

    def fail_one(self) -> None:
        """Fail a step that could run: the execution closes, whoever is not running is cancelled."""
        row = self.random.choice(self.movable())
        self._end(row, StepStatus.FAILED)
        self.closing = True
        for other in self.rows:
            if other.status in {StepStatus.WAITING, StepStatus.READY}:
                self._end(other, StepStatus.CANCELLED)

    def rerun(self, chosen: set[Place]) -> Rerun:
        """Apply the plan of a re-run."""
        windows = {"/".join(path): self.window for path in self.counts}
        plan = rerun(self.graph, [row.facts for row in self.rows], chosen, windows)
        for row in self.rows:
            if (row.name, row.scope, row.run) in plan.superseded:
                self.started -= 1
                self.finished -= row.status in ENDED_STEP
                row.status = StepStatus.SUPERSEDED
        for order in plan.orders:
            self.started += 1
            status = StepStatus.READY if order.ready else StepStatus.WAITING
            self.rows.append(
                Row(
                    order.name,
                    order.scope,
                    order.run,
                    status,
                    order.wanted,
                    order.live,
                    order.items,
                    order.next,
                )
            )
        self.closing = False
        return plan

    def current(self) -> dict[Place, Row]:
        """Rows that are not superseded; two of one place are a bug."""
        kept = [row for row in self.rows if row.status is not StepStatus.SUPERSEDED]
        found = {(row.name, row.scope): row for row in kept}
        assert len(found) == len(kept), "two live rows of one place"
        return found

    def movable(self) -> list[Row]:
        """Rows that could begin or end."""
        return [r for r in self.rows if r.status in {StepStatus.READY, StepStatus.RUNNING}]

    def open_rows(self) -> list[Row]:
        """Rows that have not ended."""
        ended = {*ENDED_STEP, StepStatus.SUPERSEDED}
        return [row for row in self.rows if row.status not in ended]

    def _end_body(self, row: Row) -> None:
        node = planning.level(self.graph, row.scope).node(row.name)
        if isinstance(node, StepNode) or row.items is not None:
            self._succeed(row)
            return
        row.items = item_count(self.counts, row.name, row.scope)
        row.live = 0
        row.wanted = row.items * planning.arrivals_per_item(self.graph, row.name, row.scope)
        if not row.items:
            self._succeed(row)
        elif self.closing:
            self._end(row, StepStatus.CANCELLED)
        else:
            row.status = StepStatus.WAITING
            self._order_items(row, self.window)

    def _order_items(self, row: Row, count: int) -> None:
        assert row.items is not None
        start, row.next = row.next, row.next + count
        stop = min(row.next, row.items)
        for order in planning.item_orders(self.graph, row.name, row.scope, start, stop):
            self._order(order)

    def _succeed(self, row: Row) -> None:
        self._end(row, StepStatus.SUCCEEDED)
        if self.closing:
            return
        succession = planning.after(self.graph, row.name, row.scope)
        for order in succession.orders:
            self._order(order)
        if succession.fan_in is not None:
            self._arrive(self.current()[succession.fan_in.each, succession.fan_in.scope])

    def _arrive(self, row: Row) -> None:
        row.live += 1
        assert row.status is StepStatus.WAITING
        assert row.live <= row.wanted
        if row.live == row.wanted:
            row.status = StepStatus.READY
        elif row.items is not None:
            arrivals = planning.arrivals_per_item(self.graph, row.name, row.scope)
            if row.live % arrivals == 0:
                self._order_items(row, 1)

    def _order(self, order: planning.Order) -> None:
        known = self.current().get((order.name, order.scope))
        if known is not None:
            assert order.wanted > 1, "a plain step was ordered twice"
            self._arrive(known)
            return
        runs = [r.run for r in self.rows if (r.name, r.scope) == (order.name, order.scope)]
        self.started += 1
        self.rows.append(
            Row(
                order.name,
                order.scope,
                max(runs, default=0) + 1,
                StepStatus.READY if order.plain else StepStatus.WAITING,
                order.wanted,
                min(order.wanted, 1),
            )
        )

    def _end(self, row: Row, status: StepStatus) -> None:
        row.status = status
        self.finished += 1


def _each_paths(graph: Graph, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for node in graph.nodes:
        if isinstance(node, EachNode):
            yield (*path, node.name)
            yield from _each_paths(node.body, (*path, node.name))


def _around(scope: str) -> Place | None:
    outer = scopes.parent(scope)
    return None if outer is None else (outer[1], outer[0])
