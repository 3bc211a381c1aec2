"""Graphs to and from JSON documents.

A document may come from the database or from somebody's editor: whatever is wrong is refused by a
DefinitionError that names the place, never by a KeyError.

    graph    {"params": ["purchase"], "nodes": [...], "result": binding or null}
    step     {"name": "charge", "function": "shop:charge", "arguments": {"purchase": binding},
              "after": ["reserve"]}
    each     {"name": "lines", "each": binding, "item": "line", "shared": {...}, "body": graph,
              "after": [...]}
    binding  {"param": "x"}, {"output": "charge"}, {"literal": 3}, {"list": [...]}, {"dict": {...}}

``arguments``, ``shared`` and ``after`` are left out when they are empty.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError
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

#: How deep lists and dicts of promises may be nested in one argument.
MAX_BINDING_DEPTH = 32
#: Only bounds the reader; the graph's own limit is checked with all other problems.
_MAX_BODY_DEPTH = 64

#: From here on floats are whole numbers, and PostgreSQL's jsonb gives them back as such.
_WHOLE = 1e16


def write_graph(graph: Graph) -> dict[str, JSON]:
    """Return a graph as a JSON object."""
    return {
        "params": list(graph.params),
        "nodes": [_write_node(node) for node in graph.nodes],
        "result": None if graph.result is None else write_binding(graph.result),
    }


def write_binding(binding: Binding) -> JSON:
    """Return a binding as a JSON object."""
    match binding:
        case Param(name):
            return {"param": name}
        case Output(node):
            return {"output": node}
        case Literal(value):
            return {"literal": value}
        case ListOf(items):
            return {"list": [write_binding(item) for item in items]}
        case DictOf(entries):
            return {"dict": {key: write_binding(entry) for key, entry in entries}}


def read_graph(document: JSON, where: str = "graph", depth: int = 0) -> Graph:
    """Return the graph of a document: its shape is checked here, its sense by ``validation``."""
    if depth > _MAX_BODY_DEPTH:
        raise DefinitionError(f"{where}: bodies are nested too deep")
    fields = _object(document, where, required={"params", "nodes"}, optional={"result"})
    nodes = _list(fields["nodes"], f"{where}.nodes")
    result = fields.get("result")
    return Graph(
        params=_texts(fields["params"], f"{where}.params"),
        nodes=tuple(_read_node(node, f"{where}.nodes[{i}]", depth) for i, node in enumerate(nodes)),
        result=None if result is None else _read_binding(result, f"{where}.result"),
    )


def _write_node(node: Node) -> dict[str, JSON]:
    written: dict[str, JSON] = {"name": node.name}
    match node:
        case StepNode():
            written["function"] = node.function
            if node.arguments:
                written["arguments"] = {name: write_binding(b) for name, b in node.arguments}
        case EachNode():
            written["each"] = write_binding(node.items)
            written["item"] = node.item
            written["body"] = write_graph(node.body)
            if node.shared:
                written["shared"] = {name: write_binding(b) for name, b in node.shared}
    if node.after:
        written["after"] = list(node.after)
    return written


def _read_node(document: JSON, where: str, depth: int) -> Node:
    if isinstance(document, dict) and isinstance(document.get("name"), str):
        where = f"{where} ({document['name']!r})"
    if isinstance(document, dict) and "each" in document:
        required, optional = {"name", "each", "item", "body"}, {"shared", "after"}
        fields = _object(document, where, required=required, optional=optional)
        return EachNode(
            name=_text(fields["name"], f"{where}.name"),
            items=_read_binding(fields["each"], f"{where}.each"),
            item=_text(fields["item"], f"{where}.item"),
            body=read_graph(fields["body"], f"{where}.body", depth + 1),
            shared=_read_bindings(fields.get("shared", {}), f"{where}.shared"),
            after=_texts(fields.get("after", []), f"{where}.after"),
        )
    fields = _object(
        document, where, required={"name", "function"}, optional={"arguments", "after"}
    )
    return StepNode(
        name=_text(fields["name"], f"{where}.name"),
        function=_text(fields["function"], f"{where}.function"),
        arguments=_read_bindings(fields.get("arguments", {}), f"{where}.arguments"),
        after=_texts(fields.get("after", []), f"{where}.after"),
    )


def _read_bindings(document: JSON, where: str) -> tuple[tuple[str, Binding], ...]:
    if not isinstance(document, dict):
        raise DefinitionError(f"{where}: expected an object")
    return tuple((name, _read_binding(b, f"{where}.{name}")) for name, b in document.items())


def _read_binding(document: JSON, where: str, depth: int = 0) -> Binding:
    if not isinstance(document, dict) or len(document) != 1:
        raise DefinitionError(f"{where}: expected an object with one of param, output, ...")
    if depth > MAX_BINDING_DEPTH:
        raise DefinitionError(
            f"{where}: lists and dicts are nested deeper than {MAX_BINDING_DEPTH}"
        )
    [(kind, value)] = document.items()
    match kind:
        case "param":
            return Param(_text(value, f"{where}.param"))
        case "output":
            return Output(_text(value, f"{where}.output"))
        case "literal":
            return Literal(_settled(value, f"{where}.literal"))
        case "list":
            items = _list(value, f"{where}.list")
            read = (_read_binding(b, f"{where}[{i}]", depth + 1) for i, b in enumerate(items))
            return ListOf(tuple(read))
        case "dict" if isinstance(value, dict):
            entries = value.items()
            return DictOf(
                tuple((k, _read_binding(b, f"{where}[{k!r}]", depth + 1)) for k, b in entries)
            )
        case "dict":
            raise DefinitionError(f"{where}.dict: expected an object")
    raise DefinitionError(
        f"{where}: unknown binding {kind!r}, expected param, output, literal, list or dict"
    )


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


def _list(document: JSON, where: str) -> list[JSON]:
    if not isinstance(document, list):
        raise DefinitionError(f"{where}: expected a list")
    return document


def _text(document: JSON, where: str) -> str:
    if not isinstance(document, str):
        raise DefinitionError(f"{where}: expected text")
    return document


def _texts(document: JSON, where: str) -> tuple[str, ...]:
    return tuple(_text(text, f"{where}[{i}]") for i, text in enumerate(_list(document, where)))


def _settled(value: JSON, where: str) -> JSON:
    """Return a literal with its numbers as jsonb would return them, so that fingerprints last."""
    match value:
        case float() if not math.isfinite(value):
            raise DefinitionError(f"{where}: {value} is no JSON number")
        case float() if value == 0:
            return 0.0
        case float() if abs(value) >= _WHOLE:
            return int(value)
        case list():
            return [_settled(item, where) for item in value]
        case dict():
            return {key: _settled(item, where) for key, item in value.items()}
        case _:
            return value
