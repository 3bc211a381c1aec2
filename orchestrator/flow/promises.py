"""Promises: what stands in a flow body for a value that exists only at run time.

A promise may be handed to steps, put into lists and dicts, and returned. Everything else needs the
value, so everything else is refused, at the line where it was tried and with the cure. A promise
has no public attributes of its own: any name would hide a field of the user's.
"""

from __future__ import annotations

import inspect
import sysconfig
from typing import Any, Final, NoReturn

from orchestrator.errors import DefinitionError
from orchestrator.flow.graph import Output, Param

_OURS = "orchestrator.flow."
_STDLIB = sysconfig.get_path("stdlib") + "/"


def location() -> str:
    """Return ``file:line`` of the user's code that called into this package."""
    frame = inspect.currentframe()
    while frame is not None:
        file = frame.f_code.co_filename
        ours = frame.f_globals.get("__name__", "").startswith(_OURS)
        library = file.startswith((_STDLIB, "<frozen", "<string")) and "site-packages" not in file
        if not (ours or library):
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown place"


class Promise:
    """The value of a parameter or a step, to be known when the flow runs."""

    __slots__ = ("_binding", "_recording")

    _binding: Param | Output
    _recording: object

    def __init__(self, binding: Param | Output, recording: object) -> None:
        object.__setattr__(self, "_binding", binding)
        object.__setattr__(self, "_recording", recording)

    def __repr__(self) -> str:
        return f"<promise of {described(self)}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__") and name.endswith("__"):
            # Protocol look-ups of the language, debuggers and libraries must find nothing.
            raise AttributeError(name)
        _refuse(self, f"has no attribute {name!r} yet", _READ_FIELD)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        _refuse(self, f"cannot be given the attribute {name!r}", _CHANGE)

    def __delattr__(self, name: str) -> NoReturn:
        _refuse(self, f"cannot lose the attribute {name!r}", _CHANGE)


def binding_of(promise: Promise) -> Param | Output:
    """Return what a promise refers to."""
    found: Param | Output = object.__getattribute__(promise, "_binding")
    return found


def recording_of(promise: Promise) -> object:
    """Return the recording a promise belongs to."""
    return object.__getattribute__(promise, "_recording")


def described(promise: Promise) -> str:
    """Name a promise for a message."""
    match binding_of(promise):
        case Param(name):
            return f"the parameter {name!r}"
        case Output(node):
            return f"the result of step {node!r}"


_READ_FIELD: Final = "read the field in the step that uses it"
_CHANGE: Final = "let a step return a changed copy"
_DECIDE: Final = "decide in a step; a flow's graph is the same for every input"
_LOOP: Final = "use each(items, step) to run a step per item"
_COMPUTE: Final = "compute it in a step"
_TEXT: Final = "build the text in a step"
_AS_KEY: Final = "use the promise as a value, not as a key or a member of a set"
_CALL: Final = "call it in a step"
_WITH: Final = "open it in the step that uses it"

#: What Python asks of a value, by method name: what was tried, and the cure.
_REFUSED: Final[dict[str, tuple[str, str]]] = {
    "__bool__": ("is neither true nor false yet", _DECIDE),
    "__iter__": ("cannot be looped over or unpacked yet", _LOOP),
    "__next__": ("cannot be looped over yet", _LOOP),
    "__aiter__": ("cannot be looped over yet", _LOOP),
    "__reversed__": ("cannot be reversed yet", _COMPUTE),
    "__len__": ("has no length yet", _COMPUTE),
    "__contains__": ("cannot be searched with 'in' yet", _DECIDE),
    "__getitem__": ("has no items yet", _READ_FIELD),
    "__setitem__": ("cannot be given an item", _CHANGE),
    "__delitem__": ("cannot lose an item", _CHANGE),
    "__str__": ("has no text yet", _TEXT),
    "__format__": ("cannot be formatted yet", _TEXT),
    "__bytes__": ("has no bytes yet", _COMPUTE),
    "__fspath__": ("is no path yet", _COMPUTE),
    "__hash__": ("cannot be hashed", _AS_KEY),
    "__call__": ("cannot be called", _CALL),
    "__await__": ("cannot be awaited", "a flow is recorded, not awaited: pass the promise on"),
    **{
        f"__{name}__": ("cannot be used in a 'with'", _WITH)
        for name in ("enter", "exit", "aenter", "aexit")
    },
    **{
        f"__{name}__": ("is no number yet", _COMPUTE)
        for name in ("int", "float", "complex", "index", "round", "trunc", "floor", "ceil")
    },
    **{
        f"__{name}__": ("cannot be compared yet", _DECIDE)
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    },
    **{
        f"__{prefix}{name}__": ("cannot be computed with yet", _COMPUTE)
        for prefix in ("", "r")
        for name in (
            *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
            *("lshift", "rshift", "and", "or", "xor"),
        )
    },
    **{
        f"__{name}__": ("cannot be computed with yet", _COMPUTE)
        for name in ("neg", "pos", "abs", "invert")
    },
}


def _refuse(promise: Promise, tried: str, cure: str) -> NoReturn:
    raise DefinitionError(
        f"{location()}: {described(promise)} is a promise and {tried}: {cure}"
    ) from None


def _refusal(name: str, tried: str, cure: str) -> Any:
    def refuse(self: Promise, *_: object) -> NoReturn:
        _refuse(self, tried, cure)

    refuse.__name__ = name
    refuse.__qualname__ = f"Promise.{name}"
    return refuse


for _name, (_tried, _cure) in _REFUSED.items():
    setattr(Promise, _name, _refusal(_name, _tried, _cure))
