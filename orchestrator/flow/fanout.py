"""``each``: a step or a flow once per item of a list."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from orchestrator.flow import calls, reading, recording, shapes, uses
from orchestrator.flow.bindings import Binding, DictOf, Literal, Output, Param
from orchestrator.flow.definition import StepOptions
from orchestrator.flow.graph import EachNode, Graph, StepNode
from orchestrator.flow.promises import Promise, told
from orchestrator.flow.recording import Recording
from orchestrator.flow.steps import Step
from orchestrator.flow.uses import Authored

if TYPE_CHECKING:
    from orchestrator.flow.authoring import Flow

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def each(
    items: Iterable[T],
    over: Authored[Concatenate[T, P], R],
    /,
    *shared: P.args,
    **named: P.kwargs,
) -> list[R]:
    """Run a step or a flow once per item; the value is the list of results, in item order.

    The item is its first argument, ``shared`` and ``named`` are the others, the same for every
    item. With ``.options(accept=...)`` below all an item that failed brings None.
    """
    active = recording.active("each(...)")
    given_over: object = over  # declared as a step or a flow, but it may be anything
    if not isinstance(given_over, Authored):
        turned = isinstance(items, Authored)
        cure = "the items come first" if turned else "decorate the function with @step"
        kind = type(given_over).__qualname__
        refused = f"each(items, ...) takes a step or a flow, not a {kind}: {cure}"
        return cast("list[R]", active.refused(refused))
    given = _shared(active, over, shared, named)
    if given is None:
        return cast("list[R]", active.unknown())
    if isinstance(over, Step):
        return cast("list[R]", _record_each_step(active, items, over, *given))
    return cast("list[R]", _record_each_flow(active, items, cast("Flow[..., Any]", over), *given))


def _record_each_step(
    active: Recording,
    items: Any,
    used: Step[..., Any],
    item: str,
    shared: tuple[tuple[str, Binding], ...],
) -> Promise:
    params = (item, *(name for name, _ in shared))
    inner = StepNode(used.name, used.function, tuple((name, Param(name)) for name in params))
    nodes, options = [inner], {inner.name: dataclasses.replace(used.settings, window=None)}
    result = used.annotation("return")
    active.keep(used)
    handler = used.use.on_error
    if handler is not None:
        name = calls.handler_name(handler, inner.name)
        nodes.append(calls.handler_node(handler, name, inner.name))
        options[name] = dataclasses.replace(handler.settings, window=None)
        result = shapes.union((result, handler.annotation("return")))
        active.keep(handler)
    body = Graph(params, tuple(nodes), Output(inner.name))
    return _add_each(
        active,
        items,
        used,
        body=body,
        item=item,
        shared=shared,
        options=options,
        result=result,
    )


def _record_each_flow(
    active: Recording,
    items: Any,
    used: Flow[..., Any],
    item: str,
    given: tuple[tuple[str, Binding], ...],
) -> Promise:
    if used.use.on_error is not None:
        active.refuse(
            f"each {used.name!r}: a flow in an each takes no on_error: give it to the steps inside"
            " of the flow, or accept failed items with .options(accept=...)"
        )
    bound = {item, *(name for name, _ in given)}
    # A flow's body binds every parameter, so the defaults it is used with are part of this graph.
    defaults = used.definition.defaults.items()
    omitted = tuple((name, Literal(value)) for name, value in defaults if name not in bound)
    for inner in used.functions.values():
        active.keep(inner)
    for called in used.calls.values():
        active.keep_call(called)
    promise = _add_each(
        active,
        items,
        used,
        body=used.definition.graph,
        item=item,
        shared=(*given, *omitted),
        options=used.definition.options,
        result=used.annotation("return"),
    )
    name = active.nodes[-1].name
    active.signals.update({f"{name}/{path}": kind for path, kind in used.signals.items()})
    return promise


def _add_each(
    active: Recording,
    items: Any,
    used: Authored[..., Any],
    *,
    body: Graph,
    item: str,
    shared: tuple[tuple[str, Binding], ...],
    options: Mapping[str, StepOptions],
    result: Any,
) -> Promise:
    use = used.use
    what = f"the items of each {use.name!r}"
    listed = active.argument(items, what, list[Any])
    if isinstance(items, Promise):
        kind = told(items).annotation
        if not shapes.is_list(kind):
            active.refuse(f"{what} are a {shapes.label(kind)}, not a list: let a step list them")
    elif not active.refused_here() and (
        isinstance(listed, DictOf)
        or (isinstance(listed, Literal) and reading.as_list(listed.value) is None)
    ):
        active.refuse(f"{what} are a {type(items).__qualname__}, not a list: write list(...)")
    name = active.name(use.name, fixed=use.fixed)
    own = use.settings
    active.options[name] = StepOptions(window=own.window, queue=own.queue, priority=own.priority)
    active.options.update({f"{name}/{path}": inner for path, inner in options.items()})
    after = active.after(use.after)
    accept = 1.0 if use.accept is None else use.accept
    value = result if accept == 1.0 else shapes.union((result, None))
    node = EachNode(name, listed, item, body, shared, accept, after=after)
    return active.add(node, types.GenericAlias(list, (value,)))


def _shared(
    active: Recording, used: Authored[..., Any], args: Any, kwargs: Any
) -> tuple[str, tuple[tuple[str, Binding], ...]] | None:
    """The parameter that takes the item, and the others with their bindings."""
    if not used.signature.parameters:
        active.refuse(f"{used.name!r} stands in an each, but has no parameter to take the item")
        return None
    what = f"each {used.name!r}"
    bound = uses.bind(active, what, used.signature, (_ITEM, *args), kwargs)
    if bound is None:
        return None
    item = next(param for param, value in bound.items() if value is _ITEM)
    shared = tuple(
        (
            param,
            active.argument(
                value, f"{what}, argument {param!r}", used.annotation(param), parameter=param
            ),
        )
        for param, value in bound.items()
        if param != item
    )
    return item, shared


_ITEM = object()
