"""Reading what bodies need: inputs, outputs, items. All in one round trip."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator.codec import JSON
from orchestrator.store.database import Connection

#: Items stored in one row of `payloads`, and their size as JSON text in characters (a single item
#: may be larger): small enough that reading one item does not unpack a whole list.
_ITEMS_PER_PART, _PART_SIZE = 100, 1 << 16

# The rows below a scope. `OFFSET 0` keeps each look-up by the key: joined with the array the
# planner may read every row of the execution instead.
_BELOW = """
    SELECT s.scope, s.run, s.status, s.items, s.output FROM orchestrator.steps s
     WHERE s.execution_id = %(execution)s AND s.name = a.name
       AND s.scope >= a.prefix AND s.scope < a.prefix || '~' AND s.scope ~ a.pattern OFFSET 0
"""
# One SELECT per kind of value; a call runs those of the kinds it asks for.
_SELECTS = {
    "input": """
SELECT 'input', 0::bigint, a.param, x.input -> a.param
  FROM unnest(%(input_params)s::text[]) AS a(param)
  JOIN orchestrator.execution_state x ON x.execution_id = %(execution)s
""",
    "output": """
SELECT 'output', a.i, s.scope, coalesce(s.output, p.value)
  FROM unnest(%(output_names)s::text[], %(output_scopes)s::text[])
       WITH ORDINALITY AS a(name, scope, i)
 CROSS JOIN LATERAL (
    SELECT s.scope, s.run, s.output FROM orchestrator.steps s
     WHERE s.execution_id = %(execution)s AND s.name = a.name AND s.scope = a.scope
       AND s.status = 'succeeded' OFFSET 0) s
  LEFT JOIN orchestrator.payloads p
    ON s.output IS NULL AND p.execution_id = %(execution)s AND p.name = a.name
   AND p.scope = s.scope AND p.run = s.run AND p.kind = 'output' AND p.part = 0
""",
    "spread": """
