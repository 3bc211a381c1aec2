"""A definition: a flow's graph under a name, version and fingerprint, its options beside it.

The fingerprint covers the graph only. Options (retry, times, queues, windows, the deadline) and
the defaults of parameters may change without making it another flow; they are stored beside the
graph and replaced on registration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Literal as OneOf
from typing import TypedDict, get_args

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError, InvalidInput
from orchestrator.flow import documents, durations, validation
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
from orchestrator.flow.retry import NO_RETRY, Retry

__all__ = [
    "DEFAULT_OPTIONS",
    "JSON",
    "Binding",
    "Definition",
    "DictOf",
    "EachNode",
    "Graph",
    "ListOf",
    "Literal",
    "Node",
    "Output",
    "Param",
    "StepNode",
    "StepOptions",
    "fingerprint",
]

#: Whether messages have a way of their own past the others of their queue (docs/decisions/017).
Priority = OneOf["normal", "high"]
_PRIORITIES = get_args(Priority)

#: A deadline is a moment that the database can hold.
_LATEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step runs, beside what it is.

    Attributes:
        retry: how often a failed attempt is tried again.
        timeout: how long one attempt may take.
        deadline: how long after the begin of the first attempt another one may begin.
        queue: where its messages go; None is the default queue.
        priority: ``high`` messages do not wait behind the others of their queue.
        inline: whether a worker may continue with it in its own process without a message.
        max_deaths: how many workers it may kill before it is set aside; None is the setting's.
        window: of an each, how many items are open at once; None is all of them.
        transactional: whether it is given a connection on which its outcome is stored as well.
    """

    retry: Retry = NO_RETRY
    timeout: timedelta = timedelta(minutes=10)
    deadline: timedelta | None = None
    queue: str | None = None
    priority: Priority = "normal"
    inline: bool = True
    max_deaths: int | None = None
    window: int | None = None
    transactional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.retry, Retry):
            raise InvalidInput(f"retry={self.retry!r}: write a Retry(...)")
        if not isinstance(self.timeout, timedelta) or self.timeout <= timedelta(0):
            raise InvalidInput(f"timeout={self.timeout!r}: an attempt needs time")
        if self.deadline is not None and not timedelta(0) < self.deadline <= _LATEST:
            raise InvalidInput(
                f"deadline={durations.text(self.deadline)!r}: attempts need time, at most"
                f" {durations.text(_LATEST)}; without a deadline they have all"
            )
        if self.queue is not None and not (isinstance(self.queue, str) and self.queue):
            raise InvalidInput(f"queue={self.queue!r}: write the name of a queue")
        if self.priority not in _PRIORITIES:
            raise InvalidInput(f"priority={self.priority!r}: write 'high' or 'normal'")
        for name in ("inline", "transactional"):
            flag = getattr(self, name)
            if not isinstance(flag, bool):
                raise InvalidInput(f"{name}={flag!r}: write True or False")
        for name in ("max_deaths", "window"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < 1):
                raise InvalidInput(f"{name}={number!r}: write a whole number from 1 on")

    def to_json(self) -> dict[str, JSON]:
        """Return the options that are not the default, durations as text."""
        written: dict[str, JSON] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if value == option.default:
                continue
            match value:
                case Retry():
                    written[option.name] = value.to_json()
                case timedelta():
                    written[option.name] = durations.text(value)
                case _:
                    written[option.name] = value
        return written

    @classmethod
    def from_json(cls, document: JSON) -> StepOptions:
        """Return the options that ``to_json`` wrote."""
        if not isinstance(document, dict):
            raise InvalidInput("expected an object")
        unknown = sorted(document.keys() - {option.name for option in fields(cls)})
        if unknown:
            raise InvalidInput(f"unknown option {unknown[0]!r}")
        read: dict[str, object] = dict(document)
        if "retry" in document:
            read["retry"] = Retry.from_json(document["retry"])
        for name in ("timeout", "deadline"):
            if name in document:
                duration = document[name]
                if not isinstance(duration, str | int | float):
                    raise InvalidInput(f"{name}={duration!r} is not a duration")
                read[name] = durations.parse(duration)
        return cls(**read)  # type: ignore[arg-type]


