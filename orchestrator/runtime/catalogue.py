"""What this process can run: its flows, their step functions, and the definitions it has met.

Graphs are data: a stored definition runs with the functions that this process has, also when it is
an older version than the one in the code. Registering is a visible call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Conflict, DefinitionError, NotFound
from orchestrator.flow import planning
from orchestrator.flow import scope as scopes
from orchestrator.flow.authoring import Flow
from orchestrator.flow.definition import Definition, StepOptions
from orchestrator.flow.graph import EachNode, Graph, StepNode
from orchestrator.flow.steps import Step
from orchestrator.runtime import queues
from orchestrator.settings import Settings
from orchestrator.store import definitions
from orchestrator.store.database import Connection


@dataclass(frozen=True, slots=True)
class Registered:
    """A definition and the id of its row."""

    id: int
    definition: Definition

    @property
    def flow(self) -> str:
        """The flow's name."""
        return self.definition.name

    @property
    def graph(self) -> Graph:
        """The flow's root graph."""
        return self.definition.graph

    def queue(self, name: str, scope: str, settings: Settings) -> str:
        """Return where the messages of a node go."""
        return queues.queue_of(self.options(name, scope), settings)

    def options(self, name: str, scope: str) -> StepOptions:
        """Return the options of a node."""
        return self.definition.step_options(scopes.options_path(name, scope))


def task_name(flow: str, name: str, scope: str) -> str:
    """Return the Celery task's name of a step: ``<flow>.<step>``, its eaches between."""
    return ".".join((flow, *scopes.path(scope), name))


class Catalogue:
    """The flows and functions of this process.

    Raises:
        DefinitionError: two flows have one name, or two step functions one key.
    """

    def __init__(self, flows: Iterable[Flow[..., Any]] = ()) -> None:
        self.flows: dict[str, Flow[..., Any]] = {}
        self.functions: dict[str, Step[..., Any]] = {}
        self._registered: dict[int, Registered] = {}
        self._ids: dict[str, int] = {}
        self._guard = threading.Lock()
        for flow in flows:
            self.add(flow)

    def add(self, flow: Flow[..., Any]) -> None:
        """Add a flow and the step functions it uses."""
        known = self.flows.get(flow.name)
        if known is not None and known.body is not flow.body:
            raise DefinitionError(
                f"two flows are called {flow.name!r}: {known.body.__module__} "
                f"and {flow.body.__module__}; "
                "give one of them another name with flow(name=...)"
            )
        self.flows[flow.name] = flow
        for key, step in flow.functions.items():
            self.functions.setdefault(key, step)
        for called in flow.calls.values():
            if called.name not in self.flows:
                self.add(called)

    def add_step(self, step: Step[..., Any]) -> None:
        """Add a step function that perhaps no flow uses any more."""
        self.functions.setdefault(step.function, step)

    def register(self, connection: Connection) -> None:
        """Store the definitions of all flows; their ids are known afterwards.

        Raises:
            Conflict: another graph is stored under the same name and version.
        """
        for flow in self.flows.values():
            self.registered(connection, flow.name)

    def registered(self, connection: Connection, flow: str) -> Registered:
        """Return the stored definition of a flow of this process, storing it on first use.

        Raises:
            NotFound: no such flow in this process.
            Conflict: another graph is stored under the same name and version.
        """
        if flow not in self._ids:
            if flow not in self.flows:
                raise NotFound(
                    f"no flow {flow!r} in this process; "
                    f"it has {', '.join(sorted(self.flows)) or 'none'}"
                )
            definition = self.flows[flow].definition
            stored = definitions.register(
                connection,
                name=definition.name,
                version=definition.version,
                fingerprint=definition.fingerprint,
                graph=definition.graph_json(),
                options=definition.options_json(),
            )
            if stored.fingerprint != definition.fingerprint:
                raise Conflict(
                    f"flow {flow!r} version {definition.version!r} is stored with another graph: "
                    f"{_difference(stored.graph, definition.graph_json())}; "
                    f"give the flow a new version"
                )
            self._remember(Registered(stored.id, definition))
            self._ids[flow] = stored.id
        return self._registered[self._ids[flow]]

    def called(self, connection: Connection, flow: str) -> Registered:
        """Return the definition that a call by name starts: this process's, else the active one.

        Raises:
            NotFound: no flow of this name is known here or stored.
        """
        if flow in self.flows:
            return self.registered(connection, flow)
        stored = definitions.find_by_name(connection, flow, None)
        if stored is None:
            raise NotFound(
                f"no flow {flow!r} is stored; start a worker that has it, or look at its name"
            )
        return self.definition(connection, stored)

    def definition(self, connection: Connection, definition_id: int) -> Registered:
        """Return the definition with this id, loading it on first use.

        Raises:
            NotFound: there is no such row.
        """
        known = self._registered.get(definition_id)
        if known is None:
            stored = definitions.find(connection, definition_id)
            if stored is None:
                raise NotFound(f"no definition {definition_id} is stored")
            known = self._remember(Registered(stored.id, _definition(stored)))
        return known

    def has(self, registered: Registered, name: str, scope: str) -> bool:
        """Return whether this process can run a node: by its function, or by the engine itself."""
        node = planning.level(registered.graph, scope).node(name)
        return not isinstance(node, StepNode) or node.function in self.functions

    def step(self, node: StepNode) -> Step[..., Any]:
        """Return the step function of a node that `has` confirmed."""
        return self.functions[node.function]

    def _remember(self, registered: Registered) -> Registered:
        with self._guard:
            self._registered[registered.id] = registered
        return registered


def task_names(definition: Definition) -> Iterator[str]:
    """Return the Celery task names of all nodes of a definition."""
    yield from _names(definition.graph, (definition.name,))


def _names(graph: Graph, path: tuple[str, ...]) -> Iterator[str]:
    for node in graph.nodes:
        yield ".".join((*path, node.name))
        if isinstance(node, EachNode):
            yield from _names(node.body, (*path, node.name))


def _definition(stored: definitions.StoredDefinition) -> Definition:
    return Definition.from_json(
        {
            "name": stored.name,
            "version": stored.version,
            "fingerprint": stored.fingerprint,
            "graph": stored.graph,
            "options": stored.options,
        }
    )


def _difference(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    theirs = {node["name"]: node for node in stored.get("nodes", [])}
    mine = {node["name"]: node for node in ours.get("nodes", [])}
    changed = [name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name]]
    parts = [
        f"{word} {', '.join(sorted(names))}"
        for word, names in (
            ("changed", changed),
            ("new", mine.keys() - theirs.keys()),
            ("gone", theirs.keys() - mine.keys()),
        )
        if names
    ]
    return "; ".join(parts) or "parameters or result differ"
