"""Values that operators write by hand: JSON as `show` prints it, or as it stands in a message.

They are checked against what is stored of the definition, and against the annotations where this
process has the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator import codec, masking
from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput
from orchestrator.flow import functions, planning, presence
from orchestrator.flow import scope as scopes
from orchestrator.flow.authoring import Flow
from orchestrator.flow.graph import CallNode, SignalNode, StepNode
from orchestrator.records import ExecutionFacts, StepAddress
from orchestrator.runtime import places
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.settings import Settings
from orchestrator.store import situation
from orchestrator.store.database import Database


def parameters(
    catalogue: Catalogue, registered: Registered, changes: Mapping[str, JSON], settings: Settings
) -> dict[str, JSON]:
    """Return new values of a flow's parameters, encoded.

    Raises:
        InvalidInput: the flow has no such parameter, or the value does not fit its annotation.
    """
    flow, known = registered.flow, registered.graph.params
    if not isinstance(changes, Mapping):
        raise InvalidInput(
            f"flow {flow!r}: the input is a {type(changes).__name__}, expected an object by "
            "parameter name"
        )
    refuse_masked(changes, settings, "the input")
    if not changes:
        raise InvalidInput(f"flow {flow!r}: the new input changes nothing; it has {_listed(known)}")
    hints = _hints_of_flow(catalogue, registered)
    encoded = {}
    for name, value in changes.items():
        if name not in known:
            hint = functions.near_miss(str(name), known) or f"; it has {_listed(known)}"
            raise InvalidInput(f"flow {flow!r}: there is no parameter {name!r}{hint}")
        what = f"flow {flow!r}, parameter {name!r}"
        encoded[name] = _checked(value, hints.get(name), what)
    _refuse_large(encoded, settings.max_input_bytes, f"the input of flow {flow!r}")
    return encoded


def rehearsed(
    database: Database,
    catalogue: Catalogue,
    facts: ExecutionFacts,
    changes: Mapping[str, JSON],
    settings: Settings,
) -> dict[str, JSON]:
    """Return the input, encoded, that an execution would have with new values of parameters.

    Raises:
        InvalidInput: they do not fit.
    """
    registered = database.run(catalogue.definition, facts.definition_id)
    encoded = parameters(catalogue, registered, changes, settings)
    return {**(database.run_calm(situation.input_of, facts.id) or {}), **encoded}


def checks_input(database: Database, catalogue: Catalogue, facts: ExecutionFacts) -> bool:
    """Return whether this process has the code by which an execution's new input is checked."""
    registered = database.run(catalogue.definition, facts.definition_id)
    return _same_flow(catalogue, registered) is not None


def checks_output(
    database: Database, catalogue: Catalogue, facts: ExecutionFacts, place: str
) -> bool:
    """Return whether this process has the code by which a step's output given by hand is checked.

    Raises:
        NotFound: there is no such step.
    """
    registered = database.run(catalogue.definition, facts.definition_id)
    name, scope = places.read(place)
    match planning.level(registered.graph, scope).node(name):
        case StepNode(function=function):
            return function in catalogue.functions
        case CallNode(flow=called):
            return called in catalogue.flows
        case SignalNode():
            return _same_flow(catalogue, registered) is not None
        case _:
            return True


def output(
    catalogue: Catalogue,
    registered: Registered,
    address: StepAddress,
    value: JSON,
    settings: Settings,
) -> JSON:
    """Return what stands for the output of a step, a signal or a child execution, encoded.

    Raises:
        InvalidInput: it does not fit the annotation of the result, or is too large.
    """
    what = f"the output of step {address.name!r}"
    refuse_masked(value, settings, what)
    encoded = _checked(value, _hint_of_output(catalogue, registered, address, value), what)
    _refuse_large(encoded, settings.max_result_bytes, what)
    return encoded


def refuse_none(catalogue: Catalogue, registered: Registered, address: StepAddress) -> None:
    """Refuse to let a step come to None where its value goes to a parameter that admits none.

    Types are known as far as this process has the code.

    Raises:
        InvalidInput: a step or child execution after it would be given None and fail.
    """
    for node in planning.level(registered.graph, address.scope).nodes:
        match node:
            case StepNode(function=function) if function in catalogue.functions:
                hints = catalogue.functions[function].hints
            case CallNode(flow=called) if called in catalogue.flows:
                hints = catalogue.flows[called].hints
            case _:
                continue
        for parameter, binding in node.arguments:
            if address.name in presence.needed(binding, hints.get(parameter, Any)):
                raise InvalidInput(
                    f"step {address.name!r} cannot be skipped with null: its value goes to "
                    f"{parameter!r} of step {node.name!r}, which does not admit None; give what "
                    "stands for it with --output"
                )


def refuse_masked(value: object, settings: Settings, what: str, command: str = "show") -> None:
    """Refuse a value that was copied from where what is secret is masked.

    Args:
        command: what shows it whole, with ``--unmasked``.

    Raises:
        InvalidInput: it would put the mask in the place of a secret.
    """
    if masking.holds_mask(value, settings.masked):
        raise InvalidInput(
            f"{what} holds masked values ({masking.MASK}), which would replace the real ones: take "
            f"it from `orchestrator {command} --unmasked`"
        )


def _checked(value: JSON, annotation: Any, what: str) -> JSON:
    return codec.encode(codec.decode(value, annotation, where=what), where=what)


def _hint_of_output(
    catalogue: Catalogue, registered: Registered, address: StepAddress, value: JSON
) -> Any:
    """Return the annotation of what a node comes to, as far as this process has the code."""
    match planning.level(registered.graph, address.scope).node(address.name):
        case StepNode(function=function) if function in catalogue.functions:
            return catalogue.functions[function].hints.get("return")
        case SignalNode(default=default):
            flow = _same_flow(catalogue, registered)
            if flow is None or (default is not None and default.value == value):
                return None  # the default may be of another type than the event
            return flow.signals.get(scopes.options_path(address.name, address.scope))
        case CallNode(flow=called) if called in catalogue.flows:
            return catalogue.flows[called].hints.get("return")
    return None


def _hints_of_flow(catalogue: Catalogue, registered: Registered) -> Mapping[str, Any]:
    flow = _same_flow(catalogue, registered)
    return {} if flow is None else flow.hints


def _same_flow(catalogue: Catalogue, registered: Registered) -> Flow[..., Any] | None:
    """Return the flow of a definition if this process has it, and as it is stored."""
    flow = catalogue.flows.get(registered.flow)
    if flow is None or flow.definition.fingerprint != registered.definition.fingerprint:
        return None
    return flow


def _refuse_large(value: JSON, limit: int, what: str) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > limit:
        raise InvalidInput(
            f"{what} is {size} bytes, at most {limit} are allowed; store it elsewhere and pass "
            "where it is"
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no parameters"
