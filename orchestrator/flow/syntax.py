"""What may not be written in a flow body: constructs that need the values, found in its source.

A flow's function runs when the module is imported. What asks a promise for its value is refused by
the promise; here is what Python decides without asking it, and would decide wrongly.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType

from orchestrator.flow.places import Problem

LATER = (
    "a flow's function runs when it is recorded: write it with plain def, without 'yield' and"
    " 'await'; its steps may be coroutines"
)

_BLOCKS = frozenset({"when", "otherwise"})


def problems(function: FunctionType) -> Iterator[Problem]:
    """Yield what is wrong with a flow's source; nothing if the source cannot be had."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return
    found = next((n for n in ast.walk(tree) if isinstance(n, _FUNCTIONS)), None)
    if found is None:
        return
    file = function.__code__.co_filename
    for node in _inside(found):
        told = _problem(node)
        if told is not None:
            yield Problem(f"{file}:{first + node.lineno - 1}", told)
    for node, word in _leaving(found):
        yield Problem(
            f"{file}:{first + node.lineno - 1}",
            f"'{word}' inside a 'with when(...):' leaves the block while the flow is recorded,"
            " whatever the condition comes to: " + _LEAVE[word],
        )


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


def _problem(node: ast.AST) -> str | None:
    match node:
        case ast.Compare(ops=ops) if any(isinstance(op, ast.Is | ast.IsNot) for op in ops):
            return "'is' compares the promise, not its value: write == None, != None or missing(x)"
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


def _is_block(item: ast.withitem) -> bool:
    match item.context_expr:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _BLOCKS
    return False
