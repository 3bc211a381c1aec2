"""From a message of a foreign program to a start: which flow, which input, which key.

The common queue takes *requests* that say all of it themselves:

    {"flow": "checkout", "input": {"purchase": {...}}, "key": "o-17", "version": "3"}

A queue of its own may belong to a flow, so that programs which know nothing of flows can trigger
them. What becomes of their messages is said beside the flow, as data:

    orders = Trigger(queue="shop.orders", flow=checkout, input={"purchase": "body"}, key="body.id")

A *place* names a part of a message: ``body``, ``body.lines[0].sku``, ``headers.x-tenant``,
``headers["a.b"]``, ``message_id``, ``routing_key`` and the other properties of a message.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any

from orchestrator.codec import JSON
from orchestrator.errors import DefinitionError
from orchestrator.flow import functions
from orchestrator.flow.authoring import Flow
from orchestrator.runtime.foreign import ForeignMessage

#: First words of a place; all but the first two are texts, or missing.
_PARTS = (
    "body",
    "headers",
    "message_id",
    "app_id",
    "correlation_id",
    "exchange",
    "routing_key",
    "type",
    "content_type",
)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\"([^\"]*)\"\]")
_REQUEST = {
    "flow": "text",
    "input": "an object by parameter name",
    "key": "text",
    "version": "text",
}
_MISSING = object()


class Refused(Exception):
    """A message that starts nothing as it is; ``reason`` is one of a few words, for filters."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a message wants started; the input is not checked yet."""

    flow: str
    document: Mapping[str, JSON]
    key: str | None = None
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A queue whose messages start a flow.

    Attributes:
        queue: the queue; it is declared if it is not there, bound to the exchange ``orchestrator``
            under its own name.
        flow: the flow, or its name.
        input: for each parameter its place in the message; by default the body is the whole input,
            an object by parameter name. A place that a message does not have leaves the parameter
            to its default.
        key: the place of the business key; without it only the message's own id keeps it from
            starting twice.
        version: the version of the flow; by default the one of the worker's code.

    Raises:
        DefinitionError: a place or a parameter that cannot be.
    """

    queue: str
    flow: Flow[..., Any] | str
    input: Mapping[str, str] | None = None
    key: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.queue, str) and self.queue):
            raise DefinitionError(f"a trigger's queue is a name, not {self.queue!r}")
        places = dict(self.input or {})
        if self.input is not None:
            object.__setattr__(self, "input", MappingProxyType(places))
        for place in [*places.values(), *([] if self.key is None else [self.key])]:
            problem = _problem_of(place)
            if problem:
                raise DefinitionError(f"the trigger of queue {self.queue!r}: {problem}")
        if isinstance(self.flow, Flow) and self.input is not None:
            for name in places.keys() - self.flow.signature.parameters.keys():
                hint = functions.near_miss(name, self.flow.signature.parameters)
                raise DefinitionError(
                    f"the trigger of queue {self.queue!r}: flow {self.flow_name!r} has no parameter"
                    f" {name!r}{hint}"
                )

    @property
    def flow_name(self) -> str:
        """The flow's name."""
        return self.flow if isinstance(self.flow, str) else self.flow.name

    def read(self, message: ForeignMessage) -> Request:
        """Return what a message of this queue wants started.

        Raises:
            Refused: it is not JSON, or the parts that the trigger names do not fit.
        """
        body = _json(message.body)
        if self.input is None:
            document = _object(body, "the body")
        else:
            places = {name: _part(message, body, place) for name, place in self.input.items()}
            document = {name: value for name, value in places.items() if value is not _MISSING}
        key = None if self.key is None else _part(message, body, self.key)
        if key is _MISSING:
            raise Refused("malformed", f"there is no {self.key}, where the key should be")
        return Request(
            flow=self.flow_name,
            document=document,
            key=_key(key, str(self.key)),
            version=self.version,
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the trigger as data."""
        written: dict[str, JSON] = {"queue": self.queue, "flow": self.flow_name}
        if self.input is not None:
            written["input"] = dict(self.input)
        if self.key is not None:
            written["key"] = self.key
        if self.version is not None:
            written["version"] = self.version
        return written


def triggers_of(modules: Iterable[str | ModuleType]) -> Iterator[Trigger]:
    """Yield the triggers that these modules hold under names of their own, each once."""
    seen: set[int] = set()
    for module in modules:
        loaded = importlib.import_module(module) if isinstance(module, str) else module
        for value in vars(loaded).values():
            if isinstance(value, Trigger) and id(value) not in seen:
                seen.add(id(value))
                yield value


def one_per_queue(triggers: Iterable[Trigger]) -> tuple[Trigger, ...]:
    """Return the triggers, each once.

    Raises:
        DefinitionError: two triggers for one queue.
    """
    by_queue: dict[str, Trigger] = {}
    for trigger in triggers:
        other = by_queue.setdefault(trigger.queue, trigger)
        if other is not trigger:
            raise DefinitionError(
                f"the queue {trigger.queue!r} has two triggers, for the flows {other.flow_name!r}"
                f" and {trigger.flow_name!r}: one queue belongs to one flow"
            )
    return tuple(by_queue.values())


def read_request(body: bytes) -> Request:
    """Return what a message of the common queue wants started.

    Raises:
        Refused: it is not JSON, or not a request; the sentence names the field.
    """
    request = _object(_json(body), "the message")
    for name in request:
        if name not in _REQUEST:
            hint = functions.near_miss(name, _REQUEST)
            raise Refused("malformed", f"there is no field {name!r} in a message{hint}")
    flow, version = request.get("flow"), request.get("version")
    if not (isinstance(flow, str) and flow):
        raise Refused("malformed", f"the field 'flow' is {_shown(flow)}, expected a flow's name")
    if not isinstance(version, str | None):
        raise Refused("malformed", f"the field 'version' is {_shown(version)}, expected text")
    return Request(
        flow=flow,
        document=_object(request.get("input", {}), "the field 'input'"),
        key=_key(request.get("key"), "the field 'key'"),
        version=version,
    )


def _json(body: bytes) -> JSON:
    try:
        read: JSON = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise Refused("not JSON", "the body is nested too deeply") from None
    except ValueError as error:  # of JSON and of its encoding
        raise Refused("not JSON", f"the body is not JSON: {error}") from None
    return read


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _object(value: JSON, what: str) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise Refused("malformed", f"{what} is {_shown(value)}, expected an object")
    return value


def _key(value: Any, what: str) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    if type(value) is int:
        return str(value)
    raise Refused("malformed", f"{what} is {_shown(value)}, expected text or a whole number")


def _part(message: ForeignMessage, body: JSON, place: str) -> Any:
    """Return what stands at a place of a message, or ``_MISSING``."""
    first, steps = _read_place(place)
    found: Any
    match first:
        case "body":
            found = body
        case "headers":
            found = message.headers
        case _:
            found = getattr(message, first)
            if found is None:
                return _MISSING
    for step in steps:
        if isinstance(found, Mapping) and isinstance(step, str):
            found = found.get(step, _MISSING)
        elif isinstance(found, list) and isinstance(step, int) and step < len(found):
            found = found[step]
        else:
            return _MISSING
    return found


def _read_place(place: str) -> tuple[str, list[str | int]]:
    first = re.split(r"[.\[]", place, maxsplit=1)[0]
    return first, [
        int(index) if index else name or quoted
        for name, index, quoted in _STEP.findall(place[len(first) :])
    ]


def _problem_of(place: object) -> str | None:
    if not isinstance(place, str):
        return f"{place!r} is no place in a message: write text like 'body.id'"
    first, _ = _read_place(place)
    if first not in _PARTS:
        hint = functions.near_miss(first, _PARTS)
        return f"{place!r} is no place in a message{hint}; it begins with {', '.join(_PARTS)}"
    rest = place[len(first) :]
    if "".join(match[0] for match in _STEP.finditer(rest)) != rest:
        return f'{place!r} cannot be read: write it like body.lines[0].sku or headers["a.b"]'
    if rest and first not in {"body", "headers"}:
        return f"{place!r}: {first} is a text and has no parts"
    return None


def _shown(value: object) -> str:
    match value:
        case None:
            return "missing"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= 60 else f"{text[:60]}..."
