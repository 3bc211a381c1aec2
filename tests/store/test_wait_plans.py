"""The plans of what wakes, loses and is lost: by keys, however wide its execution is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from orchestrator.store import events, values
from orchestrator.store.database import Connection
from tests.services.databases import Databases
from tests.store.test_plans import EACH, SOON, Seeded, filled, record, step

CHILD = UUID(int=9)
AWAKE = events.Awake(paused=False, unsent_after=SOON)

# In the fan-out of 300 ordered items: fifty that are parked, the last one on a child; ten failed
# ones that are done without; a thousand signals for others.
_WAITS = f"""
UPDATE orchestrator.steps SET due_at = '9999-01-01', attend_at = NULL, token = 1
 WHERE name = 'item' AND status = 'ready';
UPDATE orchestrator.steps SET child = '{CHILD}' WHERE scope = 'each[299]';
INSERT INTO orchestrator.execution_state (execution_id, input, parent_id, parent_name, parent_scope,
       parent_run) SELECT '{CHILD}', '{{}}', id, 'item', 'each[299]', 0 FROM made WHERE n = 3301;
UPDATE orchestrator.steps SET status = 'failed', absorbed_by = scope
 WHERE name = 'item' AND scope ~ '^each\\[10[0-9]\\]$';
INSERT INTO orchestrator.events (execution_id, kind, name, data)
    SELECT id, 'signal', 'go', '1' FROM made WHERE n <= 3300;
INSERT INTO orchestrator.events (execution_id, kind, name, data)
    SELECT id, 'signal', CASE WHEN i % 500 = 0 THEN 'go' ELSE 'other' END, '1'
      FROM made, generate_series(1, 1000) i WHERE n = 3301;
INSERT INTO orchestrator.events (execution_id, kind, source, taken_at)
    SELECT id, 'ended', id, now() FROM made WHERE n <= 3300;
INSERT INTO orchestrator.events (execution_id, kind, source)
    SELECT '{CHILD}', 'cancel', id FROM made WHERE n = 3301;
"""


@pytest.fixture(scope="module")
def wide(databases: Databases) -> Iterator[Seeded]:
    with filled(databases, _WAITS) as made:
        yield made


def losers(connection: Connection, seeded: Seeded) -> None:
    below = [{"name": "item", "below": f"each[{index}"} for index in (240, 290)]
    lost = [*below, {"name": "b", "scope": "", "gated": False}]
    record(connection, step(seeded.fan, "item", "each[249]"), losers=lost, cause="first_of")


#: What is done, how many rows it finds, and how many of `steps` it may look at.
ACTS: dict[str, tuple[Callable[[Connection, Seeded], Any], int | None, int]] = {
    "wake one waiter": (
        lambda c, s: events.wake_waiting(c, s.fan, [("item", "each")], AWAKE),
        1,
        301,  # the key is read from its begin
    ),
    "wake what waits in an item": (
        lambda c, s: events.wake_inside(c, s.fan, "each[270]", ["item", "b"], AWAKE),
        1,
        2,
    ),
    "wake a caller": (lambda c, s: events.wake_caller(c, s.fan, CHILD, AWAKE), 1, 2),
    "take a signal": (lambda c, s: events.take_signal(c, s.fan, "go", "b"), 1, 0),
    "count untaken signals": (lambda c, s: [None] * events.untaken(c, s.fan, "go"), 2, 0),
    "withdraw a cancel": (lambda c, s: events.withdraw_cancel(c, CHILD, s.fan), None, 0),
    "take what was told": (lambda c, _: events.take_between(c), None, 0),
    "who ended": (lambda c, s: values.load(c, s.fan, ended=[("item", "each[7]")]).ended, 1, 1),
    "is a merge decided": (
        lambda c, s: values.load(c, s.fan, decided=[("item", "each[7]")]).decided,
        1,
        1,
    ),
    "is an item lost": (
        lambda c, s: values.load(c, s.fan, losses=[("each[105]", {"item", "b"})]).losses,
        1,
        1,
    ),
    "which items are lost": (
        lambda c, s: values.load(c, s.fan, lost=[(EACH, {"item"})]).lost[0][""],
        10,
        301,
    ),
    "an error": (
        lambda c, s: values.load(c, s.fan, errors=[("item", "each[105]")]).errors,
        1,
        1,
    ),
    "losers": (losers, None, 5),
}


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("act", ACTS)
def test_it_finds_by_keys_what_waits_or_is_lost(wide: Seeded, act: str, mode: str) -> None:
    do, finds, most = ACTS[act]

    with wide.explained(mode) as connection:
        found = do(connection, wide)

    assert finds is None or len(found) == finds
    scans = wide.scans()
    assert wide.plans, "no plan was told"
    assert [scan for scan in scans if not scan.by_index] == []
    assert sum(scan.rows for scan in scans if scan.table == "steps") <= most
    read = [
        (node.get("Index Name"), node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for plan in wide.plans
        for node in _of_events(plan["Plan"])
    ]
    assert all(rows <= 2 for _, rows in read), read


def _of_events(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if node.get("Relation Name") == "events" and "Scan" in node["Node Type"]:
        yield node
    for child in node.get("Plans", []):
        yield from _of_events(child)