DEFAULT_OPTIONS = StepOptions()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A flow as it is stored and run: by name, version and fingerprint.

    ``options`` has one entry per node by its path, the names of the eaches around it and its own,
    joined by ``/``: ``index``, ``folder``, ``folder/parse``. ``defaults`` are encoded values of
    omitted parameters, ``schema`` the JSON schema of the input document, ``source`` the document
    that the graph was loaded from, ``deadline`` how long after its start an execution fails that
    has not ended.
    """

    name: str
    version: str
    fingerprint: str
    graph: Graph
    options: Mapping[str, StepOptions] = field(default_factory=dict)
    defaults: Mapping[str, JSON] = field(default_factory=dict)
    schema: Mapping[str, JSON] = field(default_factory=dict)
    source: Mapping[str, JSON] | None = None
    deadline: timedelta | None = None

    @classmethod
    def of(
        cls,
        *,
        name: str,
        graph: Graph,
        version: str | None = None,
        options: Mapping[str, StepOptions] | None = None,
        defaults: Mapping[str, JSON] | None = None,
        schema: Mapping[str, JSON] | None = None,
        source: Mapping[str, JSON] | None = None,
        deadline: timedelta | None = None,
    ) -> Definition:
        """Return the checked definition of a graph; its version is by default its fingerprint's."""
        problem = validation.name_problem(name)
        if problem:
            raise DefinitionError(f"flow {name!r}: {problem}")
        validation.check(graph, name)
        for default in sorted((defaults or {}).keys() - set(graph.params)):
            raise DefinitionError(
                f"flow {name!r}: a default for {default!r}, which is no parameter"
            )
        for path in sorted((options or {}).keys() - set(graph.paths())):
            raise DefinitionError(f"flow {name!r}: options for {path!r}, which is no step")
        if deadline is not None and not timedelta(0) < deadline <= _LATEST:
            raise DefinitionError(
                f"flow {name!r}: deadline={durations.text(deadline)!r}: an execution needs time,"
                f" at most {durations.text(_LATEST)}; without a deadline it has all"
            )
        digest = fingerprint(graph)
        return cls(
            name=name,
            version=digest[:8] if version is None else version,
            fingerprint=digest,
            graph=graph,
            options=dict(options or {}),
            defaults=dict(defaults or {}),
            schema=dict(schema or {}),
            source=None if source is None else dict(source),
            deadline=deadline,
        )

    def step_options(self, path: str) -> StepOptions:
        """Return the options of the node at ``path``; a node without an entry has the defaults."""
        return self.options.get(path, DEFAULT_OPTIONS)

    def graph_json(self) -> dict[str, JSON]:
        """Return the graph as a JSON object: what the fingerprint covers."""
        return documents.write_graph(self.graph)

    def options_json(self) -> dict[str, JSON]:
        """Return what stands beside the graph as a JSON object: a registration may replace it."""
        written: dict[str, JSON] = {
            "steps": {path: self.options[path].to_json() for path in sorted(self.options)},
            "defaults": dict(self.defaults),
        }
        if self.schema:
            written["schema"] = dict(self.schema)
        if self.source is not None:
            written["source"] = dict(self.source)
        if self.deadline is not None:
            written["deadline"] = durations.text(self.deadline)
        return written

    def to_json(self) -> dict[str, JSON]:
        """Return the whole definition as one JSON object."""
        return {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "graph": self.graph_json(),
            "options": self.options_json(),
        }

    @classmethod
    def from_json(cls, document: JSON) -> Definition:
        """Return the definition of a JSON document; a malformed one is refused by name.

        ``version``, ``fingerprint`` and ``options`` may be missing. A fingerprint that is there
        must be the graph's.
        """
        if not isinstance(document, dict):
            raise DefinitionError("a definition is a JSON object")
        known = {"name", "version", "fingerprint", "graph", "options"}
        for unknown in sorted(document.keys() - known):
            raise DefinitionError(f"unknown field {unknown!r} in a definition")
        name, version = document.get("name"), document.get("version")
        if not isinstance(name, str):
            raise DefinitionError("a definition needs a name")
        if not isinstance(version, str | None):
            raise DefinitionError(f"flow {name!r}: the version is not text")
        if "graph" not in document:
            raise DefinitionError(f"flow {name!r}: there is no graph")
        try:
            graph = documents.read_graph(document["graph"])
            beside = _read_beside(document.get("options") or {})
        except (DefinitionError, InvalidInput) as error:
            raise DefinitionError(f"flow {name!r}: {error}") from error
        definition = cls.of(name=name, version=version, graph=graph, **beside)
        if document.get("fingerprint", definition.fingerprint) != definition.fingerprint:
            raise DefinitionError(
                f"flow {name!r}: the graph has the fingerprint {definition.fingerprint}, the"
                f" document says {document['fingerprint']!r}: one of them was changed by hand"
            )
        return definition


def fingerprint(graph: Graph) -> str:
    """Return the fingerprint of a graph: 32 hex digits of the SHA-256 of its canonical JSON."""
    text = codec.canonical(documents.write_graph(graph))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Beside(TypedDict):
    options: dict[str, StepOptions]
    defaults: dict[str, JSON]
    schema: dict[str, JSON]
    source: dict[str, JSON] | None
    deadline: timedelta | None


def _read_beside(document: JSON) -> _Beside:
    if not isinstance(document, dict):
        raise DefinitionError("options: expected an object")
    for unknown in sorted(document.keys() - {"steps", "defaults", "schema", "source", "deadline"}):
        raise DefinitionError(f"options: unknown field {unknown!r}")
    steps, defaults = document.get("steps", {}), document.get("defaults", {})
    if not isinstance(steps, dict) or not isinstance(defaults, dict):
        raise DefinitionError("options: expected the objects 'steps' and 'defaults'")
    schema, source = document.get("schema", {}), document.get("source")
    if not isinstance(schema, dict) or not isinstance(source, dict | None):
        raise DefinitionError("options: expected the objects 'schema' and 'source'")
    deadline = document.get("deadline")
    if not isinstance(deadline, str | None):
        raise DefinitionError("options: expected a text as 'deadline'")
    options = {}
    for path, written in steps.items():
        try:
            options[path] = StepOptions.from_json(written)
        except InvalidInput as error:
            raise DefinitionError(f"options of {path!r}: {error}") from error
    return _Beside(
        options=options,
        defaults=defaults,
        schema=schema,
        source=source,
        deadline=None if deadline is None else durations.parse(deadline),
    )
