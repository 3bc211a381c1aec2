"""Graphs to and from JSON documents.

A document may come from the database or from somebody's editor: whatever is wrong is refused by a
DefinitionError that names the place, never by a KeyError.

    graph    {"params": ["purchase"], "nodes": [...], "result": binding or null}
    step     {"name": "charge", "function": "shop:charge", "arguments": {"purchase": binding},
              "handles": "reserve"}
    each     {"name": "lines", "each": binding, "item": "line", "shared": {...}, "body": graph,
              "accept": 0.9}
    merge    {"name": "done", "first": 1, "of": ["a", "b"], "single": true, "others": "cancel"}
    signal   {"name": "approval", "signal": "manager_ok", "within": "3d", "default": json}
    sleep    {"name": "pause", "sleep": "3d"}  or  {"name": "pause", "until": binding}
    call     {"name": "invoice", "flow": "invoice", "arguments": {...}}

Every node may have ``"after": ["reserve"]`` and ``"when": [binding]``. Bindings are those of
`bindings_json`. What is empty or the default is left out.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError
from orchestrator.flow.bindings import Binding
from orchestrator.flow.bindings_json import (
    MAX_BINDING_DEPTH,
    checked_list,
    checked_literal,
    checked_text,
    read_binding,
    write_binding,
)
from orchestrator.flow.graph import (
    CallNode,
    EachNode,
    Graph,
    Literal,
    MergeNode,
    Node,
    SignalNode,
    SleepNode,
    StepNode,
)

__all__ = ["MAX_BINDING_DEPTH", "read_graph", "write_binding", "write_graph"]

#: Only bounds the reader; the graph's own limit is checked with all other problems.
_MAX_BODY_DEPTH = 64


def write_graph(graph: Graph) -> dict[str, JSON]:
    """Return a graph as a JSON object."""
    return {
        "params": list(graph.params),
        "nodes": [_write_node(node) for node in graph.nodes],
        "result": None if graph.result is None else write_binding(graph.result),
    }


def read_graph(document: JSON, where: str = "graph", depth: int = 0) -> Graph:
    """Return the graph of a document: its shape is checked here, its sense by ``validation``."""
    if depth > _MAX_BODY_DEPTH:
        raise DefinitionError(f"{where}: bodies are nested too deep")
    fields = _object(document, where, required={"params", "nodes"}, optional={"result"})
    nodes = checked_list(fields["nodes"], f"{where}.nodes")
    result = fields.get("result")
    return Graph(
        params=_texts(fields["params"], f"{where}.params"),
        nodes=tuple(_read_node(node, f"{where}.nodes[{i}]", depth) for i, node in enumerate(nodes)),
        result=None if result is None else read_binding(result, f"{where}.result"),
    )


def _write_node(node: Node) -> dict[str, JSON]:
    written: dict[str, JSON] = {"name": node.name}
    match node:
        case StepNode():
            written["function"] = node.function
            if node.handles is not None:
                written["handles"] = node.handles
            if node.arguments:
                written["arguments"] = _write_bindings(node.arguments)
        case EachNode():
            written["each"] = write_binding(node.items)
            written["item"] = node.item
            written["body"] = write_graph(node.body)
            if node.shared:
                written["shared"] = _write_bindings(node.shared)
            if node.accept < 1:
                written["accept"] = node.accept
        case MergeNode():
            written["first"] = node.wanted
            written["of"] = list(node.inputs)
            if node.single:
                written["single"] = True
            written["others"] = "cancel" if node.cancel else "leave"
        case SignalNode():
            written["signal"] = node.signal
            if node.within is not None:
                written["within"] = node.within
            if node.default is not None:
                written["default"] = node.default.value
        case SleepNode():
            if node.lasts is not None:
                written["sleep"] = node.lasts
            if node.until is not None:
                written["until"] = write_binding(node.until)
        case CallNode():
            written["flow"] = node.flow
            if node.arguments:
                written["arguments"] = _write_bindings(node.arguments)
    if node.after:
        written["after"] = list(node.after)
    if node.conditions:
        written["when"] = [write_binding(condition) for condition in node.conditions]
    return written


def _write_bindings(bindings: tuple[tuple[str, Binding], ...]) -> dict[str, JSON]:
    return {name: write_binding(binding) for name, binding in bindings}


#: By the field that tells the kind: fields that must be there, and fields that may.
_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "function": ({"function"}, {"arguments", "handles"}),
    "each": ({"each", "item", "body"}, {"shared", "accept"}),
    "first": ({"first", "of"}, {"single", "others"}),
    "signal": ({"signal"}, {"within", "default"}),
    "sleep": ({"sleep"}, set()),
    "until": ({"until"}, set()),
    "flow": ({"flow"}, {"arguments"}),
}


def _read_node(document: JSON, where: str, depth: int) -> Node:
    if isinstance(document, dict) and isinstance(document.get("name"), str):
        where = f"{where} ({document['name']!r})"
    told = document if isinstance(document, dict) else {}
    kind = next((kind for kind in _FIELDS if kind in told), "function")
    required, optional = _FIELDS[kind]
    fields = _object(
        document, where, required={"name"} | required, optional={"after", "when"} | optional
    )
    name = checked_text(fields["name"], f"{where}.name")
    after = _texts(fields.get("after", []), f"{where}.after")
    when = checked_list(fields.get("when", []), f"{where}.when")
    conditions = tuple(read_binding(b, f"{where}.when[{i}]") for i, b in enumerate(when))
    match kind:
        case "each":
            return EachNode(
                name=name,
                items=read_binding(fields["each"], f"{where}.each"),
                item=checked_text(fields["item"], f"{where}.item"),
                body=read_graph(fields["body"], f"{where}.body", depth + 1),
                shared=_read_bindings(fields.get("shared", {}), f"{where}.shared"),
                accept=_share(fields.get("accept", 1.0), f"{where}.accept"),
                after=after,
                conditions=conditions,
            )
        case "first":
            return MergeNode(
                name=name,
                inputs=_texts(fields["of"], f"{where}.of"),
                wanted=_count(fields["first"], f"{where}.first"),
                single=_flag(fields.get("single", False), f"{where}.single"),
                cancel=_others(fields.get("others", "cancel"), f"{where}.others") == "cancel",
                after=after,
                conditions=conditions,
            )
        case "signal":
            within = fields.get("within")
            return SignalNode(
                name=name,
                signal=checked_text(fields["signal"], f"{where}.signal"),
                within=None if within is None else checked_text(within, f"{where}.within"),
                default=Literal(checked_literal(fields["default"], f"{where}.default"))
                if "default" in fields
                else None,
                after=after,
                conditions=conditions,
            )
        case "sleep":
            lasts = checked_text(fields["sleep"], f"{where}.sleep")
            return SleepNode(name=name, lasts=lasts, after=after, conditions=conditions)
        case "until":
            until = read_binding(fields["until"], f"{where}.until")
            return SleepNode(name=name, until=until, after=after, conditions=conditions)
        case "flow":
            return CallNode(
                name=name,
                flow=checked_text(fields["flow"], f"{where}.flow"),
                arguments=_read_bindings(fields.get("arguments", {}), f"{where}.arguments"),
                after=after,
                conditions=conditions,
            )
    handles = fields.get("handles")
    return StepNode(
        name=name,
        function=checked_text(fields["function"], f"{where}.function"),
        arguments=_read_bindings(fields.get("arguments", {}), f"{where}.arguments"),
        handles=None if handles is None else checked_text(handles, f"{where}.handles"),
        after=after,
        conditions=conditions,
    )


def _read_bindings(document: JSON, where: str) -> tuple[tuple[str, Binding], ...]:
    if not isinstance(document, dict):
        raise DefinitionError(f"{where}: expected an object")
    return tuple((name, read_binding(b, f"{where}.{name}")) for name, b in document.items())


def _object(
    document: JSON, where: str, *, required: Collection[str], optional: Collection[str]
) -> dict[str, JSON]:
    if not isinstance(document, dict):
        raise DefinitionError(f"{where}: expected an object")
    missing = sorted(set(required) - document.keys())
    if missing:
        raise DefinitionError(f"{where}: the field {missing[0]!r} is missing")
    unknown = sorted(document.keys() - set(required) - set(optional))
    if unknown:
        raise DefinitionError(f"{where}: unknown field {unknown[0]!r}")
    return document


def _texts(document: JSON, where: str) -> tuple[str, ...]:
    texts = checked_list(document, where)
    return tuple(checked_text(text, f"{where}[{i}]") for i, text in enumerate(texts))


def _count(document: JSON, where: str) -> int:
    if type(document) is not int or document < 1:
        raise DefinitionError(f"{where}: expected a whole number from 1 on")
    return document


def _share(document: JSON, where: str) -> float:
    if isinstance(document, bool) or not isinstance(document, int | float):
        raise DefinitionError(f"{where}: expected a number from 0 to 1")
    if not 0 <= document <= 1:
        raise DefinitionError(f"{where}: expected a number from 0 to 1, not {document}")
    return float(document)


def _flag(document: JSON, where: str) -> bool:
    if not isinstance(document, bool):
        raise DefinitionError(f"{where}: expected true or false")
    return document


def _others(document: JSON, where: str) -> str:
    if document not in {"cancel", "leave"}:
        raise DefinitionError(f"{where}: expected 'cancel' or 'leave'")
    return str(document)
