"""User functions as steps and flows: their key, their signature, their annotations.

Arguments travel by parameter name, so only parameters that can be given by name are allowed.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from orchestrator.errors import DefinitionError
from orchestrator.flow.places import location, place
from orchestrator.flow.shapes import near_miss

__all__ = [
    "bind",
    "checked",
    "hints",
    "is_generator",
    "key",
    "namespace",
    "near_miss",
    "place",
    "refuse_method",
    "transaction_kind",
]

_Kind = inspect.Parameter

#: What a transactional step may be given, by the class of its first parameter.
_TRANSACTIONS = {
    ("sqlalchemy.engine.base", "Connection"): "core",
    ("sqlalchemy.orm.session", "Session"): "session",
    ("psycopg", "Connection"): "psycopg",
}


def key(function: FunctionType) -> str:
    """Return ``module:qualname``, under which any process finds the function.

    A module run with ``python -m`` goes by its importable name, not by ``__main__``.
    """
    module = function.__module__
    if module == "__main__":
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        module = spec.name if spec is not None else module
    return f"{module}:{function.__qualname__}"


def checked(function: object, role: str) -> FunctionType:
    """Return ``function`` if it can be a step or flow (the ``role``), else refuse it."""
    if not isinstance(function, FunctionType):
        raise DefinitionError(
            f"{location()}: a {role} is a function written with def, not"
            f" {_label(function)}: wrap it in one"
        )
    where = f"{place(function)}: {role} {function.__name__!r}"
    if function.__name__ == "<lambda>":
        raise DefinitionError(f"{place(function)}: a lambda has no name: write the {role} with def")
    if role == "step" and is_generator(function):
        raise DefinitionError(f"{where} is a generator: return a list instead of yielding")
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD}:
            raise DefinitionError(
                f"{where}: '{parameter}' takes any number of arguments: name the parameters, or"
                " take one list or dict"
            )
        if parameter.kind is _Kind.POSITIONAL_ONLY:
            raise DefinitionError(
                f"{where}: {parameter.name!r} cannot be given by name: remove the '/'"
            )
    return function


def refuse_method(function: FunctionType, role: str) -> None:
    """Refuse a function that is written in a class and takes ``self``: nobody would give it one."""
    holder, _, name = function.__qualname__.rpartition(".")
    first = next(iter(inspect.signature(function).parameters), None)
    if holder and not holder.endswith("<locals>") and first in {"self", "cls"}:
        raise DefinitionError(
            f"{place(function)}: a {role} is a function, and {name!r} is a method of class"
            f" {holder.rpartition('.')[2]}: move it out of the class"
        )


def is_generator(function: FunctionType) -> bool:
    """Return whether a function yields, plain or as a coroutine."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def transaction_kind(function: FunctionType, names: dict[str, Any] | None) -> str:
    """Return what the first parameter of a transactional step is: core, session or psycopg."""
    where = f"{place(function)}: the transactional step {function.__name__!r}"
    cure = (
        "annotate its first parameter with sqlalchemy.Connection, sqlalchemy.orm.Session or"
        f" psycopg.Connection: def {function.__name__}(tx: Connection, ...)"
    )
    parameters = list(inspect.signature(function).parameters)
    if inspect.iscoroutinefunction(function):
        raise DefinitionError(
            f"{where} is a coroutine: its transaction belongs to one thread; write it with def"
        )
    if not parameters:
        raise DefinitionError(f"{where} takes no transaction: {cure}")
    annotation = hints(function, names).get(parameters[0])
    kind = typing.get_origin(annotation) or annotation
    for base in getattr(kind, "__mro__", ()):
        found = _TRANSACTIONS.get((base.__module__, base.__qualname__))
        if found is not None:
            return found
    raise DefinitionError(f"{where} has the first parameter {parameters[0]!r}: {cure}")


def bind(signature: inspect.Signature, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the bound arguments; raise TypeError with a near miss for an unknown name."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if not unknown:
            raise
        hint = near_miss(unknown[0], signature.parameters)
        raise TypeError(f"got an unexpected keyword argument {unknown[0]!r}{hint}") from None


def namespace(function: FunctionType) -> dict[str, Any] | None:
    """Return the names around a function that is being decorated inside another one.

    Annotations are text until they are needed; then the local classes they name would be out of
    reach.
    """
    if "<locals>" not in function.__qualname__:
        return None
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename == function.__code__.co_filename:
            return dict(frame.f_locals)
        frame = frame.f_back
    return None


def hints(function: FunctionType, names: dict[str, Any] | None) -> dict[str, Any]:
    """Return the annotations of a function as types, the result's as ``return``."""
    try:
        return typing.get_type_hints(function, localns=names, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise DefinitionError(
            f"{place(function)}: the annotations of {function.__name__!r} cannot be read: {error};"
            " import what they name at run time, not only under TYPE_CHECKING"
        ) from error


def _label(value: object) -> str:
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        return f"the generator {value.__name__!r}"
    if isinstance(value, type):
        return f"the class {value.__qualname__!r}"
    return f"a {type(value).__qualname__}"
