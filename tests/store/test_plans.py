"""The plans of the moves, as PostgreSQL ran them: by an index, reading no more rows than are meant.

`auto_explain` tells the plan of every statement, those inside functions too, so what is checked is
what a worker runs and not a copy of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.records import Claimed, StepAddress, StepMessage
from orchestrator.store import events, executions, expiry, incarnations, moves, sweeping, values
from orchestrator.store.database import Connection, Database
from tests.services.databases import Databases

LEASE, SOON = timedelta(seconds=30), timedelta(seconds=5)
HOLDER = UUID(int=7)
TABLES = {
    *("keys", "executions", "execution_state", "steps", "payloads", "journal", "events"),
    *("inbox", "replies"),
}

# 3,000 ended executions of three steps, 300 open ones of two, one fan-out over 500 items; all have
# deadlines, of which 200 have passed, 100 of them of ended executions.
_SEED = """
INSERT INTO orchestrator.definitions (name, version, fingerprint, graph, options)
    VALUES ('flow', '1', '0', '{}', '{}');
INSERT INTO orchestrator.workers
       (id, host, pid, born_at, started_at, beat_at, queues, functions, claims)
    SELECT CASE WHEN n = 1 THEN '00000000-0000-0000-0000-000000000007' ELSE gen_random_uuid() END,
           'host', n, 0, now(), now(), '{q}', '{}', '{"q": ["2020-01-01", "2020-01-01"]}'
      FROM generate_series(1, 20) n;
CREATE TEMPORARY TABLE made AS
    SELECT n, orchestrator.uuid7_at(now() - make_interval(mins => 5000 - n)) AS id,
           now() - make_interval(mins => 5000 - n) AS at
      FROM generate_series(1, 3301) n;
INSERT INTO orchestrator.keys SELECT 'flow', 'k' || n, id, '0' FROM made;
INSERT INTO orchestrator.executions
       (id, created_at, finished_at, definition_id, started, finished, position, status)
    SELECT id, at, CASE WHEN n <= 3000 THEN at END, 1, CASE WHEN n = 3301 THEN 501 ELSE 3 END,
           CASE WHEN n <= 3000 THEN 3 ELSE 1 END, 5,
           CASE WHEN n <= 3000 THEN 'succeeded' ELSE 'running' END
      FROM made;
INSERT INTO orchestrator.execution_state SELECT id, 'k' || n, '{"n": 1}' FROM made;
INSERT INTO orchestrator.journal (execution_id, at, position, kind)
    SELECT id, at, 1, 'started' FROM made;
INSERT INTO orchestrator.steps
       (execution_id, name, status, queue, dispatch, sent, token, ended_no, output)
    SELECT id, name, 'succeeded', 'q', 1, 1, 1, 2, '{"a": 1}'
      FROM made, unnest('{a,b,c}'::text[]) name WHERE n <= 3000 OR name = 'a' AND n <= 3300;
INSERT INTO orchestrator.steps
       (execution_id, name, status, queue, dispatch, sent, token, holder, lease_until,
        dispatched_at, attend_at)
    SELECT id, 'b', CASE WHEN n <= 3100 THEN 'ready' ELSE 'running' END, 'q', 1,
           (n > 3050)::int, (n > 3100)::int,
           CASE WHEN n > 3100 THEN '00000000-0000-0000-0000-000000000007'::uuid END,
           CASE WHEN n > 3100 THEN now() + make_interval(secs => n - 3200) END,
           now() - interval '1 h',
           now() + make_interval(secs => n - 3200)
      FROM made WHERE n > 3000 AND n <= 3300;
INSERT INTO orchestrator.steps
       (execution_id, name, status, queue, token, wanted, live, items, next)
    SELECT id, 'each', 'waiting', 'q', 1, 500, 200, 500, 300 FROM made WHERE n = 3301;
INSERT INTO orchestrator.steps
       (execution_id, name, scope, status, queue, dispatch, sent, token, holder, lease_until,
        attend_at, ended_no, output)
    SELECT id, 'item', 'each[' || i || ']',
           CASE WHEN i < 200 THEN 'succeeded' WHEN i < 250 THEN 'running' ELSE 'ready' END, 'q', 1,
           1, (i < 250)::int,
           CASE WHEN i < 250 THEN '00000000-0000-0000-0000-000000000007'::uuid END,
           CASE WHEN i < 250 THEN now() + interval '1 h' END,
           CASE WHEN i >= 200 THEN now() + interval '1 h' END,
           CASE WHEN i < 200 THEN i + 1 END, CASE WHEN i < 200 THEN '1'::jsonb END
      FROM made, generate_series(0, 299) i WHERE n = 3301;
