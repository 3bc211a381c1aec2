"""Promises: what stands in a flow body for a value that exists only at run time.

A promise may be handed to steps, put into lists and dicts, compared, and returned; its fields and
items are promises again, and so are comparisons. Everything else needs the value, so everything
else is refused, at the line where it was tried and with the cure. A promise has no public
attributes of its own: any name would hide a field of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from orchestrator.errors import DefinitionError
from orchestrator.flow import shapes, wording
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
    Comparison,
    DictOf,
    Field,
    Missing,
    Not,
    Output,
    Param,
)
from orchestrator.flow.places import Problem, location, model_being_made
from orchestrator.flow.shapes import NotReadable

__all__ = [
    "Promise",
    "Told",
    "described",
    "location",
    "missing",
    "not_",
    "told",
]


class Recorder(Protocol):
    """What a promise needs of the recording it belongs to."""

    flow: str
    problems: list[Problem]

    def refuse(self, message: str) -> None:
        """Keep a problem of the line under way, if it is a new one; raise it out of season."""

    def refused_here(self) -> bool:
        """Return whether the line under way has a problem already."""

    def binding(self, value: object, what: str) -> Binding:
        """Return a value of the flow body as a binding."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """What a promise is told when it is made.

    ``binding`` is None of one that stands for something that was refused: it takes whatever is done
    with it, so that one mistake is one problem.
    """

    binding: Binding | None
    recording: Recorder
    annotation: Any = Any


class Promise:
    """The value of a parameter, a step or an expression, to be known when the flow runs."""

    __slots__ = ("_told",)

    _told: Told

    def __init__(self, binding: Binding | None, recording: Recorder, annotation: Any = Any) -> None:
        object.__setattr__(self, "_told", Told(binding, recording, annotation))

    def __repr__(self) -> str:
        return f"<promise of {described(self)}>"

    def __getattr__(self, name: str) -> Promise:
        if name.startswith("__") and name.endswith("__"):
            # Protocol look-ups of the language, debuggers and libraries must find nothing.
            raise AttributeError(name)
        return _field(self, lambda kind: (name, shapes.attribute(kind, name)))

    def __getitem__(self, key: object) -> Promise:
        if isinstance(key, Promise):
            return _refused(self, "cannot be asked for an item that is not known yet", _READ_FIELD)
        return _field(self, lambda kind: shapes.item(kind, key))

    def __iter__(self) -> Iterator[Promise]:
        return iter((_refused(self, "cannot be looped over or unpacked yet", _LOOP),))

    def __bool__(self) -> bool:
        """Stand in with True once per line: a loop that asks again must come to its end."""
        known = told(self)
        if known.binding is None:
            return False
        problems = len(known.recording.problems)
        _refused(self, "is neither true nor false yet", _DECIDE)
        return len(known.recording.problems) > problems

    def __len__(self) -> int:
        # Python asks for a length also where it loops, as in list(...).
        if not told(self).recording.refused_here():
            _refused(self, "has no length yet", _COMPUTE)
        return 0

    def __hash__(self) -> int:
        _refused(self, "cannot be hashed", _AS_KEY)
        return id(self)

    def __copy__(self) -> Promise:
        return self

    def __deepcopy__(self, _known: object) -> Promise:
        return self

    def __setattr__(self, name: str, value: object) -> None:
        _refused(self, f"cannot be given the attribute {name!r}", _CHANGE)

    def __delattr__(self, name: str) -> None:
        _refused(self, f"cannot lose the attribute {name!r}", _CHANGE)

    def __eq__(self, other: object) -> Promise:  # type: ignore[override]  # an expression
        return _compared("==", self, other)

    def __ne__(self, other: object) -> Promise:  # type: ignore[override]  # an expression
        return _compared("!=", self, other)

    def __lt__(self, other: object) -> Promise:
        return _compared("<", self, other)

    def __le__(self, other: object) -> Promise:
        return _compared("<=", self, other)

    def __gt__(self, other: object) -> Promise:
        return _compared(">", self, other)

    def __ge__(self, other: object) -> Promise:
        return _compared(">=", self, other)

    def __and__(self, other: object) -> Promise:
        return _joined("&", self, other)

    def __or__(self, other: object) -> Promise:
        return _joined("|", self, other)

    def __rand__(self, other: object) -> Promise:
        return _joined("&", self, other)

    def __ror__(self, other: object) -> Promise:
        return _joined("|", self, other)


def told(promise: Promise) -> Told:
    """Return what a promise stands for."""
    found: Told = object.__getattribute__(promise, "_told")
    return found


def not_(condition: object) -> bool:
    """Return the opposite of a condition: ``not`` itself cannot wait for a value."""
    promise = _promise("not_", condition)
    known = told(promise)
    if known.binding is None:
        return promise  # type: ignore[return-value]  # declared as its value
    return Promise(Not(known.binding), known.recording, bool)  # type: ignore[return-value]


def missing(value: object) -> bool:
    """Return the condition that there is no value: None, no such field, or a skipped step."""
    promise = _promise("missing", value)
    known = told(promise)
    if known.binding is None:
        return promise  # type: ignore[return-value]  # declared as its value
    return Promise(Missing(known.binding), known.recording, bool)  # type: ignore[return-value]


def described(promise: Promise) -> str:
    """Name a promise for a message."""
    return named(told(promise).binding)


def named(binding: Binding | None) -> str:
    """Name what a binding stands for in a message."""
    match binding:
        case Param(name):
            return f"the parameter {name!r}"
        case Output(node):
            return f"the result of step {node!r}"
        case Field():
            return f"the field {wording.text(binding)!r}"
        case Compare() | AllOf() | AnyOf() | Not() | Missing():
            return f"the condition {wording.text(binding)!r}"
        case Build() | DictOf():
            return "a value put together here"
        case _:
            return "a value that was refused"


_READ_FIELD: Final = "read the field in the step that uses it"
_CHANGE: Final = "let a step return a changed copy"
_DECIDE: Final = (
    "write 'with when(...):' for 'if', '&', '|' and not_() for 'and', 'or' and 'not',"
    " (a < b) & (b < c) for a chain, (x == a) | (x == b) for 'in', or decide in a step;"
    " a flow's graph is the same for every input"
)
_SEARCH: Final = "compare with each: (x == a) | (x == b), or decide in a step"
_LOOP: Final = "use each(items, step) to run a step per item; name items as promise[0], promise[1]"
_COMPUTE: Final = "compute it in a step"
_TEXT: Final = "build the text in a step"
_AS_KEY: Final = "use the promise as a value, not as a key or a member of a set"
_CALL: Final = "call it in a step"
_WITH: Final = "open it in the step that uses it, or write 'with when(...):' for a condition"
_INVERT: Final = "write not_(...) for the opposite of a condition"

#: What Python asks of a value, by method name: what was tried, the cure, and what stands in for the
#: answer while the rest of the flow is looked at; None: a promise that takes whatever follows.
_REFUSED: Final[dict[str, tuple[str, str, Any]]] = {
    "__next__": ("cannot be looped over yet", _LOOP, None),
    "__aiter__": ("cannot be looped over yet", _LOOP, None),
    "__reversed__": ("cannot be reversed yet", _COMPUTE, None),
    "__contains__": ("cannot be searched with 'in' yet", _SEARCH, False),
    "__setitem__": ("cannot be given an item", _CHANGE, None),
    "__delitem__": ("cannot lose an item", _CHANGE, None),
    "__str__": ("has no text yet", _TEXT, ""),
    "__format__": ("cannot be formatted yet", _TEXT, ""),
    "__bytes__": ("has no bytes yet", _COMPUTE, b""),
    "__fspath__": ("is no path yet", _COMPUTE, ""),
    "__call__": ("cannot be called", _CALL, None),
    "__await__": (
        "cannot be awaited",
        "a flow is recorded, not awaited: pass the promise on",
        iter(()),
    ),
    **{
        f"__{name}__": ("cannot be used in a 'with'", _WITH, None)
        for name in ("enter", "exit", "aenter", "aexit")
    },
    **{
        f"__{name}__": ("is no number yet", _COMPUTE, stand_in)
        for name, stand_in in (
            *(("int", 0), ("float", 0.0), ("complex", 0j), ("index", 0)),
            *(("round", 0), ("trunc", 0), ("floor", 0), ("ceil", 0)),
        )
    },
    **{
        f"__{prefix}{name}__": ("cannot be computed with yet", _COMPUTE, None)
        for prefix in ("", "r")
        for name in (
            *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "divmod", "pow"),
            *("lshift", "rshift", "xor"),
        )
    },
    **{
        f"__{name}__": ("cannot be computed with yet", _COMPUTE, None)
        for name in ("neg", "pos", "abs")
    },
    "__invert__": ("cannot be inverted with '~'", _INVERT, None),
}


def _refused(promise: Promise, tried: str, cure: str) -> Promise:
    """Refuse what was tried; return a promise that takes whatever follows."""
    known = told(promise)
    if known.binding is None:
        return promise
    model = model_being_made()
    if model is not None:
        tried, cure = f"the model {model} needs its value", f"write build({model}, ...) for it"
    known.recording.refuse(f"{described(promise)} is a promise and {tried}: {cure}")
    return Promise(None, known.recording)


def _refusal(name: str, tried: str, cure: str, stand_in: Any) -> Any:
    def refuse(self: Promise, *_: object) -> Any:
        taken = _refused(self, tried, cure)
        return taken if stand_in is None else stand_in

    refuse.__name__ = name
    refuse.__qualname__ = f"Promise.{name}"
    return refuse


for _name, (_tried, _cure, _stand_in) in _REFUSED.items():
    setattr(Promise, _name, _refusal(_name, _tried, _cure, _stand_in))


def _field(promise: Promise, read: Callable[[Any], tuple[str | int, Any]]) -> Promise:
    known = told(promise)
    if known.binding is None:
        return promise
    try:
        stored, annotation = read(known.annotation)
    except NotReadable as refused:
        return _refused(promise, refused.problem, refused.cure)
    return Promise(Field(known.binding, stored), known.recording, annotation)


def _compared(operation: Comparison, promise: Promise, other: object) -> Promise:
    known = told(promise)
    if known.binding is None:
        return promise
    if isinstance(other, Promise) and told(other).binding is None:
        return other
    kind = shapes.enum_of(known.annotation)
    if kind is not None and not isinstance(other, Promise | kind | None):
        member = shapes.example_member(kind)
        return _refused(
            promise,
            f"is stored as a member of {kind.__name__}, which never equals {other!r}",
            f"compare it with a member, as in == {member}",
        )
    if operation not in _EQUALITY and not shapes.has_order(known.annotation):
        label = shapes.label(known.annotation)
        return _refused(promise, f"has no order as a {label}", "compare a field of it")
    right = known.recording.binding(other, f"what {described(promise)} is compared with")
    return Promise(Compare(operation, known.binding, right), known.recording, bool)


def _joined(operation: str, promise: Promise, other: object) -> Promise:
    known = told(promise)
    if known.binding is None:
        return promise
    if not isinstance(other, Promise):
        return _refused(
            promise,
            f"stands beside {other!r} at '{operation}'",
            f"both sides of '{operation}' are conditions, comparisons in parentheses:"
            f" (a > 1) {operation} (b == 2)",
        )
    right = told(other).binding
    if right is None:
        return other
    kind: type[AllOf | AnyOf] = AllOf if operation == "&" else AnyOf
    parts: list[Binding] = []
    for side in (known.binding, right):
        parts.extend(side.parts if isinstance(side, kind) else (side,))
    return Promise(kind(tuple(parts)), known.recording, bool)


def _promise(function: str, value: object) -> Promise:
    if isinstance(value, Promise):
        return value
    raise DefinitionError(
        f"{location()}: {function}() takes a condition or value of a flow body, not {value!r}:"
        " what is known when the flow is recorded is decided with plain Python"
    )


_EQUALITY: Final = ("==", "!=")
