"""What may not be written in a flow body: constructs that need the values, found in its source.

A flow's function runs when the module is imported. What asks a promise for its value is refused by
the promise; here is what Python decides without asking it, and would decide wrongly.
"""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator
from types import FunctionType

from orchestrator.flow.places import Problem, place

LATER = (
    "a flow's function runs when it is recorded: write it with plain def, without 'yield' and"
    " 'await'; its steps may be coroutines"
)

_BLOCKS = frozenset({"when", "otherwise"})


def problems(function: FunctionType) -> Iterator[Problem]:
    """Yield what is wrong with a flow's source; nothing if the source cannot be had."""
    found, first = _source(function)
    if found is None:
        return
    file = function.__code__.co_filename
    for node in _inside(found):
        told = _problem(node)
        if told is not None:
            yield Problem(f"{file}:{first + node.lineno - 1}", told)
    for otherwise in _after_two(found):
        yield Problem(
            f"{file}:{first + otherwise.lineno - 1}",
            "'otherwise()' after two conditions in one 'with' leaves open what it is the opposite"
            " of: write with when((a) & (b)) above it",
        )
    for node, word in _leaving(found):
        yield Problem(
            f"{file}:{first + node.lineno - 1}",
            f"'{word}' inside a 'with when(...):' leaves the block while the flow is recorded,"
            " whatever the condition comes to: " + _LEAVE[word],
        )


def returned_at(function: FunctionType) -> str:
    """Return ``file:line`` of the last return of a flow; of its definition if it is not found."""
    found, first = _source(function)
    returns = [node for node in found.body if isinstance(node, ast.Return)] if found else []
    if not returns:
        return place(function)
    return f"{function.__code__.co_filename}:{first + returns[-1].lineno - 1}"


def runs_at_once(function: FunctionType) -> bool:
    """Return whether calling the function runs it, which a generator or coroutine does not."""
    return not (function.__code__.co_flags & _POSTPONED)


_POSTPONED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.While)
_LEAVE = {
    "return": "name the values of the blocks and return first_of(a, b), or use choose(...)",
    "break": "loop over a list that is known when the flow is recorded",
    "continue": "put what is to be left out into a block of its own",
    "raise": "let a step fail",
}


def _source(function: FunctionType) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef | None, int]:
    """The syntax tree of a function and its first line; None if the source cannot be had."""
    try:
        lines, first = inspect.getsourcelines(function)
        if lines[0][:1].isspace():  # dedenting would stumble over texts of several lines
            lines, first = ["if True:\n", *lines], first - 1
        tree = ast.parse("".join(lines))
    except (OSError, TypeError, SyntaxError):
        return None, 0
    return next((n for n in ast.walk(tree) if isinstance(n, _FUNCTIONS)), None), first


def _problem(node: ast.AST) -> str | None:
    match node:
        case ast.Compare(ops=ops) if any(isinstance(op, ast.Is | ast.IsNot) for op in ops):
            return "'is' compares the promise, not its value: write missing(x), == None or != None"
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass" as name)):
            return f"'{name}' asks the promise, not its value: compare a field, or ask in a step"
        case ast.Try() | ast.TryStar():
            return (
                "'try' catches nothing of a step, which runs later: give the step"
                " .options(on_error=handler), or catch in the step"
            )
        case ast.Match():
            return (
                "'match' needs the value: write 'with when(...):' and 'with otherwise():', or"
                " match in a step"
            )
        case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            return "a flow is recorded, not awaited: leave 'await' out, its steps may be coroutines"
        case ast.Yield() | ast.YieldFrom():
            return "'yield' has nobody to yield to: return the values as a list"
        case ast.Assert():
            return "'assert' needs the value: check it in a step, which fails with its own error"
    return None


def _inside(function: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """Everything in a function's body, in the order of lines; its decorators are outside."""
    assert isinstance(function, _FUNCTIONS)  # noqa: S101 - what it is called with
    for statement in function.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.expr | ast.stmt):
                yield node


def _leaving(
    node: ast.AST, *, block: bool = False, loop: bool = False
) -> Iterator[tuple[ast.stmt, str]]:
    """Statements that leave a block of a condition; a loop inside of the block may be left."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Return() if block:
                yield child, "return"
            case ast.Raise() if block:
                yield child, "raise"
            case ast.Break() if block and not loop:
                yield child, "break"
            case ast.Continue() if block and not loop:
                yield child, "continue"
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() | ast.ClassDef():
                yield from _leaving(child)
            case ast.With() if any(map(_is_block, child.items)):
                yield from _leaving(child, block=True)
            case _:
                inner = loop or isinstance(child, _LOOPS)
                yield from _leaving(child, block=block, loop=inner)


def _after_two(function: ast.AST) -> Iterator[ast.With]:
    """Blocks of `otherwise` that follow a `with` of several conditions."""
    for node in ast.walk(function):
        for body in (getattr(node, "body", None), getattr(node, "orelse", None)):
            for before, after in itertools.pairwise(body if isinstance(body, list) else ()):
                match before, after:
                    case ast.With(items=items), ast.With(items=[first, *_]):
                        if sum(map(_is_block, items)) > 1 and _called(first) == "otherwise":
                            yield after


def _is_block(item: ast.withitem) -> bool:
    return _called(item) in _BLOCKS


def _called(item: ast.withitem) -> str | None:
    match item.context_expr:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
    return None
