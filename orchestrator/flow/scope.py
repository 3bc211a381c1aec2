"""Scopes: where in the fan-outs a step runs, as text.

The top of a flow is the empty text. Item 17 of the each ``parse`` inside item 3 of the each
``folder`` is ``folder[3]/parse[17]``. Step names hold neither slash nor bracket, so a scope reads
back without doubt.
"""

from __future__ import annotations

from functools import lru_cache

from orchestrator.errors import InvalidInput

TOP = ""


def child(scope: str, each: str, index: int) -> str:
    """Return the scope of item ``index`` of the each ``each`` whose own row lives in ``scope``."""
    return f"{scope}/{each}[{index}]" if scope else f"{each}[{index}]"


@lru_cache(maxsize=4096)  # one step run asks this some five times
def parent(scope: str) -> tuple[str, str, int] | None:
    """Return (outer scope, each name, item index) of an item's scope, or None at the top."""
    if not scope:
        return None
    outer, _, segment = scope.rpartition("/")
    each, index = _item(segment, scope)
    return outer, each, index


@lru_cache(maxsize=4096)  # and this some fifteen times
def path(scope: str) -> tuple[str, ...]:
    """Return the names of the eaches around ``scope``, outermost first."""
    if not scope:
        return ()
    return tuple(segment.partition("[")[0] for segment in scope.split("/"))


def inside(scope: str, outer: str) -> bool:
    """Return whether ``scope`` is ``outer`` or lies anywhere below it."""
    return not outer or scope == outer or scope.startswith(f"{outer}/")


@lru_cache(maxsize=4096)
def options_path(name: str, scope: str) -> str:
    """Return the key under which a definition keeps the options of ``name`` in ``scope``."""
    return "/".join((*path(scope), name))


def _item(segment: str, scope: str) -> tuple[str, int]:
    each, bracket, rest = segment.partition("[")
    index, closing, tail = rest.partition("]")
    if not (each and bracket and closing and not tail and index.isascii() and index.isdigit()):
        raise InvalidInput(f"{scope!r} is not a scope: expected parts like 'parse[17]'")
    return each, int(index)
