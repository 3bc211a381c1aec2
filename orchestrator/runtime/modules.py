"""Which flows and steps a module holds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from orchestrator.flow.authoring import Flow
from orchestrator.flow.steps import Step


def flows_of(modules: Iterable[str | ModuleType]) -> Iterator[Flow[..., Any]]:
    """Yield the flows that these modules hold under names of their own, each once."""
    seen: set[int] = set()
    for value in _held(modules):
        if isinstance(value, Flow) and id(value) not in seen:
            seen.add(id(value))
            yield value


def steps_of(modules: Iterable[str | ModuleType]) -> Iterator[Step[..., Any]]:
    """Yield the steps that these modules hold, also those that no flow uses.

    An execution that began before a flow was changed may still need them.
    """
    return (value for value in _held(modules) if isinstance(value, Step))


def _held(modules: Iterable[str | ModuleType]) -> Iterator[Any]:
    for module in modules:
        loaded = importlib.import_module(module) if isinstance(module, str) else module
        yield from list(vars(loaded).values())
