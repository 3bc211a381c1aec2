"""Which flows a module holds."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from orchestrator.flow.authoring import Flow


def flows_of(modules: Iterable[str | ModuleType]) -> Iterator[Flow[..., Any]]:
    """Yield the flows that these modules hold under names of their own, each once."""
    seen: set[int] = set()
    for module in modules:
        loaded = importlib.import_module(module) if isinstance(module, str) else module
        for value in vars(loaded).values():
            if isinstance(value, Flow) and id(value) not in seen:
                seen.add(id(value))
                yield value
