"""Whether a flow is recorded alike each time: that finds clocks, random numbers and new ids."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator import codec
from orchestrator.flow import documents, wording
from orchestrator.flow.bindings import Binding
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    MergeNode,
    Node,
    SignalNode,
    SleepNode,
    StepNode,
)
from orchestrator.flow.recording import Recording


def difference(one: Recording, two: Recording) -> str | None:
    """Return what differs between two recordings of one flow, with its place, or None."""
    for first, second in zip(one.nodes, two.nodes, strict=False):
        if first.name != second.name:
            return (
                f"step {first.name!r} ({one.places[first.name]}) was recorded first, step"
                f" {second.name!r} ({two.places[second.name]}) second"
            )
        where = f"step {first.name!r} ({one.places[first.name]})"
        for part, before, now in _parts(first, second):
            if before != now:
                return f"{where}: {part} was {before} first and {now} second"
        if one.options.get(first.name) != two.options.get(first.name):
            return f"{where}: its options were not the same"
    longer = one if len(one.nodes) > len(two.nodes) else two
    for node in longer.nodes[min(len(one.nodes), len(two.nodes)) :]:
        return f"step {node.name!r} ({longer.places[node.name]}) was recorded only once"
    if _text(one.result) != _text(two.result):
        return "the value it returned"
    return None


def _parts(one: Node, two: Node) -> Iterator[tuple[str, str, str]]:
    yield "what it runs", _runs(one), _runs(two)
    before, now = dict(_named(one)), dict(_named(two))
    for name in sorted(before.keys() | now.keys()):
        if _text(before.get(name)) != _text(now.get(name)):
            yield name, *_told(before.get(name), now.get(name))
    yield "after", str(one.after), str(two.after)


def _runs(node: Node) -> str:
    match node:
        case StepNode():
            return node.function if node.handles is None else f"{node.function} for {node.handles}"
        case EachNode():
            body = codec.canonical(documents.write_graph(node.body))
            return f"{body}, accepting {node.accept}" if node.accept < 1 else body
        case MergeNode():
            others = "cancelling" if node.cancel else "leaving"
            return f"the first {node.wanted} of {', '.join(node.inputs)}, {others} the others"
        case SignalNode():
            return f"the signal {node.signal!r}, within {node.within}, default {node.default}"
        case SleepNode():
            return f"a sleep of {node.lasts}"
        case CallNode():
            return f"the flow {node.flow!r}"


def _named(node: Node) -> Iterator[tuple[str, Binding]]:
    given: tuple[tuple[str, Binding], ...] = ()
    match node:
        case StepNode() | CallNode():
            given = node.arguments
        case EachNode():
            given = (("items", node.items), *node.shared)
        case SleepNode() if node.until is not None:
            given = (("until", node.until),)
        case _:
            pass
    for name, binding in given:
        yield f"the argument {name!r}", binding
    for number, condition in enumerate(node.conditions, 1):
        yield f"condition {number}", condition


def _told(before: Binding | None, now: Binding | None) -> tuple[str, str]:
    """Two bindings that differ as a reader writes them, if that shows the difference."""
    shown = [wording.text(binding) if binding else "nothing" for binding in (before, now)]
    one, two = shown if shown[0] != shown[1] else (_text(before), _text(now))
    return one, two


def _text(binding: Binding | None) -> str:
    # As text, because True == 1 and 1 == 1.0.
    return "nothing" if binding is None else codec.canonical(documents.write_binding(binding))
