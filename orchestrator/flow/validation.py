"""What makes a graph refusable: each problem as a sentence that names the thing.

Graphs come out of recordings and out of JSON documents. Both are checked here, before anything is
stored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import durations
from orchestrator.flow.bindings import Binding, Failure, Output, Param, leaves, parts
from orchestrator.flow.bindings_json import MAX_BINDING_DEPTH
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    Graph,
    MergeNode,
    Node,
    SignalNode,
    SleepNode,
    StepNode,
)

MAX_NODES = 1_000
MAX_DEPTH = 10
MAX_NAME = 63

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FUNCTION = re.compile(r"[^\s:]+:[^\s:]+")


@dataclass(frozen=True, slots=True)
class _Names:
    """The nodes of a level, and those of them that handle another."""

    nodes: frozenset[str]
    handlers: frozenset[str]


def name_problem(name: str) -> str | None:
    """Return why ``name`` cannot be the name of a step or flow, or None."""
    if not _NAME.fullmatch(name):
        return f"the name {name!r} may hold only letters A-Z, digits and '_', no digit first"
    if len(name) > MAX_NAME:
        return f"the name {name!r} has {len(name)} characters, at most {MAX_NAME} are allowed"
    return None


def check(graph: Graph, flow: str) -> None:
    """Raise one DefinitionError that lists every problem of a flow's graph."""
    found = list(problems(graph))
    if found:
        raise DefinitionError(f"flow {flow!r}: " + "; ".join(found))


def problems(graph: Graph) -> Iterator[str]:
    """Yield what is wrong with a flow's graph; an item's body is named by the path of its each."""
    if depth(graph) > MAX_DEPTH:
        yield f"each is nested {depth(graph)} deep, at most {MAX_DEPTH} are allowed"
        return
    if size(graph) > MAX_NODES:
        yield f"the flow has {size(graph)} steps, at most {MAX_NODES} are allowed"
    yield from _level(graph, ())


def size(graph: Graph) -> int:
    """Return how many nodes a graph has, those inside its bodies included."""
    inner = (size(node.body) for node in graph.nodes if isinstance(node, EachNode))
    return len(graph.nodes) + sum(inner)


def depth(graph: Graph) -> int:
    """Return how deep eaches are nested in a graph; 0 without any."""
    inner = (depth(node.body) for node in graph.nodes if isinstance(node, EachNode))
    return max((1 + below for below in inner), default=0)


def _level(graph: Graph, path: tuple[str, ...]) -> Iterator[str]:
    where = f"in the body of each {'/'.join(path)!r}: " if path else ""
    found = [where + problem for problem in _own(graph)]
    yield from found
    if not found:
        # Only now are names unique and references sound enough to look for an order.
        cycle = _cycle(graph)
        if cycle:
            yield f"{where}never reached, they wait for each other: {' -> '.join(cycle)}"
    for node in graph.nodes:
        if isinstance(node, EachNode):
            yield from _level(node.body, (*path, node.name))


def _own(graph: Graph) -> Iterator[str]:
    if not graph.nodes:
        yield "there is no step; a flow needs at least one"
    for name in _twice(graph.params):
        yield f"the parameter {name!r} is declared twice"
    for param in graph.params:
        if not param.isidentifier():
            yield f"the parameter {param!r} is not an identifier"
    for name in _twice(node.name for node in graph.nodes):
        yield f"the name {name!r} is used twice"
    level = _Names(
        frozenset(node.name for node in graph.nodes),
        frozenset(n.name for n in graph.nodes if isinstance(n, StepNode) and n.handles),
    )
    for node in graph.nodes:
        for problem in _node(node, graph, level):
            yield f"step {node.name!r}: {problem}"
    if graph.result is not None:
        for problem in _references(graph.result, graph, level):
            yield f"the result: {problem}"
        if any(isinstance(leaf, Failure) for leaf in leaves(graph.result)):
            yield "the result: a failure is given to its handler only"


