"""Calls in a flow body: of a step with its handler, of a flow as a child execution."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.flow import recording, shapes, uses, validation
from orchestrator.flow.bindings import Failure
from orchestrator.flow.definition import DEFAULT_OPTIONS
from orchestrator.flow.failures import StepError
from orchestrator.flow.graph import CallNode, StepNode
from orchestrator.flow.promises import Promise
from orchestrator.flow.recording import Recording

if TYPE_CHECKING:
    from orchestrator.flow.authoring import Flow
    from orchestrator.flow.steps import Step


class NamedCall:
    """What ``call`` is: the call of a flow by its name, with the options of its use."""

    def __init__(self, use: uses.Use = uses.Use("")) -> None:  # noqa: B008 - it is frozen
        self._use = use

    def __call__(self, flow: str, /, **arguments: Any) -> Any:
        """Run the flow of this name as a child execution; its result is the value.

        By name a flow can call itself, or one of a module that imports its own. The arguments are
        given by name; those left out have the child's defaults.
        """
        active = recording.active("call(...)")
        problem = "it is no text" if type(flow) is not str else validation.name_problem(flow)
        if problem is not None:
            return active.refused(
                f"call({flow!r}, ...): {problem}; write the name of a flow, or call the flow itself"
            )
        what = f"call of flow {flow!r}"
        bound = tuple(
            (name, active.argument(value, f"{what}, argument {name!r}", Any))
            for name, value in arguments.items()
        )
        name = active.name(self._use.name or flow, fixed=self._use.fixed)
        node = CallNode(name, flow, bound, after=active.after(self._use.after))
        return _handled(active, name, node, self._use, Any)

    def options(
        self,
        *,
        name: str | None = None,
        after: object = None,
        on_error: Step[[StepError], Any] | None = None,
    ) -> NamedCall:
        """Return the same with options for one call: ``call.options(after=x)("invoice", ...)``."""
        return NamedCall(
            self._use.changed(
                name=name, after=after, accept=None, on_error=on_error, settings=DEFAULT_OPTIONS
            )
        )


#: ``call("invoice", purchase=purchase)``
call = NamedCall()


def record_flow(
    active: Recording, used: Flow[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Promise:
    """Record the call of a flow; what it is not given, the child takes from its defaults."""
    what = f"flow {used.name!r}"
    bound = uses.bind(active, what, used.signature, args, kwargs)
    _refuse_accept(active, used.use, what)
    if bound is None:
        return active.unknown()
    arguments = tuple(
        (name, active.argument(value, f"{what}, argument {name!r}", used.annotation(name), name))
        for name, value in bound.items()
    )
    name = active.name(used.name, fixed=used.use.fixed)
    active.keep_call(used)
    after = active.after(used.use.after)
    node = CallNode(name, used.definition.name, arguments, after=after)
    return _handled(active, name, node, used.use, used.annotation("return"))


def record_step(
    active: Recording, used: Step[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Promise:
    """Record the call of a step."""
    what = f"step {used.name!r}"
    bound = uses.bind(active, what, used.signature, args, kwargs)
    _refuse_accept(active, used.use, what)
    if bound is None:
        return active.unknown()
    arguments = tuple(
        (name, active.argument(value, f"{what}, argument {name!r}", used.annotation(name), name))
        for name, value in bound.items()
    )
    name = active.name(used.name, fixed=used.use.fixed)
    active.keep(used)
    active.options[name] = dataclasses.replace(used.settings, window=None)
    node = StepNode(name, used.function, arguments, after=active.after(used.use.after))
    return _handled(active, name, node, used.use, used.annotation("return"))


def handler_node(handler: Step[..., Any], name: str, of: str) -> StepNode:
    """Return the node that handles the failure of another."""
    parameter = next(iter(handler.signature.parameters))
    return StepNode(name, handler.function, ((parameter, Failure(of)),), handles=of)


def handler_name(handler: Step[..., Any], of: str) -> str:
    """Return what the handler of a step is called."""
    return handler.name if handler.use.fixed else f"{of}_on_error"


def _handled(
    active: Recording, name: str, node: StepNode | CallNode, use: uses.Use, annotation: Any
) -> Promise:
    handler = use.on_error
    if handler is None:
        return active.add(node, annotation)
    promise = active.add(node, shapes.union((annotation, handler.annotation("return"))))
    handled_by = active.name(handler_name(handler, name), fixed=handler.use.fixed)
    active.keep(handler)
    active.options[handled_by] = dataclasses.replace(handler.settings, window=None)
    active.add_handler(handler_node(handler, handled_by, name))
    return promise


def _refuse_accept(active: Recording, use: uses.Use, what: str) -> None:
    if use.accept is not None:
        active.refuse(f"{what}: accept counts in each(...) only: it is a share of items")
