"""Random flows as plain data: what is generated, what becomes a `Flow`, what the model evaluates.

A plan says what a flow's function would say, statement by statement, in the order in which they are
recorded. It knows nothing of graphs, so that the model shares nothing with the engine but the
plan, and `result_of` and `fails_on`, which say what the bodies do.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

#: ("param", name), ("out", name), ("field", expression, key), ("lit", value), ("list", expressions)
Expression: TypeAlias = tuple[Any, ...]
#: (comparison, expression, expression), ("missing", expression), ("true", expression),
#: ("and", condition, condition), ("or", condition, condition), ("not", condition)
Condition: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Use:
    """What every step, each and call has; ``handler`` fails as often as ``work`` with its share."""

    name: str
    after: tuple[str, ...] = ()
    handler: int | None = None


@dataclass(frozen=True, kw_only=True)
class Work(Use):
    x: Expression
    given: tuple[Expression, ...] = ()
    fails: int = 0
    tries: int = 1
    inline: bool = True


@dataclass(frozen=True, kw_only=True)
class Each(Use):
    items: Expression
    over: Plan | None  # None: the step `work`
    given: tuple[Expression, ...] = ()
    fails: int = 0
    accept: str | float = "all"
    window: int | None = None
    inline: bool = True


@dataclass(frozen=True, kw_only=True)
class Call(Use):
    plan: Plan
    x: Expression
    y: Expression
    by_name: bool


@dataclass(frozen=True, kw_only=True)
class Merge:
    """``first_of`` if ``wanted`` is 0, else ``first_n``."""

    name: str
    inputs: tuple[str, ...]
    wanted: int
    cancel: bool


@dataclass(frozen=True, kw_only=True)
class Choose:
    name: str
    condition: Condition
    then: Work
    other: Work


@dataclass(frozen=True, kw_only=True)
class Block:
    """``with when(condition):`` and, unless ``other`` is empty, ``with otherwise():``."""

    condition: Condition
    body: tuple[Statement, ...]
    other: tuple[Statement, ...] = ()


Statement: TypeAlias = Work | Each | Call | Merge | Choose | Block


@dataclass(frozen=True)
class Plan:
    """A flow of the parameters x and y."""

    name: str
    body: tuple[Statement, ...]
    result: Expression


def _drawn(*facts: Any) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def fails_on(label: str, argument: Any, share: int) -> bool:
    """Whether a body fails on its argument; ``share`` of 8 do."""
    return _drawn("fails", label, argument) % 8 < share


def result_of(label: str, argument: Any) -> Any:
    """What a body makes of its argument: an object that may lack its fields, or None."""
    drawn = _drawn("value", label, argument)
    if drawn % 13 == 0:
        return None
    made: dict[str, Any] = {"id": drawn % 1000}
    if drawn % 5:
        made["v"] = (drawn >> 4) % 4
    if drawn % 11:
        made["items"] = [(drawn >> 8) % 7 + index for index in range((drawn >> 12) % 4)]
    return made


def random_plan(chance: Random, name: str, depth: int = 2) -> Plan:
    """Return a flow with flows in it, ``depth`` deep."""
    return _Author(chance, name, depth).plan()


@dataclass
class _Author:
    chance: Random
    name: str
    depth: int
    names: list[str] = field(default_factory=list)  # what later statements may use
    counts: dict[str, int] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()  # those around what is being written
    around: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def plan(self) -> Plan:
        size = self.chance.randint(3, 6) if self.depth == 2 else self.chance.randint(1, 3)
        body = self.statements(size, 2 if self.depth == 2 else 1)
        return Plan(self.name, body, self.result())

    def statements(self, size: int, depth: int) -> tuple[Statement, ...]:
        found: list[Statement] = []
        for _ in range(size):
            found += self.statement(depth)
        return tuple(found)

    def statement(self, depth: int) -> list[Statement]:
        kinds = ["work"] * 3 + ["choose"]
        kinds += ["each"] * 3 if self.depth else ["each"]
        kinds += ["call"] if self.depth else []
        kinds += ["block", "block", "race", "race"] if depth else []
        match self.chance.choice(kinds):
            case "each":
                return [self.keep(self.each())]
            case "call":
                return [self.keep(self.call())]
            case "choose":
                return [self.choose()]
            case "block":
                return [self.block(depth - 1)]
            case "race":
                return self.race()
        return [self.keep(self.work())]

    def keep(self, made: Any) -> Any:
        self.names.append(made.name)
        self.around[made.name] = self.blocks
        return made

    def work(self, **changed: Any) -> Work:
        given = tuple(self.value() for _ in range(self.chance.choice([0, 0, 1, 2])))
        use = self.use("n", has_handler=0.25)
        facts: dict[str, Any] = {
            **use,
            "x": self.value(),
            "given": given,
            "fails": self.share(is_taken=use["handler"] is not None),
            "tries": self.chance.choice([1, 1, 1, 2]),
            "inline": self.chance.random() < 0.5,
        }
        return Work(**{**facts, **changed})

    def each(self) -> Each:
        over = None
        if self.depth and self.chance.random() < 0.6:
            over = random_plan(self.chance, self.fresh(f"{self.name}_i"), self.depth - 1)
        use = self.use("e", has_handler=0.2 if over is None else 0)
        shares: list[str | float] = ["all", "all", "any", "any", 0.5]
        accept = self.chance.choice(shares)
        return Each(
            **use,
            items=self.items(),
            over=over,
            given=(self.value(),),
            fails=self.share(is_taken=accept != "all" or use["handler"] is not None),
            accept=accept,
            window=self.chance.choice([None, 1, 2]),
            inline=self.chance.random() < 0.5,
        )

    def call(self) -> Call:
        plan = random_plan(self.chance, self.fresh(f"{self.name}_c"), self.depth - 1)
        by_name = self.chance.random() < 0.3
        use = self.use("c", has_handler=0.3)
        return Call(**use, plan=plan, x=self.value(), y=self.value(), by_name=by_name)

    def choose(self) -> Choose:
        condition = self.condition()
        then, other = self.work(after=()), self.work(after=())
        name = self.numbered("choose")
        self.keep(made := Choose(name=name, condition=condition, then=then, other=other))
        return made

    def block(self, depth: int) -> Block:
        condition, outside = self.condition(), self.blocks
        self.enter(outside)
        body = self.statements(self.chance.choice([1, 1, 2]), depth)
        self.enter(outside)
        other = self.statements(1, depth) if self.chance.random() < 0.5 else ()
        self.blocks = outside
        return Block(condition=condition, body=body, other=other)

    def enter(self, outside: tuple[int, ...]) -> None:
        self.counts[""] = self.counts.get("", 0) + 1
        self.blocks = (*outside, self.counts[""])

    def race(self) -> list[Statement]:
        """Branches and the merge of their ends, which nothing but the merge uses, mostly."""
        found: list[Statement] = []
        ends = []
        before = list(self.names)
        for _ in range(self.chance.choice([2, 2, 3])):
            outside, condition = self.blocks, self.condition()
            is_block = self.chance.random() < 0.3
            if is_block:
                self.enter(outside)
            branch = [self.statement(0)[0] for _ in range(self.chance.choice([1, 1, 2]))]
            self.blocks = outside
            ends.append(self.names[-1])
            found += [Block(condition=condition, body=tuple(branch))] if is_block else branch
            if self.chance.random() < 0.8:
                self.names = list(before)
        # recording refuses what may run although the merge does not
        inside = [n for n in before if self.around[n][: len(self.blocks)] == self.blocks]
        if inside and self.chance.random() < 0.15:
            ends.append(self.chance.choice(inside))
        wanted = self.chance.choice([0, 0, *range(1, len(ends) + 1)])
        merge = Merge(
            name=self.numbered("first_n" if wanted else "first_of"),
            inputs=tuple(dict.fromkeys(ends)),
            wanted=min(wanted, len(set(ends))),
            cancel=self.chance.random() < 0.7,
        )
        if len(merge.inputs) < 2:
            return found
        return [*found, self.keep(merge)]

    def use(self, prefix: str, *, has_handler: float) -> dict[str, Any]:
        after = self.chance.sample(self.names, 1) if self.names else []
        has = self.chance.random() < has_handler
        return {
            "name": self.fresh(prefix),
            "after": tuple(after) if self.chance.random() < 0.2 else (),
            "handler": self.chance.choice([0, 0, 0, 3]) if has else None,
        }

    def fresh(self, prefix: str) -> str:
        self.counts[prefix] = self.counts.get(prefix, 0) + 1
        return f"{prefix}{self.counts[prefix]}"

    def numbered(self, base: str) -> str:
        """As recording numbers what has no name of its own."""
        self.counts[base] = self.counts.get(base, 0) + 1
        return base if self.counts[base] == 1 else f"{base}_{self.counts[base]}"

    def share(self, *, is_taken: bool) -> int:
        """How often it fails: seldom where nobody takes the failure, since that ends all else."""
        return self.chance.choice([0, 1, 3] if is_taken else [*[0] * 11, 1])

    def source(self, names: list[str] | None = None) -> Expression:
        known = self.names if names is None else names
        if known and self.chance.random() < 0.8:
            return ("out", self.chance.choice(known[-4:]))
        return ("param", self.chance.choice("xxy"))

    def part(self, key: str, names: list[str] | None = None) -> Expression:
        """A field of an object, or of the first object of a list."""
        source = self.source(names)
        if source[0] == "out" and source[1].startswith("first"):
            source = ("param", "x")  # what is merged may all be lists, which have no fields
        is_list = source[0] == "out" and _is_list(source[1])
        return ("field", ("field", source, 0) if is_list else source, key)

    def value(self) -> Expression:
        draw = self.chance.random()
        if draw < 0.15:
            return ("lit", self.chance.randrange(4))
        return self.source() if draw < 0.85 else self.part("v")

    def items(self) -> Expression:
        """Recording refuses items that may be missing: those of a block are used inside of it."""
        there = [
            name
            for name in self.names
            if self.around[name] == self.blocks[: len(self.around[name])]
        ]
        lists = [name for name in there if _is_list(name)]
        objects = [name for name in there if name[0] == "n"]
        draw = self.chance.random()
        if lists and draw < 0.3:
            return ("out", self.chance.choice(lists))
        if objects and draw < 0.9:
            return ("field", ("out", self.chance.choice(objects)), "items")
        if draw < 0.97:
            return ("lit", list(range(self.chance.randrange(4))))
        return self.part("items", there)  # mostly no list at all

    def condition(self, names: list[str] | None = None, depth: int = 1) -> Condition:
        draw = self.chance.random()
        if depth and draw < 0.35:
            kind = self.chance.choice(["and", "or", "not"])
            parts = [self.condition(names, 0) for _ in range(1 if kind == "not" else 2)]
            return (kind, *parts)
        number = self.part("v", names)
        if draw < 0.7:
            right: Expression = ("lit", self.chance.randrange(4))
            if draw < 0.45:
                right = self.part("v", names)
            return (self.chance.choice(["==", "!=", "<", "<=", ">", ">="]), number, right)
        if draw < 0.8:
            return (self.chance.choice(["==", "!="]), self.source(names), ("lit", None))
        return (self.chance.choice(["missing", "true"]), self.source(names))

    def result(self) -> Expression:
        if not self.names or self.chance.random() < 0.3:
            return self.source()
        some = self.chance.sample(self.names, min(len(self.names), self.chance.randint(1, 3)))
        return ("list", tuple(("out", name) for name in some))


def _is_list(name: str) -> bool:
    """Whether the value of a node is a list, as its type says."""
    return name.startswith(("e", "first_n"))