def _node(node: Node, graph: Graph, level: _Names) -> Iterator[str]:
    problem = name_problem(node.name)
    if problem:
        yield problem
    handles = node.handles if isinstance(node, StepNode) else None
    for binding in (*node.bindings, *node.conditions):
        yield from _references(binding, graph, level)
        for leaf in leaves(binding):
            if isinstance(leaf, Failure) and leaf.node != handles:
                yield f"it takes the failure of {leaf.node!r}, which it does not handle"
    for name in node.after:
        if name not in level.nodes:
            yield f"after={name!r} is no step of this level"
        elif name in level.handlers:
            yield f"after={name!r} is a handler: name the step that it handles"
    match node:
        case StepNode():
            if not _FUNCTION.fullmatch(node.function):
                yield f"the function {node.function!r} is not written 'module:name'"
            for name in _twice(name for name, _ in node.arguments):
                yield f"the argument {name!r} is given twice"
            if node.handles is not None:
                yield from _handled(node, node.handles, graph, level)
        case EachNode():
            if not 0 <= node.accept <= 1:
                yield f"accept={node.accept} is no share of items, from 0 to 1"
            yield from _bound_parameters(node)
        case MergeNode():
            yield from _merged(node)
        case SignalNode():
            if not node.signal:
                yield "the signal it waits for has no name"
            if node.within is not None:
                yield from _duration("within", node.within)
        case SleepNode():
            if (node.lasts is None) == (node.until is None):
                yield "it sleeps for a duration or until a moment, one of them"
            if node.lasts is not None:
                yield from _duration("sleep", node.lasts)
        case CallNode():
            problem = name_problem(node.flow)
            if problem:
                yield f"the flow it calls: {problem}"
            for name in _twice(name for name, _ in node.arguments):
                yield f"the argument {name!r} is given twice"


def _handled(node: StepNode, of: str, graph: Graph, level: _Names) -> Iterator[str]:
    if of not in level.nodes:
        yield f"it handles {of!r}, which is no step of this level"
        return
    other = next(other for other in graph.nodes if other.name == of)
    if not isinstance(other, StepNode | CallNode) or getattr(other, "handles", None) is not None:
        yield f"it handles {of!r}, but only a step or a call that handles nothing has a handler"
    if node.after or node.conditions:
        yield f"it handles {of!r} and is ordered by its failure alone, without after or conditions"
    earlier = {of, *graph.dependencies(of)} if of in graph else set()
    for binding in node.bindings:
        for leaf in leaves(binding):
            if isinstance(leaf, Output) and leaf.node not in earlier - {of}:
                yield f"it uses {leaf.node!r}, which {of!r} does not wait for"
    rivals = [n.name for n in graph.nodes if isinstance(n, StepNode) and n.handles == of]
    if rivals[0] != node.name:
        yield f"{of!r} has the handler {rivals[0]!r} already"


def _merged(node: MergeNode) -> Iterator[str]:
    for name in _twice(node.inputs):
        yield f"the input {name!r} is given twice"
    if node.wanted > len(node.inputs):
        yield f"it waits for {node.wanted} of {len(node.inputs)} inputs"
    if node.single and node.wanted != 1:
        yield f"it waits for {node.wanted} inputs and cannot have the value of a single one"


def _duration(what: str, written: str) -> Iterator[str]:
    try:
        durations.parse(written)
    except InvalidInput as error:
        yield f"{what}: {error}"


def _bound_parameters(node: EachNode) -> Iterator[str]:
    shared = [name for name, _ in node.shared]
    bound = [node.item, *shared]
    for name in _twice(bound):
        yield f"the body's parameter {name!r} is bound twice"
    for name in sorted(set(bound) - set(node.body.params)):
        yield f"the body has no parameter {name!r}"
    for name in sorted(set(node.body.params) - set(bound)):
        yield f"the body's parameter {name!r} is not bound"


def _references(binding: Binding, graph: Graph, level: _Names) -> Iterator[str]:
    if _nesting(binding) > MAX_BINDING_DEPTH:
        yield f"an expression is nested deeper than {MAX_BINDING_DEPTH} levels"
    for leaf in leaves(binding):
        match leaf:
            case Param(name) if name not in graph.params:
                yield f"there is no parameter {name!r}"
            case Output(node) if node not in level.nodes:
                yield f"it refers to {node!r}, which is no step of this level"
            case Output(node) if node in level.handlers:
                yield f"it refers to {node!r}, a handler: refer to the step that it handles"
            case _:
                pass


def _nesting(binding: Binding) -> int:
    return 1 + max(map(_nesting, parts(binding)), default=-1)


def _cycle(graph: Graph) -> tuple[str, ...]:
    sorter = TopologicalSorter({n.name: graph.dependencies(n.name) for n in graph.nodes})
    try:
        sorter.prepare()
    except CycleError as error:
        return tuple(error.args[1])
    return ()


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
