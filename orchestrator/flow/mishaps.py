"""What an exception that came out of a flow body says of the flow.

A promise that meets a library, or one of our own functions that is called wrongly, ends in an
exception of Python's. Its line and its cure are found here; what is the user's own stays as it is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import FunctionType

from pydantic import ValidationError

from orchestrator.errors import DefinitionError
from orchestrator.flow import functions
from orchestrator.flow.places import Problem
from orchestrator.flow.promises import Promise

_NO_VALUE = "a promise has no value while the flow is recorded; do it in a step"
_PLACED = re.compile(r"(.*?:\d+): (.*)", re.DOTALL)
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


def told_by(error: Exception, function: FunctionType) -> Problem | None:
    """Return the problem that an exception tells; None if it is the user's own."""
    match error:
        case DefinitionError():
            placed = _PLACED.fullmatch(str(error))
            if placed is None:
                return Problem(functions.place(function), str(error))
            return Problem(placed[1], placed[2])
        case ValidationError() if _about_promises(error):
            model = error.title
            told = f"the model {model} was made with a promise: write build({model}, ...) for it"
        case _ if any(isinstance(part, str) and "Promise" in part for part in error.args):
            told = f"{type(error).__name__}: {error}: {_NO_VALUE}"
        case TypeError() if _called_wrongly(error):
            told = f"{error}{_near_miss(error)}"
        case _:
            return None
    return Problem(_raised_at(error, function), told)


def _about_promises(error: ValidationError) -> bool:
    def holds(value: object) -> bool:
        if isinstance(value, dict):
            return any(map(holds, value.values()))
        return isinstance(value, Promise)

    return any(holds(problem["input"]) for problem in error.errors(include_url=False))


def _called_wrongly(error: TypeError) -> bool:
    return next(_called(error), None) is not None


def _near_miss(error: TypeError) -> str:
    unknown = _UNEXPECTED.search(str(error))
    function = next(_called(error), None)
    if unknown is None or function is None:
        return ": see its documentation for what it takes"
    known = list(inspect.signature(function).parameters)
    close = functions.near_miss(unknown[1], known)
    return close or f": it takes {', '.join(name for name in known if name != 'self')}"


def _called(error: TypeError) -> Iterator[FunctionType]:
    """The function of ours that the arguments did not fit: Python names it first."""
    from orchestrator.flow import building, calls, conditions, fanout, joins, steps, waits  # noqa: PLC0415 - they record

    named = str(error).partition("(")[0]
    known = (
        *(building.build, calls.NamedCall.options, calls.NamedCall.__call__, conditions.choose),
        *(conditions.otherwise, conditions.when, fanout.each, joins.first_n, joins.first_of),
        *(steps.Step.options, waits.signal, waits.sleep),
    )
    for function in known:
        if isinstance(function, FunctionType) and function.__qualname__ == named:
            yield function


def _raised_at(error: BaseException, function: FunctionType) -> str:
    """The last line of the flow's own file that an error went through."""
    place, trace = functions.place(function), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == function.__code__.co_filename:
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
