"""Reading what bodies need: inputs, outputs, items. All in one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator.store.database import Connection

#: Items stored per row of `payloads`: small enough that reading one item does not unpack a whole
#: list.
ITEMS_PER_PART = 100

_SPREAD = (
    "s.name = a.name AND s.scope >= a.prefix AND s.scope < a.prefix || '~' AND s.scope ~ a.pattern"
)
_LOAD = """
SELECT 'input', 0::bigint, NULL::text, input
  FROM orchestrator.execution_state
 WHERE execution_id = %(execution)s AND %(input)s
UNION ALL
SELECT 'output', a.i, s.scope, coalesce(s.output, p.value)
  FROM unnest(%(names)s::text[], %(scopes)s::text[]) WITH ORDINALITY AS a(name, scope, i)
  JOIN orchestrator.steps s ON s.execution_id = %(execution)s
   AND s.name = a.name AND s.scope = a.scope AND s.status = 'succeeded'
  LEFT JOIN orchestrator.payloads p
    ON s.output IS NULL AND p.execution_id = s.execution_id AND p.name = s.name
   AND p.scope = s.scope AND p.run = s.run AND p.kind = 'output' AND p.part = 0
UNION ALL
SELECT 'outputs', a.i, s.scope, coalesce(s.output, p.value)
  FROM unnest(%(spread_names)s::text[], %(spread_prefixes)s::text[], %(spread_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
  JOIN orchestrator.steps s ON s.execution_id = %(execution)s AND <spread>
   AND s.status = 'succeeded'
  LEFT JOIN orchestrator.payloads p
    ON s.output IS NULL AND p.execution_id = s.execution_id AND p.name = s.name
   AND p.scope = s.scope AND p.run = s.run AND p.kind = 'output' AND p.part = 0
UNION ALL
SELECT 'count', a.i, s.scope, to_jsonb(s.items)
  FROM unnest(%(count_names)s::text[], %(count_prefixes)s::text[], %(count_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
  JOIN orchestrator.steps s ON s.execution_id = %(execution)s AND <spread>
   AND s.status <> 'superseded' AND s.items IS NOT NULL
UNION ALL
-- an each that was re-run has stored its list anew under a higher run
SELECT 'item', a.i, NULL, (
           SELECT p.value -> (a.index %% <part>) FROM orchestrator.payloads p
            WHERE p.execution_id = %(execution)s AND p.name = a.name AND p.scope = a.scope
              AND p.kind = 'items' AND p.part = a.index / <part> ORDER BY p.run DESC LIMIT 1)
  FROM unnest(%(item_names)s::text[], %(item_scopes)s::text[], %(item_indexes)s::integer[])
       WITH ORDINALITY AS a(name, scope, index, i)
UNION ALL
SELECT 'items', a.i, s.scope, (
           SELECT jsonb_agg(e.value ORDER BY p.part, e.ordinality)
             FROM orchestrator.payloads p,
                  jsonb_array_elements(p.value) WITH ORDINALITY AS e(value, ordinality)
            WHERE p.execution_id = s.execution_id AND p.name = s.name AND p.scope = s.scope
              AND p.kind = 'items'
              AND p.run = (SELECT max(q.run) FROM orchestrator.payloads q
                            WHERE q.execution_id = s.execution_id
                              AND q.name = s.name AND q.scope = s.scope AND q.kind = 'items'))
  FROM unnest(%(list_names)s::text[], %(list_prefixes)s::text[], %(list_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
  JOIN orchestrator.steps s ON s.execution_id = %(execution)s AND <spread>
   AND s.status <> 'superseded' AND s.items IS NOT NULL
""".replace("<spread>", _SPREAD).replace("<part>", str(ITEMS_PER_PART))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Rows of one name in every scope with this prefix that matches a regular expression."""

    name: str
    prefix: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Values by the position of what was asked; ``input`` is the whole input document.

    ``spreads``, ``counts`` and ``lists`` are mappings by scope.
    """

    input: dict[str, Any]
    outputs: dict[int, Any]
    spreads: dict[int, dict[str, Any]]
    counts: dict[int, dict[str, int]]
    items: dict[int, Any]
    lists: dict[int, dict[str, list[Any]]]


def load(
    connection: Connection,
    execution_id: UUID,
    *,
    with_input: bool,
    outputs: Sequence[tuple[str, str]] = (),
    spreads: Sequence[Spread] = (),
    counts: Sequence[Spread] = (),
    items: Sequence[tuple[str, str, int]] = (),
    lists: Sequence[Spread] = (),
) -> Loaded:
    """Fetch values of one execution: outputs of succeeded step runs, items, the input.

    Args:
        outputs: (name, scope) of single step runs.
        items: (each, scope, index) of single items.
    """
    rows = connection.execute(
        _LOAD,
        {
            "execution": execution_id,
            "input": with_input,
            "names": [name for name, _ in outputs],
            "scopes": [scope for _, scope in outputs],
            **_asked("spread", spreads),
            **_asked("count", counts),
            **_asked("list", lists),
            "item_names": [name for name, _, _ in items],
            "item_scopes": [scope for _, scope, _ in items],
            "item_indexes": [index for _, _, index in items],
        },
    ).fetchall()
    loaded = Loaded(input={}, outputs={}, spreads={}, counts={}, items={}, lists={})
    for kind, ordinal, scope, value in rows:
        i = ordinal - 1
        match kind:
            case "input":
                loaded.input.update(value)
            case "output":
                loaded.outputs[i] = value
            case "outputs":
                loaded.spreads.setdefault(i, {})[scope] = value
            case "count":
                loaded.counts.setdefault(i, {})[scope] = value
            case "item":
                loaded.items[i] = value
            case "items":
                loaded.lists.setdefault(i, {})[scope] = value or []
    return loaded


def _asked(kind: str, spreads: Sequence[Spread]) -> dict[str, list[str]]:
    return {
        f"{kind}_names": [spread.name for spread in spreads],
        f"{kind}_prefixes": [spread.prefix for spread in spreads],
        f"{kind}_patterns": [spread.pattern for spread in spreads],
    }
