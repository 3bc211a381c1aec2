"""Values that operators write by hand: JSON as `show` prints it, or as it stands in a message.

They are checked against what is stored of the definition, and against the annotations where this
process has the code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput
from orchestrator.flow import functions, planning
from orchestrator.flow.graph import StepNode
from orchestrator.records import StepAddress
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.settings import Settings


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


def output(
    catalogue: Catalogue,
    registered: Registered,
    address: StepAddress,
    value: JSON,
    settings: Settings,
) -> JSON:
    """Return what stands for the output of a step, encoded.

    Raises:
        InvalidInput: it does not fit the annotation of the step's result, or is too large.
    """
    what = f"the output of step {address.name!r}"
    node = planning.level(registered.graph, address.scope).node(address.name)
    annotation = None
    if isinstance(node, StepNode) and node.function in catalogue.functions:
        annotation = catalogue.functions[node.function].hints.get("return")
    encoded = _checked(value, annotation, what)
    _refuse_large(encoded, settings.max_result_bytes, what)
    return encoded


def _checked(value: JSON, annotation: Any, what: str) -> JSON:
    return codec.encode(codec.decode(value, annotation, where=what), where=what)


def _hints_of_flow(catalogue: Catalogue, registered: Registered) -> Mapping[str, Any]:
    """Return the annotations of a flow that this process has, if it is the same as the stored."""
    flow = catalogue.flows.get(registered.flow)
    if flow is None or flow.definition.fingerprint != registered.definition.fingerprint:
        return {}
    return flow.hints


def _refuse_large(value: JSON, limit: int, what: str) -> None:
    size = len(json.dumps(value, ensure_ascii=False).encode())
    if size > limit:
        raise InvalidInput(
            f"{what} is {size} bytes, at most {limit} are allowed; store it elsewhere and pass "
            "where it is"
        )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no parameters"
