"""What a start from Python is asked for, before anything of it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from inspect import Parameter
from typing import Any

from orchestrator.errors import Conflict, InvalidInput
from orchestrator.flow.authoring import Flow
from orchestrator.records import Start
from orchestrator.runtime import start
from orchestrator.runtime.catalogue import Registered
from orchestrator.settings import Settings

#: Starts of one transaction: so many, or inputs of so many characters.
_CHUNK, _CHUNK_SIZE = 1000, 4 << 20


def require_clear(flow: Flow[..., Any], args: Sequence[Any], **ours: object) -> None:
    """Refuse a keyword of ours that could be meant for the flow's parameter of the same name.

    Args:
        args: what is given by position.
        ours: the keywords of the start that are given, by name.
    """
    parameters = list(flow.signature.parameters)
    for name, value in ours.items():
        if value is None or name not in parameters:
            continue
        if flow.signature.parameters[name].kind is Parameter.KEYWORD_ONLY:
            raise InvalidInput(
                f"flow {flow.name!r} takes {name!r} by keyword only, and {name}= is that of the"
                f" start: write start_document({flow.name}, {{{name!r}: ..., ...}})"
            )
        if parameters.index(name) >= len(args):
            raise InvalidInput(
                f"flow {flow.name!r} has a parameter {name!r}, and {name}= is that of the start:"
                f" give the flow its {name!r} by position"
            )


def wanted(
    flow: Flow[..., Any],
    registered: Registered,
    inputs: Iterable[Any],
    keys: Iterable[str | None] | None,
    settings: Settings,
) -> Iterator[Start]:
    """Validate every input; yield what is to be stored."""
    listed = list(inputs)
    named = [None] * len(listed) if keys is None else list(keys)
    if len(named) != len(listed):
        raise InvalidInput(
            f"there are {len(listed)} inputs of flow {flow.name!r} and {len(named)} keys: give one"
            " key, or None, for each input"
        )
    parameters = flow.signature.parameters.values()
    required = [parameter for parameter in parameters if parameter.default is Parameter.empty]
    single = bool(parameters) and len(required) <= 1
    for number, (given, key) in enumerate(zip(listed, named, strict=True)):
        if not single and not isinstance(given, tuple):
            raise InvalidInput(
                f"input {number} of flow {flow.name!r} is no tuple but a"
                f" {type(given).__qualname__}: it needs {len(required)} arguments, so write a tuple"
                " of them for each execution"
            )
        try:
            document = flow.validate_input((given,) if single else given)
            yield start.wanted(registered, document, settings, key=key)
        except InvalidInput as error:
            raise InvalidInput(f"input {number}: {error}") from error


def distinct(flow: Flow[..., Any], wanted: Sequence[Start]) -> tuple[list[Start], list[int]]:
    """Return the starts without repeated keys, and for each input which of them is its own."""
    distinct: list[Start] = []
    places: list[int] = []
    by_key: dict[str, int] = {}
    for number, one in enumerate(wanted):
        place = len(distinct) if one.key is None else by_key.setdefault(one.key, len(distinct))
        if place == len(distinct):
            distinct.append(one)
        elif distinct[place].input_hash != one.input_hash:
            raise Conflict(
                f"key {one.key!r} of flow {flow.name!r} is given to inputs {places.index(place)}"
                f" and {number}, which differ; use another key or the same input"
            )
        places.append(place)
    return distinct, places


def chunks(wanted: Sequence[Start]) -> Iterator[list[Start]]:
    """Yield what is started in one statement: not too many, and not too large."""
    chunk: list[Start] = []
    size = 0
    for one in wanted:
        if chunk and (len(chunk) == _CHUNK or size + len(one.document) > _CHUNK_SIZE):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one.document)
    if chunk:
        yield chunk
