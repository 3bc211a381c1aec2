"""What a flow may come to, evaluated naively: no schedule, no rows, no planner.

Where the order of events decides, the model asks `choose` and is run once per answer; each run is
a *world*. What does not depend on it is the same in all worlds. The order decides who wins a
merge, and whether what loses has failed before that, which fails whatever is around it.

A world says of every step run that it must have been, with its value, or that it may have been:
what a merge can do without, and everything beside what failed for good. What it does not name must
not have run. Places are tuples: ``("each", 2, "step")``, ``("call", ">", "step")`` in a child.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, TypeAlias

from tests.simulation.random_plans import (
    Block,
    Call,
    Choose,
    Condition,
    Each,
    Expression,
    Merge,
    Plan,
    Statement,
    Use,
    Work,
    fails_on,
    result_of,
)

Place: TypeAlias = tuple[str | int, ...]
SKIPPED, FAILED, UNREACHED = "skipped", "failed", "unreached"
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass
class Came:
    """What a node came to: a value, or why there is none."""

    value: Any = None
    without: str | None = None


@dataclass
class World:
    choose: Callable[[int], int]
    status: str = ""
    result: Any = None
    runs: dict[Place, Came] = field(default_factory=dict)
    optional: set[Place] = field(default_factory=set)

    def may(self, *below: Place) -> None:
        """Whatever lies below these places may have happened or not."""
        self.optional |= {p for p in self.runs for b in below if p[: len(b)] == b}


def worlds(plan: Plan, x: Any, y: Any, limit: int) -> list[World] | None:
    """Return all that may become of a flow; None if there are more than ``limit`` worlds."""
    found, tape = list[World](), list[tuple[int, int]]()
    while len(found) < limit:
        position = iter(range(1000))

        def choose(options: int, position: Iterator[int] = position) -> int:
            at = next(position)
            if at == len(tape):
                tape.append((0, options))
            return tape[at][0]

        world = World(choose)
        world.status, world.result = _flow(world, plan, {"x": x, "y": y}, ())
        found.append(world)
        while tape and tape[-1][0] + 1 == tape[-1][1]:
            tape.pop()
        if not tape:
            return found
        tape[-1] = (tape[-1][0] + 1, tape[-1][1])
    return None


def _flow(world: World, plan: Plan, params: dict[str, Any], at: Place) -> tuple[str, Any]:
    level = _Level(world, params, at, waits={"": set(_names(plan.result))})
    level.run(plan.body, ())
    if level.failed - level.forgiven:
        world.may(at)
        return "failed", None
    return "succeeded", level.value(plan.result)


@dataclass
class _Level:
    """The nodes of one flow, of one item or of one child."""

    world: World
    params: dict[str, Any]
    at: Place
    came: dict[str, Came] = field(default_factory=dict)
    waits: dict[str, set[str]] = field(default_factory=dict)  # for whom a node waits
    failed: set[str] = field(default_factory=set)  # for good, so that nobody took it
    forgiven: set[str] = field(default_factory=set)
    merges: dict[str, tuple[Merge, set[str]]] = field(default_factory=dict)  # and its winners

    def run(self, statements: Sequence[Statement], conditions: tuple[Condition, ...]) -> None:
        self._record(statements, conditions)
        for name, (merge, winners) in self.merges.items():
            useless = self._useless(name)
            needed = set(winners)
            while more := {other for one in needed for other in self._wanted(one)} - needed:
                needed |= more
            for loser in sorted(useless & self.failed - self.forgiven):
                if self.world.choose(2):  # it had not failed when the merge was decided
                    self.forgiven.add(loser)
            if merge.cancel:
                for loser in useless - needed:
                    self.world.may((*self.at, loser), (*self.at, f"{loser}_on_error"))

    def _wanted(self, name: str) -> set[str]:
        """For whom a node did wait: a merge for its winners alone."""
        merged = self.merges.get(name)
        return self.waits[name] if merged is None else merged[1]

    def _useless(self, merge: str) -> set[str]:
        """The nodes that nobody waits for, at last, but this merge."""
        found = {merge}
        while more := {
            name
            for name in self.came.keys() - found - self.waits[""]
            if (users := {user for user, of in self.waits.items() if name in of}) and users <= found
        }:
            found |= more
        return found - {merge}

    def _record(self, statements: Sequence[Statement], conditions: tuple[Condition, ...]) -> None:
        for made in statements:
            match made:
                case Block(condition=condition, body=body, other=other):
                    self._record(body, (*conditions, condition))
                    self._record(other, (*conditions, ("not", condition)))
                case Choose(name=name, condition=condition, then=then, other=other):
                    self._record([then], (*conditions, condition))
                    self._record([other], (*conditions, ("not", condition)))
                    inputs = (then.name, other.name)
                    merge = Merge(name=name, inputs=inputs, wanted=0, cancel=False)
                    self._record([merge], conditions)
                case _:
                    came = self._came(made, conditions)
                    self.came[made.name] = came
                    if came.without == FAILED:
                        self.failed.add(made.name)

    def _came(self, made: Work | Each | Call | Merge, conditions: tuple[Condition, ...]) -> Came:
        asked = {name for condition in conditions for name in _names(condition)}
        if isinstance(made, Merge):
            self.waits[made.name] = set(made.inputs)
        else:
            asked |= {name for part in vars(made).values() for name in _names(part)}
            self.waits[made.name] = asked | set(made.after)
            asked = self.waits[made.name]
        if any(self.came[name].without in {FAILED, UNREACHED} for name in asked):
            return Came(without=UNREACHED)
        if not all(self.holds(condition) for condition in conditions):
            return Came(without=SKIPPED)
        if isinstance(made, Merge):
            return self._merged(made)
        place = (*self.at, made.name)
        came, given = self._tried(made, place)
        self.world.runs[place] = came
        if came.without == FAILED and made.handler is not None and not isinstance(made, Each):
            came = self._body("rescue", given, made.handler)
            self.world.runs[*self.at, f"{made.name}_on_error"] = came
        return came

    def _tried(self, made: Work | Each | Call, place: Place) -> tuple[Came, Any]:
        match made:
            case Work(name=name, x=x, given=given, fails=fails):
                values = [self.value(x), [self.value(part) for part in given]]
                told = {"x": values[0], "given": values[1], "label": name, "fails": fails}
                return self._body(name, values, fails), told
            case Call(plan=plan, x=x, y=y):
                params = {"x": self.value(x), "y": self.value(y)}
                status, value = _flow(self.world, plan, params, (*place, ">"))
                return Came(value, None if status == "succeeded" else FAILED), params
        return self._each(made, place), None

    def _body(self, label: str, argument: Any, fails: int) -> Came:
        if fails_on(label, argument, fails):
            return Came(without=FAILED)
        return Came(result_of(label, argument))

    def _each(self, made: Each, place: Place) -> Came:
        items, given = self.value(made.items), [self.value(part) for part in made.given]
        results, lost = [], 0
        for index, item in enumerate(items if isinstance(items, list) else ()):
            at = (*place, index)
            if made.over is None:
                parts = tuple(("lit", part) for part in given)
                use = Use(name=made.name, handler=made.handler)
                step = Work(**vars(use), x=("lit", item), given=parts, fails=made.fails)
                plan = Plan("", (step,), ("out", made.name))
            else:
                plan = made.over
            params = {"x": item, "y": given[0]}
            status, value = _flow(self.world, plan, params, at)
            lost += status == "failed"
            results.append(value)
        share = {"all": 1.0, "any": 0.0}.get(str(made.accept), made.accept)
        succeeded = len(results) - lost
        enough = not results or (succeeded > 0 and succeeded >= float(share) * len(results))
        if isinstance(items, list) and enough:
            return Came(results)
        return Came(without=FAILED)

    def _merged(self, merge: Merge) -> Came:
        given = [name for name in merge.inputs if self.came[name].without is None]
        if len(given) < (merge.wanted or 1):
            lost = any(self.came[name].without in {FAILED, UNREACHED} for name in merge.inputs)
            return Came(without=UNREACHED if lost else SKIPPED)
        orders = list(permutations(given, merge.wanted or 1))
        winners = orders[self.world.choose(len(orders))]
        self.merges[merge.name] = (merge, set(winners))
        values = [self.came[name].value for name in winners]
        came = Came(values if merge.wanted else values[0])
        self.world.runs[*self.at, merge.name] = came
        return came

    def value(self, expression: Expression) -> Any:
        match expression:
            case ("param", name):
                return self.params[name]
            case ("out", name):
                return self.came[name].value
            case ("list", parts):
                return [self.value(part) for part in parts]
            case ("field", of, key):
                value = self.value(of)
                if isinstance(value, dict):
                    return value.get(key)
                is_index = isinstance(value, list) and isinstance(key, int) and key < len(value)
                return value[key] if is_index else None
        return expression[1]

    def holds(self, condition: Condition) -> bool:
        match condition:
            case ("and", one, other):
                return self.holds(one) and self.holds(other)
            case ("or", one, other):
                return self.holds(one) or self.holds(other)
            case ("not", one):
                return not self.holds(one)
            case ("missing", of):
                return self.value(of) is None
            case ("true", of):
                return bool(self.value(of))
        kind, left, right = condition
        one, other = self.value(left), self.value(right)
        if right == ("lit", None):
            return (one is None) == (kind == "==")
        return None not in (one, other) and COMPARED[kind](one, other)


def _names(part: Any) -> Iterator[str]:
    """The nodes that an expression or a condition mentions, wherever it stands."""
    if isinstance(part, tuple) and part[:1] == ("out",):
        yield part[1]
    elif isinstance(part, tuple):
        for inner in part:
            yield from _names(inner)
