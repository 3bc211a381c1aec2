"""Where a step run stands in its execution, as people write it: ``lines[3]/reserve``."""

from __future__ import annotations

from orchestrator.errors import InvalidInput
from orchestrator.flow import scope as scopes


def text_of(name: str, scope: str) -> str:
    """Return a place as text: the scope, a slash and the step's name; at the top the name alone."""
    return f"{scope}/{name}" if scope else name


def read(text: str) -> tuple[str, str]:
    """Return (step name, scope) of a place.

    Raises:
        InvalidInput: it is none.
    """
    scope, _, name = text.rpartition("/")
    if not name or "[" in name or (scope and scopes.parent(scope) is None):
        raise InvalidInput(
            f"{text!r} is no step: write its name, or its place as in lines[3]/reserve"
        )
    remaining = scope
    while remaining:
        outer = scopes.parent(remaining)
        remaining = outer[0] if outer is not None else ""
    return name, scope
