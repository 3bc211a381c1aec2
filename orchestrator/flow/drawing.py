"""A graph as plain nodes and edges, and as text for Mermaid and Graphviz.

Paths name the nodes, ``lines`` and ``lines/pack``. An each is a frame around its body; handlers and
what follows them are drawn dotted, conditions stand at the edges into what they decide over.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.flow import wording
from orchestrator.flow.bindings import outputs
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    Graph,
    MergeNode,
    Node,
    SignalNode,
    SleepNode,
    StepNode,
    handled,
)

_KINDS = {
    StepNode: "step",
    EachNode: "each",
    MergeNode: "merge",
    SignalNode: "signal",
    SleepNode: "sleep",
    CallNode: "call",
}

#: How a kind of node is drawn: around its label in Mermaid, as a shape in Graphviz.
_MERMAID = {
    "step": ("[", "]"),
    "merge": ("{{", "}}"),
    "signal": ("[/", "/]"),
    "sleep": ("(", ")"),
    "call": ("[[", "]]"),
}
_DOT = {
    "step": "box",
    "merge": "hexagon",
    "signal": "parallelogram",
    "sleep": "ellipse",
    "call": "box3d",
}

#: The fill and the line of a node by the status of its step.
_COLOURS = {
    "waiting": ("#f4f4f4", "#9e9e9e"),
    "ready": ("#e3f2fd", "#1e88e5"),
    "running": ("#bbdefb", "#1565c0"),
    "succeeded": ("#c8e6c9", "#2e7d32"),
    "failed": ("#ffcdd2", "#c62828"),
    "cancelled": ("#e0e0e0", "#616161"),
    "skipped": ("#fafafa", "#bdbdbd"),
    "quarantined": ("#ffe0b2", "#ef6c00"),
}
_dot_text = functools.partial(json.dumps, ensure_ascii=False)
_DOTTED = frozenset({"error", "handled", "after"})


@dataclass(frozen=True, slots=True)
class Edge:
    """That one node waits for another, by path.

    ``kind`` says why: its ``value``, a ``condition``, merely ``after`` it, its ``error``; from a
    handler (``handled``) to what waits for the step it handles. ``when`` is the condition of the
    target.
    """

    source: str
    target: str
    kind: str
    when: str = ""


def plain(graph: Graph) -> dict[str, Any]:
    """Return the nodes and edges of a graph, bodies included, as plain data."""
    return {
        "params": list(graph.params),
        "nodes": [_plain(path, node) for path, node in _nodes(graph)],
        "edges": [
            {"source": edge.source, "target": edge.target, "kind": edge.kind}
            | ({"when": edge.when} if edge.when else {})
            for edge in edges(graph)
        ],
        "result": None if graph.result is None else wording.text(graph.result),
    }


def edges(graph: Graph, outer: str = "") -> Iterator[Edge]:
    """Yield who waits for whom, level by level."""
    for node in graph.nodes:
        path, when = f"{outer}{node.name}", _when(node)
        of = handled(node)
        if of is not None:
            yield Edge(f"{outer}{of}", path, "error")
        else:
            values = {name for binding in node.bindings for name in outputs(binding)}
            conditions = {name for binding in node.conditions for name in outputs(binding)}
            for name in graph.dependencies(node.name):
                why = "value" if name in values else "condition" if name in conditions else "after"
                yield Edge(f"{outer}{name}", path, why, when)
                handler = graph.handler(name)
                if handler is not None:
                    yield Edge(f"{outer}{handler}", path, "handled")
        if isinstance(node, EachNode):
            yield from edges(node.body, f"{path}/")


def mermaid(graph: Graph, states: Mapping[str, str] | None = None, *, title: str = "start") -> str:
    """Return a graph as a Mermaid flowchart; ``states`` colours nodes by the status at a path."""
    lines = ["flowchart TD", f"    start_([{_quoted(title)}])"]
    lines += _mermaid_level(graph, "", 1)
    lines += [
        f"    start_ -->{_mermaid_label(when)} {_identifier(path)}" for path, when in _starts(graph)
    ]
    for edge in edges(graph):
        arrow = "-.->" if edge.kind in _DOTTED else "-->"
        label = _mermaid_label("on error" if edge.kind == "error" else edge.when)
        lines.append(f"    {_identifier(edge.source)} {arrow}{label} {_identifier(edge.target)}")
    for status, paths in _by_status(graph, states or {}).items():
        fill, line = _COLOURS[status]
        lines.append(f"    classDef {status} fill:{fill},stroke:{line},color:#212121")
        lines.append(f"    class {','.join(map(_identifier, paths))} {status}")
    return "\n".join(lines) + "\n"


def dot(graph: Graph, states: Mapping[str, str] | None = None, *, title: str = "start") -> str:
    """Return a graph as a Graphviz digraph; ``states`` colours nodes by the status at a path."""
    colours = {
        path: _COLOURS[status]
        for status, paths in _by_status(graph, states or {}).items()
        for path in paths
    }
    lines = [
        "digraph flow {",
        "    compound=true;",
        '    node [fontname="sans-serif" shape=box style="rounded,filled" fillcolor=white];',
        '    edge [fontname="sans-serif" fontsize=10];',
        f"    start_ [label={_dot_text(title)} shape=ellipse];",
    ]
    lines += _dot_level(graph, "", 1, colours)
    bodies = {path: node for path, node in _nodes(graph) if isinstance(node, EachNode)}
    for path, when in _starts(graph):
        lines.append(_dot_edge(Edge("start_", path, "value", when), bodies))
    lines += [_dot_edge(edge, bodies) for edge in edges(graph)]
    return "\n".join([*lines, "}"]) + "\n"


def _plain(path: str, node: Node) -> dict[str, Any]:
    data: dict[str, Any] = {"path": path, "name": node.name, "kind": _KINDS[type(node)]}
    match node:
        case StepNode():
            data["function"] = node.function
            if node.handles is not None:
                data["handles"] = f"{path.removesuffix(node.name)}{node.handles}"
        case EachNode():
            data |= {"items": wording.text(node.items), "accept": node.accept}
        case MergeNode():
            data |= {"wanted": node.wanted, "of": list(node.inputs)}
        case SignalNode():
            data |= {"signal": node.signal, "within": node.within}
        case SleepNode():
            until = None if node.until is None else wording.text(node.until)
            data |= {"sleep": node.lasts, "until": until}
        case CallNode():
            data["flow"] = node.flow
    if node.conditions:
        data["when"] = _when(node)
    return data


def _nodes(graph: Graph, outer: str = "") -> Iterator[tuple[str, Node]]:
    for node in graph.nodes:
        yield f"{outer}{node.name}", node
        if isinstance(node, EachNode):
            yield from _nodes(node.body, f"{outer}{node.name}/")


def _starts(graph: Graph) -> Iterator[tuple[str, str]]:
    """The nodes that wait for nothing, each with its condition."""
    for name in graph.roots:
        yield name, _when(graph.node(name))


def _when(node: Node) -> str:
    return " and ".join(wording.text(condition) for condition in node.conditions)


def _label(node: Node) -> str:
    match node:
        case MergeNode(inputs=inputs) if not node.single:
            return f"{node.name}: {node.wanted} of {len(inputs)}"
        case SignalNode():
            waits = f", within {node.within}" if node.within else ""
            return f"signal {node.signal}{waits}"
        case SleepNode():
            until = "" if node.until is None else f"until {wording.text(node.until)}"
            return f"sleep {node.lasts or until}"
        case CallNode() if node.flow != node.name:
            return f"{node.name}: flow {node.flow}"
        case EachNode():
            share = f", {node.accept:.0%} must succeed" if 0 < node.accept < 1 else ""
            return f"each {wording.text(node.items)}{share or (', any' if not node.accept else '')}"
    return node.name


def _mermaid_level(graph: Graph, outer: str, depth: int) -> Iterator[str]:
    indent = "    " * depth
    for node in graph.nodes:
        identifier = _identifier(f"{outer}{node.name}")
        if isinstance(node, EachNode):
            yield f"{indent}subgraph {identifier}[{_quoted(f'{node.name}: {_label(node)}')}]"
            yield from _mermaid_level(node.body, f"{outer}{node.name}/", depth + 1)
            yield f"{indent}end"
        else:
            left, right = _MERMAID[_KINDS[type(node)]]
            yield f"{indent}{identifier}{left}{_quoted(_label(node))}{right}"


def _dot_level(
    graph: Graph, outer: str, depth: int, colours: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    indent = "    " * depth
    for node in graph.nodes:
        path = f"{outer}{node.name}"
        fill, line = colours.get(path, ("", ""))
        if isinstance(node, EachNode):
            yield f"{indent}subgraph {_dot_text(f'cluster_{path}')} {{"
            yield f"{indent}    label={_dot_text(f'{node.name}: {_label(node)}')};"
            if line:
                yield f"{indent}    color={_dot_text(line)};"
            yield from _dot_level(node.body, f"{path}/", depth + 1, colours)
            yield f"{indent}}}"
        else:
            drawn = f"label={_dot_text(_label(node))} shape={_DOT[_KINDS[type(node)]]}"
            if line:
                drawn += f" fillcolor={_dot_text(fill)} color={_dot_text(line)}"
            yield f"{indent}{_dot_text(path)} [{drawn}];"


def _dot_edge(edge: Edge, bodies: Mapping[str, EachNode]) -> str:
    """An edge of an each is drawn from or to a node of its body, and cut off at its frame."""
    ends, drawn = [], []
    for path, cut, last in ((edge.source, "ltail", True), (edge.target, "lhead", False)):
        if path in bodies:
            drawn.append(f"{cut}={_dot_text(f'cluster_{path}')}")
        while path in bodies:
            names = [node.name for node in bodies[path].body.nodes]
            path = f"{path}/{names[-1] if last else names[0]}"  # noqa: PLW2901 - walked down
        ends.append(path if path == "start_" else _dot_text(path))
    label = "on error" if edge.kind == "error" else edge.when
    if label:
        drawn.append(f"label={_dot_text(label)}")
    if edge.kind in _DOTTED:
        drawn.append("style=dotted")
    written = f" [{' '.join(drawn)}]" if drawn else ""
    return f"    {ends[0]} -> {ends[1]}{written};"


def _by_status(graph: Graph, states: Mapping[str, str]) -> dict[str, list[str]]:
    """Paths by the status they are to be coloured for."""
    found: dict[str, list[str]] = {}
    for path, _ in _nodes(graph):
        status = str(states.get(path, ""))
        if status in _COLOURS:
            found.setdefault(status, []).append(path)
    return found


def _identifier(path: str) -> str:
    """A path as Mermaid's identifier; a trailing ``_`` keeps off its words, such as ``end``."""
    return re.sub(r"[^A-Za-z0-9_]", "__", path) + "_"


def _quoted(text: str) -> str:
    return '"' + text.replace("#", "#35;").replace('"', "#quot;") + '"'


def _mermaid_label(text: str) -> str:
    return f"|{_quoted(text)}|" if text else ""
