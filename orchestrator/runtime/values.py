"""Fetching what the kernel's reads name, in one round trip."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from uuid import UUID

from orchestrator.flow import scope as scopes
from orchestrator.flow.reads import (
    CountsOf,
    EndedOf,
    ErrorOf,
    InputOf,
    IsDecided,
    IsLost,
    ItemOf,
    ItemsOf,
    LostOf,
    OutputOf,
    OutputsOf,
    Read,
)
from orchestrator.store import values
from orchestrator.store.database import Connection
from orchestrator.store.values import Spread


def fetch(connection: Connection, execution_id: UUID, reads: Collection[Read]) -> dict[Read, Any]:
    """Return the value of every read, in the shapes that `orchestrator.flow.reading` describes."""
    inputs: list[InputOf] = []
    outputs: list[OutputOf] = []
    spreads: list[OutputsOf] = []
    counts: list[CountsOf] = []
    items: list[ItemOf] = []
    lists: list[ItemsOf] = []
    errors: list[ErrorOf] = []
    lost: list[LostOf] = []
    ended: list[EndedOf] = []
    losses: list[IsLost] = []
    decided: list[IsDecided] = []
    for read in reads:
        match read:
            case InputOf():
                inputs.append(read)
            case OutputOf():
                outputs.append(read)
            case OutputsOf():
                spreads.append(read)
            case CountsOf():
                counts.append(read)
            case ItemOf():
                items.append(read)
            case ItemsOf():
                lists.append(read)
            case ErrorOf():
                errors.append(read)
            case LostOf():
                lost.append(read)
            case EndedOf():
                ended.append(read)
            case IsLost():
                losses.append(read)
            case IsDecided():
                decided.append(read)
    loaded = values.load(
        connection,
        execution_id,
        inputs=[read.param for read in inputs],
        outputs=[(read.name, read.scope) for read in outputs],
        spreads=[_spread(read.name, read.scope, read.path) for read in spreads],
        counts=[_spread(read.each, read.scope, read.path) for read in counts],
        items=[(read.each, read.scope, read.index) for read in items],
        lists=[_spread(read.each, read.scope, read.path) for read in lists],
        errors=[(read.name, read.scope) for read in errors],
        lost=[(_spread(read.each, read.scope, read.path), read.names) for read in lost],
        ended=[(name, read.scope) for read in ended for name in read.names],
        losses=[(read.scope, read.names) for read in losses],
        decided=[(read.merge, read.scope) for read in decided],
    )
    return {
        **{read: loaded.input.get(read.param) for read in inputs},
        **{read: loaded.outputs.get(i) for i, read in enumerate(outputs)},
        **{read: loaded.spreads.get(i, {}) for i, read in enumerate(spreads)},
        **{read: loaded.counts.get(i, {}) for i, read in enumerate(counts)},
        **{read: loaded.items.get(i) for i, read in enumerate(items)},
        **{read: loaded.lists.get(i, {}) for i, read in enumerate(lists)},
        **{read: loaded.errors.get(i) for i, read in enumerate(errors)},
        **{read: loaded.lost.get(i, {}) for i, read in enumerate(lost)},
        **{read: _as_ended(read, loaded.ended) for read in ended},
        **{read: read.scope in loaded.losses for read in losses},
        **{read: (read.merge, read.scope) in loaded.decided for read in decided},
    }


def _as_ended(read: EndedOf, ended: dict[tuple[str, str], int]) -> list[str]:
    there = [name for name in read.names if (name, read.scope) in ended]
    return sorted(there, key=lambda name: ended[name, read.scope])


def _spread(name: str, base: str, path: tuple[str, ...]) -> Spread:
    """Every scope ``base/path0[i]/path1[j]/...`` and nothing else."""
    if not path:
        return Spread(name=name, prefix=base, pattern=f"^{re.escape(base)}$")
    below = "/".join(rf"{re.escape(each)}\[[0-9]+\]" for each in path)
    first = scopes.child(base, path[0], 0)
    prefix = first[: first.rindex("[") + 1]
    start = f"{re.escape(base)}/" if base else ""
    return Spread(name=name, prefix=prefix, pattern=f"^{start}{below}$")