SELECT 'spread', a.i, s.scope, coalesce(s.output, p.value)
  FROM unnest(%(spread_names)s::text[], %(spread_prefixes)s::text[], %(spread_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
 CROSS JOIN LATERAL (<below>) s
  LEFT JOIN orchestrator.payloads p
    ON s.output IS NULL AND p.execution_id = %(execution)s AND p.name = a.name
   AND p.scope = s.scope AND p.run = s.run AND p.kind = 'output' AND p.part = 0
 WHERE s.status = 'succeeded'
""",
    "count": """
SELECT 'count', a.i, s.scope, to_jsonb(s.items)
  FROM unnest(%(count_names)s::text[], %(count_prefixes)s::text[], %(count_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
 CROSS JOIN LATERAL (<below>) s
 WHERE s.status = 'succeeded' AND s.items IS NOT NULL
""",
    "error": """
SELECT 'error', a.i, s.scope, s.error
  FROM unnest(%(error_names)s::text[], %(error_scopes)s::text[])
       WITH ORDINALITY AS a(name, scope, i)
 CROSS JOIN LATERAL (
    SELECT t.scope, t.error FROM orchestrator.steps t
     WHERE t.execution_id = %(execution)s AND t.name = a.name AND t.scope = a.scope
       AND t.status = 'failed' OFFSET 0) s
""",
    # the item that does without a failed step is said in its row; below an each its scopes begin so
    "lost": """
SELECT 'lost', a.i, s.scope, jsonb_agg(DISTINCT f.absorbed_by)
  FROM unnest(%(lost_names)s::text[], %(lost_prefixes)s::text[], %(lost_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
 CROSS JOIN LATERAL (<below>) s
 CROSS JOIN LATERAL (SELECT ltrim(s.scope || '/' || a.name || '[', '/') AS item OFFSET 0) c
  JOIN unnest(%(lost_of)s::bigint[], %(lost_inner)s::text[]) AS n(i, name) ON n.i = a.i
 CROSS JOIN LATERAL (
    SELECT t.absorbed_by FROM orchestrator.steps t
     WHERE t.execution_id = %(execution)s AND t.name = n.name AND t.scope >= c.item
       AND t.scope < c.item || '~' AND t.status = 'failed'
       AND starts_with(t.absorbed_by, c.item) OFFSET 0) f
 WHERE s.status <> 'superseded'
   AND position('/' IN substr(f.absorbed_by, length(s.scope) + 2)) = 0
 GROUP BY a.i, s.scope
""",
    "ended": """
SELECT 'ended', s.ended_no::bigint, s.scope, to_jsonb(s.name)
  FROM unnest(%(ended_names)s::text[], %(ended_scopes)s::text[]) AS a(name, scope)
 CROSS JOIN LATERAL (
    SELECT t.name, t.scope, t.ended_no FROM orchestrator.steps t
     WHERE t.execution_id = %(execution)s AND t.name = a.name AND t.scope = a.scope
       AND t.status = 'succeeded' OFFSET 0) s
""",
    "loss": """
SELECT 'loss', 0::bigint, a.scope, NULL::jsonb
  FROM unnest(%(loss_scopes)s::text[], %(loss_names)s::text[]) AS a(scope, name)
 CROSS JOIN LATERAL (
    SELECT 1 FROM orchestrator.steps t
     WHERE t.execution_id = %(execution)s AND t.name = a.name AND t.scope >= a.scope
       AND t.scope < a.scope || '~' AND t.status = 'failed' AND t.absorbed_by = a.scope
     LIMIT 1) f
""",
    # a merge that is still to be recorded has what it wanted, too
    "decided": """
SELECT 'decided', 0::bigint, s.scope, to_jsonb(s.name)
  FROM unnest(%(decided_names)s::text[], %(decided_scopes)s::text[]) AS a(name, scope)
 CROSS JOIN LATERAL (
    SELECT t.name, t.scope FROM orchestrator.steps t
     WHERE t.execution_id = %(execution)s AND t.name = a.name AND t.scope = a.scope
       AND t.status <> 'superseded' AND (t.status = 'succeeded' OR t.live >= t.wanted)
     OFFSET 0) s
""",
    # an each that was re-run has stored its list anew under a higher run; a part is numbered by its
    # first item
    "item": """
SELECT 'item', a.i, NULL::text, (
    SELECT p.value -> (a.index - p.part) FROM orchestrator.payloads p
     WHERE p.execution_id = %(execution)s AND p.name = a.name AND p.scope = a.scope
       AND p.kind = 'items' AND p.part <= a.index
       AND p.run = (SELECT q.run FROM orchestrator.payloads q
                     WHERE q.execution_id = %(execution)s AND q.name = a.name
                       AND q.scope = a.scope AND q.kind = 'items' ORDER BY q.run DESC LIMIT 1)
     ORDER BY p.part DESC LIMIT 1)
  FROM unnest(%(item_names)s::text[], %(item_scopes)s::text[], %(item_indexes)s::integer[])
       WITH ORDINALITY AS a(name, scope, index, i)
""",
    "list": """
SELECT 'list', a.i, s.scope, (
    SELECT jsonb_agg(e.value ORDER BY p.part, e.ordinality)
      FROM orchestrator.payloads p,
           jsonb_array_elements(p.value) WITH ORDINALITY AS e(value, ordinality)
     WHERE p.execution_id = %(execution)s AND p.name = a.name AND p.scope = s.scope
       AND p.kind = 'items'
       AND p.run = (SELECT max(q.run) FROM orchestrator.payloads q
                     WHERE q.execution_id = %(execution)s AND q.name = a.name
                       AND q.scope = s.scope AND q.kind = 'items'))
  FROM unnest(%(list_names)s::text[], %(list_prefixes)s::text[], %(list_patterns)s::text[])
       WITH ORDINALITY AS a(name, prefix, pattern, i)
 CROSS JOIN LATERAL (<below>) s
 WHERE s.status <> 'superseded' AND s.items IS NOT NULL
""",
}
_PARTS = {kind: select.replace("<below>", _BELOW) for kind, select in _SELECTS.items()}


def parts(items: Sequence[JSON]) -> Iterator[tuple[int, list[JSON]]]:
    """Yield the rows in which a list of items is stored: the number of a part, and its items."""
    first, size = 0, 0
    for i, item in enumerate(items):
        added = len(json.dumps(item))
        if i > first and (i - first == _ITEMS_PER_PART or size + added > _PART_SIZE):
            yield first, list(items[first:i])
            first, size = i, 0
        size += added
    if items:
        yield first, list(items[first:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Rows of one name in every scope with this prefix that matches a regular expression."""

    name: str
    prefix: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Values by the position of what was asked; ``input`` is a mapping by parameter.

    ``spreads``, ``counts`` and ``lists`` are mappings by scope.
    """

    input: dict[str, Any]
    outputs: dict[int, Any]
    spreads: dict[int, dict[str, Any]]
    counts: dict[int, dict[str, int]]
    items: dict[int, Any]
    lists: dict[int, dict[str, list[Any]]]
    errors: dict[int, Any]
    lost: dict[int, dict[str, frozenset[str]]]
    ended: dict[tuple[str, str], int]
    losses: set[str]
    decided: set[tuple[str, str]]


def load(
    connection: Connection,
    execution_id: UUID,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[tuple[str, str]] = (),
    spreads: Sequence[Spread] = (),
    counts: Sequence[Spread] = (),
    items: Sequence[tuple[str, str, int]] = (),
    lists: Sequence[Spread] = (),
    errors: Sequence[tuple[str, str]] = (),
    lost: Sequence[tuple[Spread, Collection[str]]] = (),
    ended: Sequence[tuple[str, str]] = (),
    losses: Sequence[tuple[str, Collection[str]]] = (),
    decided: Sequence[tuple[str, str]] = (),
) -> Loaded:
    """Fetch values of one execution: inputs, outputs of succeeded step runs, items.

    Args:
        inputs: parameters of the flow; an input of 1 MiB is not fetched for the sake of a flag.
        outputs: (name, scope) of single step runs.
        items: (each, scope, index) of single items.
        errors: (name, scope) of step runs that failed.
        lost: eaches of which it is asked what items they do without, with the names of the nodes in
            these.
        ended: (name, scope) of step runs, each with its place in the order of ends if it succeeded.
        losses: items of which it is asked whether their each does without them: their scope, and
            the names of the nodes in them.
        decided: (name, scope) of merges of which it is asked whether they have what they wanted.
    """
    asked = {
        "input": inputs,
        "output": outputs,
        "spread": spreads,
        "count": counts,
        "item": items,
        "list": lists,
        "error": errors,
        "lost": lost,
        "ended": ended,
        "loss": losses,
        "decided": decided,
    }
    query = "UNION ALL".join(_PARTS[kind] for kind, wanted in asked.items() if wanted)
    loaded = Loaded(
        input={},
        outputs={},
        spreads={},
        counts={},
        items={},
        lists={},
        errors={},
        lost={},
        ended={},
        losses=set(),
        decided=set(),
    )
    if not query:
        return loaded
    rows = connection.execute(
        query,
        {
            "execution": execution_id,
            "input_params": list(inputs),
            "output_names": [name for name, _ in outputs],
            "output_scopes": [scope for _, scope in outputs],
            **_asked("spread", spreads),
            **_asked("count", counts),
            **_asked("list", lists),
            "item_names": [name for name, _, _ in items],
            "item_scopes": [scope for _, scope, _ in items],
            "item_indexes": [index for _, _, index in items],
            "error_names": [name for name, _ in errors],
            "error_scopes": [scope for _, scope in errors],
            **_asked("lost", [spread for spread, _ in lost]),
            "lost_of": [i + 1 for i, (_, inner) in enumerate(lost) for _ in inner],
            "lost_inner": [name for _, inner in lost for name in inner],
            "ended_names": [name for name, _ in ended],
            "ended_scopes": [scope for _, scope in ended],
            "loss_scopes": [scope for scope, inner in losses for _ in inner],
            "loss_names": [name for _, inner in losses for name in inner],
            "decided_names": [name for name, _ in decided],
            "decided_scopes": [scope for _, scope in decided],
        },
    ).fetchall()
    for kind, ordinal, scope, value in rows:  # of an input, the parameter stands for the scope
        i = ordinal - 1
        match kind:
            case "input":
                loaded.input[scope] = value
            case "output":
                loaded.outputs[i] = value
            case "spread":
                loaded.spreads.setdefault(i, {})[scope] = value
            case "count":
                loaded.counts.setdefault(i, {})[scope] = value
            case "item":
                loaded.items[i] = value
            case "list":
                loaded.lists.setdefault(i, {})[scope] = value or []
            case "error":
                loaded.errors[i] = value
            case "lost":
                loaded.lost.setdefault(i, {})[scope] = frozenset(value)
            case "ended":
                loaded.ended[value, scope] = ordinal
            case "loss":
                loaded.losses.add(scope)
            case "decided":
                loaded.decided.add((value, scope))
    return loaded


def _asked(kind: str, spreads: Sequence[Spread]) -> dict[str, list[str]]:
    return {
        f"{kind}_names": [spread.name for spread in spreads],
        f"{kind}_prefixes": [spread.prefix for spread in spreads],
        f"{kind}_patterns": [spread.pattern for spread in spreads],
    }
