"""Graph documents of integration platforms, as flows.

    {"name": "...", "graph": {"nodes": [{"id": "step_1", "componentId": "...", "function": "..."}],
                              "edges": [{"source": "step_1", "target": "step_2"}]}}

Each node runs the step that is registered for its component and function. Its only argument is what
the node before it returned; a node without one takes the input ``message``. A node with several
before it says ``nodeSettings: {"join": "all"}`` and is given their results as a list, in the order
of edges. The result of the flow has the results of its last nodes by name. The document is stored
beside the graph, so nothing of it is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias

from orchestrator.errors import DefinitionError
from orchestrator.flow import shapes, validation
from orchestrator.flow.waits import slug

if TYPE_CHECKING:
    from orchestrator.flow.steps import Step

Components: TypeAlias = "Mapping[tuple[str, str], Step[..., Any]]"

_KNOWN_JOINS = (None, "all")


@dataclass(frozen=True, slots=True)
class _Node:
    """A node of a document: its id, the step it runs, and the ids of the nodes before it."""

    id: str
    name: str
    step: Step[..., Any]
    before: tuple[str, ...]


def name_of(document: Mapping[str, Any]) -> str:
    """Return the name of a document's flow: its ``name``, else its ``title``, as an identifier."""
    for field in ("name", "title"):
        given = document.get(field)
        if isinstance(given, str) and slug(given):
            return slug(given)
    raise DefinitionError("the document has neither a name nor a title: give it a name")


def function_of(document: Mapping[str, Any], components: Components, name: str) -> FunctionType:
    """Return a function that, recorded, gives the graph of a document.

    Raises DefinitionError with all that is wrong with the document.
    """
    nodes = _nodes(document, components, name)
    followed = {before for node in nodes for before in node.before}

    def run(message: Any) -> Any:
        results: dict[str, Any] = {}
        for node in nodes:
            given = [results[before] for before in node.before]
            argument = message if not given else given[0] if len(given) == 1 else given
            results[node.id] = node.step.options(name=node.name)(argument)
        return {node.name: results[node.id] for node in nodes if node.id not in followed}

    run.__name__ = run.__qualname__ = name
    assert isinstance(run, FunctionType)  # noqa: S101 - it was written with def
    return run


def _nodes(document: Mapping[str, Any], components: Components, name: str) -> list[_Node]:
    """The nodes of a document in an order in which each comes after those before it."""
    problems: list[str] = []
    graph = document.get("graph")
    listed = graph.get("nodes") if isinstance(graph, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise DefinitionError(f"flow {name!r}: graph.nodes is missing: expected a list of nodes")
    assert isinstance(graph, Mapping)  # noqa: S101 - it had nodes
    found = _by_id(listed, problems)
    before = _before(graph.get("edges", []), found, problems)
    problems += _unknown_components(found, components)
    for id_, node in found.items():
        settings = node.get("nodeSettings")
        join = settings.get("join") if isinstance(settings, Mapping) else None
        if join not in _KNOWN_JOINS:
            problems.append(f"node {id_!r}: join {join!r} is not known: write 'all'")
        elif len(before[id_]) > 1 and join != "all":
            problems.append(
                f"node {id_!r} has {len(before[id_])} incoming edges, from"
                f" {', '.join(map(repr, before[id_]))}: say what it waits for with nodeSettings:"
                ' {"join": "all"}'
            )
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        problems.append(f"the nodes wait for each other: {' -> '.join(error.args[1])}")
    names = _names(found, problems)
    if problems:
        raise DefinitionError(f"flow {name!r}: " + "; ".join(problems))
    return [
        _Node(id_, names[id_], components[_component(found[id_])], tuple(before[id_]))
        for id_ in _in_order(before, graph.get("edges", []))
    ]


def _by_id(listed: list[Any], problems: list[str]) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for number, node in enumerate(listed):
        id_ = node.get("id") if isinstance(node, Mapping) else None
        if not isinstance(id_, str) or not id_:
            problems.append(f"graph.nodes[{number}] has no id: give it one")
        elif id_ in found:
            problems.append(f"the node id {id_!r} is used twice: give one of them another id")
        else:
            found[id_] = node
    return found


def _before(edges: object, found: Mapping[str, Any], problems: list[str]) -> dict[str, list[str]]:
    """The nodes before each node, in the order of edges."""
    before: dict[str, list[str]] = {id_: [] for id_ in found}
    if not isinstance(edges, list):
        problems.append("graph.edges is no list")
        return before
    for number, edge in enumerate(edges):
        told = edge if isinstance(edge, Mapping) else {}
        source, target = str(told.get("source", "")), str(told.get("target", ""))
        strange = [end for end in (source, target) if end not in found]
        if strange:
            hint = shapes.near_miss(strange[0], found)
            problems.append(f"graph.edges[{number}]: there is no node {strange[0]!r}{hint}")
        elif source in before[target]:
            problems.append(f"graph.edges[{number}]: {source!r} leads to {target!r} already")
        else:
            before[target].append(source)
    return before


def _in_order(before: Mapping[str, list[str]], edges: list[Mapping[str, str]]) -> list[str]:
    """First what waits for nothing, then the targets of each node in the order of its edges."""
    waits = {id_: len(sources) for id_, sources in before.items()}
    order = [id_ for id_, count in waits.items() if not count]
    for source in order:  # it grows while it is gone through
        for edge in edges:
            if edge["source"] == source:
                waits[edge["target"]] -= 1
                if not waits[edge["target"]]:
                    order.append(edge["target"])
    return order


def _unknown_components(
    found: Mapping[str, Mapping[str, Any]], components: Components
) -> list[str]:
    unknown: dict[tuple[str, str], list[str]] = {}
    for id_, node in found.items():
        if _component(node) not in components:
            unknown.setdefault(_component(node), []).append(id_)
    return [
        f"no step is registered for component {component!r}, function {function!r} (node"
        f" {', '.join(ids)}): add components={{({component!r}, {function!r}): step}}"
        for (component, function), ids in unknown.items()
    ]


def _component(node: Mapping[str, Any]) -> tuple[str, str]:
    return str(node.get("componentId", "")), str(node.get("function", ""))


def _names(found: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    """The step names of nodes; two ids that come to one name are a problem."""
    names = {id_: slug(id_) for id_ in found}
    taken: dict[str, str] = {}
    for id_, name in names.items():
        problem = validation.name_problem(name)
        if problem is not None:
            problems.append(f"the node id {id_!r} gives no name of a step: {problem}")
        elif name in taken:
            problems.append(
                f"the node ids {taken[name]!r} and {id_!r} both give the name {name!r}: change one"
            )
        taken.setdefault(name, id_)
    return names