INSERT INTO orchestrator.payloads (execution_id, name, scope, run, kind, part, value)
    SELECT id, 'a', '', 0, 'output', 0, '1'::jsonb FROM made WHERE n <= 3000
    UNION ALL
    SELECT id, 'each', '', 0, 'items', part, '[1, 2]' FROM made, generate_series(0, 8, 2) part
     WHERE n = 3301;
INSERT INTO orchestrator.events (execution_id, kind, source, at, due_at)
    SELECT id, 'deadline', id, at, now() + make_interval(hours => CASE
               WHEN n <= 100 OR n > 3201 THEN -1 ELSE n END)
      FROM made;
"""


@dataclass(frozen=True)
class Scan:
    table: str
    kind: str
    index: str | None
    condition: str | None
    rows: int

    @property
    def by_index(self) -> bool:
        ordered = self.index == "steps_attend_at"  # a partial index read in its order
        return "Index" in self.kind and (self.condition is not None or ordered)


@dataclass
class Seeded:
    """The database, and executions of each kind."""

    url: str
    ended: UUID
    ready: UUID
    running: UUID
    fan: UUID
    plans: list[dict[str, Any]] = field(default_factory=list)

    @contextmanager
    def explained(self, mode: str) -> Iterator[Connection]:
        """A hot connection whose plans are collected; what it changes is rolled back."""
        database = Database(self.url)
        connection = database.hot()
        try:
            connection.execute("LOAD 'auto_explain'")
        except psycopg.Error as error:
            pytest.skip(f"NOT RUN: no auto_explain on this server: {error}")
        connection.add_notice_handler(self._collect)
        connection.execute(f"SET plan_cache_mode = {mode}")
        with connection.transaction(force_rollback=True):
            for name, value in {
                "log_min_duration": "0",
                "log_nested_statements": "on",
                "log_analyze": "on",
                "log_timing": "off",
                "log_format": "json",
                "log_level": "notice",
            }.items():
                connection.execute(f"SET LOCAL auto_explain.{name} = {value}")
            connection.execute("SET LOCAL client_min_messages = notice")
            self.plans.clear()
            yield connection
        database.close()

    def _collect(self, notice: psycopg.errors.Diagnostic) -> None:
        text = notice.message_primary or ""
        if "plan:\n" in text:
            self.plans.append(json.loads(text.split("plan:\n", 1)[1]))

    def scans(self) -> list[Scan]:
        return [scan for plan in self.plans for scan in _scans(plan["Plan"])]


def _scans(node: dict[str, Any]) -> Iterator[Scan]:
    table = node.get("Relation Name")
    children = node.get("Plans", [])
    if table in TABLES and "Scan" in node["Node Type"]:
        inner = next((c for c in children if c["Node Type"] == "Bitmap Index Scan"), node)
        removed = node.get("Rows Removed by Filter", 0) + node.get(
            "Rows Removed by Index Recheck", 0
        )
        yield Scan(
            table=table,
            kind=inner["Node Type"],
            index=inner.get("Index Name"),
            condition=inner.get("Index Cond"),
            rows=(node["Actual Rows"] + removed) * node["Actual Loops"],
        )
    for child in children:
        yield from _scans(child)


@contextmanager
def filled(databases: Databases, more: LiteralString = "") -> Iterator[Seeded]:
    """A database with many executions, and what ``more`` puts beside them."""
    with databases.migrated() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_SEED)
            connection.execute(more)
            connection.execute("ANALYZE")
            ids = [
                row[0]
                for n in (10, 3010, 3250, 3301)
                for row in connection.execute("SELECT id FROM made WHERE n = %s", (n,))
            ]
        yield Seeded(url, *ids)


@pytest.fixture(scope="module")
def seeded(databases: Databases) -> Iterator[Seeded]:
    with filled(databases) as made:
        yield made


def step(execution_id: UUID, name: str = "b", scope: str = "") -> StepAddress:
    return StepAddress(execution_id, name, scope, 0)


def held(address: StepAddress) -> Claimed:
    facts: dict[str, Any] = dict.fromkeys(Claimed.__dataclass_fields__)
    return Claimed(**facts | {"address": address, "token": 1, "attempt": 1, "deaths": 0})


def message(address: StepAddress) -> StepMessage:
    return StepMessage(address=address, definition_id=1, task="flow.b", number=1, queue="q")


def record_one(connection: Connection, address: StepAddress, *, inline: bool, large: bool) -> None:
    answer = moves.record_step(
        connection,
        held(address),
        nonce=1,
        holder=uuid4(),
        output="1",
        large=large,
        follows=("c", "", "q"),
        inline=inline,
        head=address,
        lease=LEASE,
        unsent_after=SOON,
    )
    assert answer.kind == "recorded"


def record(connection: Connection, address: StepAddress, **parts: Any) -> None:
    outcome = {
        "name": address.name,
        "scope": address.scope,
        "run": 0,
        "token": 1,
        "status": "succeeded",
        "output": 1,
    }
    answer = moves.record_steps(
        connection,
        address.execution_id,
        expected=("running", False, 0),
        nonce=1,
        holder=HOLDER,
        outcomes=[outcome | parts.pop("outcome", {})],
        head=address,
        lease=LEASE,
        unsent_after=SOON,
        **parts,
    )
    assert answer.kind == "recorded"


def order(name: str, *, wanted: int = 1) -> dict[str, Any]:
    return {
        "cause": 0,
        "name": name,
        "scope": "",
        "run": 0,
        "wanted": wanted,
        "arrivals": 1,
        "queue": "q",
    }


def attend(connection: Connection, _: Seeded) -> None:
    looked = sweeping.attend(
        connection,
        50,
        unsent_after=SOON,
        lost_after=LEASE,
        lost_idle_after=LEASE,
        lease=LEASE,
        steady=True,
    )
    assert len(looked) == 50


def expire(connection: Connection, _: Seeded) -> None:
    keep = timedelta(minutes=4900)
    assert expiry.expire_executions(connection, keep=keep, key_keep=keep, limit=20) == 20


ARRIVAL = {
    "cause": 0,
    "name": "each",
    "scope": "",
    "run": 0,
    "arrivals": 1,
    "per_item": 1,
    "firsts": [{"name": "item", "queue": "q"}],
}
EACH = values.Spread(name="each", prefix="", pattern="^$")
SPREAD = values.Spread(name="item", prefix="each[", pattern=r"^each\[\d+\]$")

#: What is done, and how many rows of one table it may look at.
ACTS: dict[str, tuple[Callable[[Connection, Seeded], Any], int]] = {
    "start": (
        lambda c, _: moves.start_execution(
            c,
            execution_id=uuid4(),
            flow="flow",
            definition_id=1,
            key="new",
            document="{}",
            input_hash="0",
            orders=[("a", "", "q")],
            unsent_after=SOON,
            actor=None,
        ),
        0,
    ),
    "start on a key that is taken": (
        lambda c, _: moves.start_execution(
            c,
            execution_id=uuid4(),
            flow="flow",
            definition_id=1,
            key="k7",
            document="{}",
            input_hash="0",
            orders=[("a", "", "q")],
            unsent_after=SOON,
            actor=None,
        ),
        1,
    ),
    "start with a deadline": (
        lambda c, _: moves.start_execution(
            c,
            execution_id=uuid4(),
            flow="flow",
            definition_id=1,
            key="new",
            document="{}",
            input_hash="0",
            orders=[("a", "", "q")],
            unsent_after=SOON,
            actor=None,
            deadline=timedelta(days=2),
        ),
        0,
    ),
    "take the event that is due": (lambda c, _: events.take_between(c), 2),
    "drop deadlines of ended executions": (lambda c, _: events.drop_deadlines(c, limit=100), 400),
    "note a step's deadline": (
        lambda c, s: moves.begin_deadline(c, held(step(s.running)), LEASE),
        1,
    ),
    "compare with a step's deadline": (
        lambda c, s: moves.is_too_late(c, held(step(s.running)), delay=SOON, deadline=LEASE),
        1,
    ),
    "read a deadline": (lambda c, s: events.deadline(c, s.running), 1),
    "read whether a deadline passed": (lambda c, s: events.passed_deadline(c, s.ended), 1),
    "claim": (
        lambda c, s: moves.claim(c, [(step(s.ready), 1)], holder=HOLDER, lease=LEASE, nonce=1),
        2,
    ),
    "claim of fifty": (
        lambda c, s: moves.claim(
            c,
            [(step(s.fan, "item", f"each[{i}]"), 1) for i in range(250, 300)],
            holder=HOLDER,
            lease=LEASE,
            nonce=1,
        ),
        100,
    ),
    "record inline": (lambda c, s: record_one(c, step(s.running), inline=True, large=False), 1),
    "record a hop": (lambda c, s: record_one(c, step(s.running), inline=False, large=True), 1),
    "record a fork": (
        lambda c, s: record(c, step(s.running), orders=[order("c"), order("d")]),
        2,
    ),
    "record into a join": (
        lambda c, s: record(c, step(s.running), orders=[order("c", wanted=2)]),
        2,
    ),
    "record the end of an item": (
        lambda c, s: record(c, step(s.fan, "item", "each[240]"), arrivals=[ARRIVAL]),
        3,
    ),
    "record a failure": (
        lambda c, s: record(
            c, step(s.running), outcome={"status": "failed"}, close="failing", cause="b"
        ),
        8,  # its two rows, four times
    ),
    "recall": (lambda c, s: moves.recall(c, held(step(s.running)), 1), 2),
    "mark": (lambda c, s: moves.mark_sent(c, [message(step(s.ready))]), 2),
    "renew": (lambda c, s: moves.renew(c, [(step(s.running), 1)], lease=LEASE), 2),
    "lock": (lambda c, s: executions.lock(c, s.running), 1),
    "rows of an execution": (lambda c, s: executions.step_rows(c, s.running), 2),
    "resume": (lambda c, s: executions.dispatch_ready(c, s.ready, unsent_after=SOON), 4),
    "retry": (lambda c, s: executions.reopen_steps(c, s.ready), 6),
    "supersede": (lambda c, s: executions.supersede(c, s.ready, [step(s.ready)]), 6),
    "load an output": (
        lambda c, s: values.load(c, s.ended, inputs=["n"], outputs=[("b", "")]),
        1,
    ),
    "load outputs of items": (
        lambda c, s: values.load(c, s.fan, spreads=[SPREAD]),
        300,
    ),
    "load a count": (
        lambda c, s: values.load(c, s.fan, counts=[EACH]),
        1,
    ),
    "load an item": (
        lambda c, s: values.load(c, s.fan, items=[("each", "", 3)]),
        2,  # the newest run, and the part
    ),
    "load a list": (
        lambda c, s: values.load(c, s.fan, lists=[EACH]),
        10,
    ),
    "sweep": (attend, 150),
    "when to sweep next": (lambda c, _: sweeping.next_due(c), 1),
    "strand": (lambda c, s: sweeping.strand(c, step(s.running)), 3),
    "presume lost": (
        lambda c, _: sweeping.presume_lost(c, ["q"], datetime(2020, 1, 1, tzinfo=UTC)),
        400,
    ),
    "end of an incarnation": (
        lambda c, _: incarnations.end(c, HOLDER, died=True, reason="test"),
        2000,
    ),
    "hand back": (lambda c, s: incarnations.hand_back(c, HOLDER, [step(s.running)]), 2),
    "postpone": (lambda c, s: incarnations.postpone(c, step(s.ready), delay=SOON, error={}), 1),
    "unpark": (lambda c, _: incarnations.unpark(c, ["f"]), 400),
    "expire": (expire, 140),
    "expire keys": (lambda c, _: expiry.expire_keys(c, limit=10), 0),
}


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("act", ACTS)
def test_it_reads_by_an_index_and_only_what_it_needs(seeded: Seeded, act: str, mode: str) -> None:
    do, most = ACTS[act]

    with seeded.explained(mode) as connection:
        do(connection, seeded)

    scans = seeded.scans()
    assert seeded.plans, "no plan was told"
    assert [scan for scan in scans if not scan.by_index] == []
    read = {table: sum(s.rows for s in scans if s.table == table) for table in TABLES}
    assert {table: rows for table, rows in read.items() if rows > most} == {}


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_a_sweep_finds_what_is_due_by_the_one_index_for_it(seeded: Seeded, mode: str) -> None:
    with seeded.explained(mode) as connection:
        attend(connection, seeded)

    found = [scan for scan in seeded.scans() if scan.index == "steps_attend_at"]
    assert [(scan.kind, scan.rows) for scan in found] == [("Index Scan", 50)]
    assert found[0].condition is not None


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_events_are_taken_in_the_order_in_which_they_became_due(seeded: Seeded, mode: str) -> None:
    with seeded.explained(mode) as connection:
        taken = events.take_between(connection)

    assert taken is not None
    found = [scan for scan in seeded.scans() if scan.index == "events_between"]
    assert [(scan.kind, scan.rows) for scan in found] == [("Index Scan", 1)]
    assert not [node for plan in seeded.plans for node in _nodes(plan["Plan"], "Sort")]


def test_nothing_is_claimed_in_another_order_than_that_of_the_keys(seeded: Seeded) -> None:
    """Locks are taken above the sort, so two claims of the same rows wait and do not deadlock."""
    with seeded.explained("force_generic_plan") as connection:
        wanted = [(step(seeded.fan, "item", f"each[{i}]"), 1) for i in (299, 250, 275)]
        moves.claim(connection, wanted, holder=uuid4(), lease=LEASE, nonce=1)

    [locking] = [node for plan in seeded.plans for node in _nodes(plan["Plan"], "LockRows")]
    assert locking["Plans"][0]["Node Type"] == "Sort"


def _nodes(node: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    if node["Node Type"] == kind:
        yield node
    for child in node.get("Plans", []):
        yield from _nodes(child, kind)
