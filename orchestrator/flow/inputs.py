"""Inputs of a flow, checked where they enter: types are the schema.

Whatever is refused here has left no trace. Every message names the flow, the parameter and the
field.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import InvalidInput
from orchestrator.flow import functions


def from_python(flow: str, given: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, JSON]:
    """Return Python values, checked against the annotations, as an encoded document."""
    return _encoded(flow, given, hints, _from_python)


def from_document(flow: str, given: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, JSON]:
    """Return JSON values, read as the annotations say, as an encoded document."""
    return _encoded(flow, given, hints, _from_json)


def schema(
    flow: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> dict[str, JSON]:
    """Return the JSON schema of a flow's input document; what has no schema may be anything."""
    found = {name: _adapter(hints[name]) for name in parameters if name in hints}
    adapters = {name: adapter for name, adapter in found.items() if _has_schema(adapter)}
    schemas, beside = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items() if adapter]
    )
    empty = inspect.Parameter.empty
    return {
        "title": flow,
        "type": "object",
        "properties": {name: schemas.get((name, "validation"), {}) for name in parameters},
        "required": [name for name, given in parameters.items() if given.default is empty],
        "additionalProperties": False,
        **beside,
    }


def signal_from_python(flow: str, signal: str, value: Any, annotation: Any) -> JSON:
    """Return what a signal carries, checked against its annotation and encoded."""
    hints = {signal: annotation}
    return _encoded(flow, {signal: value}, hints, _from_python, what="signal")[signal]


def signal_from_document(flow: str, signal: str, value: Any, annotation: Any) -> JSON:
    """Return what a signal carries, read from JSON as its annotation says and encoded."""
    return _encoded(flow, {signal: value}, {signal: annotation}, _from_json, what="signal")[signal]


def check_names(flow: str, document: Mapping[str, Any], signature: inspect.Signature) -> None:
    """Refuse unknown and missing parameter names of a document."""
    if not isinstance(document, Mapping):
        raise InvalidInput(
            f"flow {flow!r}: the input is a {type(document).__name__}, expected an object by"
            " parameter name"
        )
    parameters = signature.parameters
    for name in document:
        if name not in parameters:
            hint = functions.near_miss(str(name), parameters)
            raise InvalidInput(f"flow {flow!r}: there is no parameter {name!r}{hint}")
    for name, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and name not in document:
            raise InvalidInput(f"flow {flow!r}: the parameter {name!r} is missing")


def _encoded(
    flow: str,
    given: Mapping[str, Any],
    hints: Mapping[str, Any],
    validate: Callable[[TypeAdapter[Any], Any], Any],
    *,
    what: str = "parameter",
) -> dict[str, JSON]:
    document = {}
    for name, value in given.items():
        where = f"flow {flow!r}, {what} {name!r}"
        adapter = _adapter(hints[name]) if name in hints else None
        try:
            checked = value if adapter is None else validate(adapter, value)
        except ValidationError as error:
            raise InvalidInput(f"{where}: {_sentence(error)}") from error
        document[name] = codec.encode(checked, where=where)
    return document


def _from_python(adapter: TypeAdapter[Any], value: Any) -> Any:
    return adapter.validate_python(value)


def _from_json(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        # A document from YAML or a test may hold dates already.
        return adapter.validate_python(value)
    return adapter.validate_json(text)


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    try:
        return _cached_adapter(annotation)
    except TypeError:
        # An annotation that cannot be hashed (a list inside Annotated) cannot be cached either.
        return _cached_adapter.__wrapped__(annotation)


@functools.lru_cache(maxsize=1024)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """None where pydantic has no opinion: an annotation it cannot read refuses nothing."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        pass  # models and dataclasses bring a config of their own
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:
        return None


def _has_schema(adapter: TypeAdapter[Any] | None) -> bool:
    try:
        return adapter is not None and bool(adapter.json_schema())
    except (PydanticUserError, PydanticInvalidForJsonSchema):
        return False


def _sentence(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in problem["loc"])
        parts.append(f"field {field!r}: {problem['msg']}" if field else problem["msg"])
    return "; ".join(parts)
