"""The plans of bulk starts, of taking foreign messages, and of answering them: by keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.records import Start
from orchestrator.store import inbox, replies, starts
from orchestrator.store.database import Connection
from orchestrator.store.replies import WantedReply
from tests.services.databases import Databases
from tests.store.test_plans import SOON, TABLES, Seeded, filled

SESSION, OTHER = UUID(int=21), UUID(int=22)

# 5,000 messages with ids, the first 200 taken long ago; 300 of two sessions without ids, of which
# 20 say the same; 2,000 replies that were given, 50 that are due, 250 of executions that still run.
_TAKEN = f"""
INSERT INTO orchestrator.inbox (queue, kind, message_id, content, taken_at)
    SELECT 'q', 'message', 'm' || n, 'c' || n,
           now() - make_interval(days => CASE WHEN n <= 200 THEN 40 ELSE 1 END)
      FROM generate_series(1, 5000) n;
INSERT INTO orchestrator.inbox (queue, kind, message_id, content, taken_at, delivery, holder)
    SELECT 'q', 'none', n, CASE WHEN n <= 20 THEN 'same' ELSE 'c' || n END, now(),
           lpad(n::text, 32, '0')::uuid,
           CASE WHEN n % 2 = 0 THEN '{SESSION}' ELSE '{OTHER}' END::uuid
      FROM generate_series(1, 300) n;
INSERT INTO orchestrator.replies (execution_id, reply_to, correlation_id, attend_at, answered_at)
    SELECT id, 'answers', n, CASE WHEN n > 1950 THEN now() - interval '1 s' END,
           CASE WHEN n <= 1950 THEN now() END
      FROM made WHERE n <= 2000 OR n BETWEEN 3001 AND 3250;
"""


@pytest.fixture(scope="module")
def busy(databases: Databases) -> Iterator[Seeded]:
    with filled(databases, _TAKEN) as made:
        yield made


def start_fifty(connection: Connection, *, taken: int) -> None:
    keys = [f"k{n}" if n < taken else f"new{n}" for n in range(1, 51)]
    answers = starts.start_executions(
        connection,
        flow="flow",
        definition_id=1,
        starts=[
            Start(execution_id=uuid4(), key=key, document="{}", input_hash="0") for key in keys
        ],
        orders=[("a", "", "q"), ("b", "", "q")],
        unsent_after=SOON,
        actor=None,
        deadline=timedelta(days=1),
    )
    assert sum(not answer.created for answer in answers) == max(0, taken - 1)


def key(number: int) -> inbox.Key:
    return ("q", "message", "", f"m{number}")


def wanted(execution_id: UUID, number: int) -> WantedReply:
    return WantedReply(
        execution_id=execution_id, reply_to="answers", correlation_id=str(number), tries=0
    )


def take_in(connection: Connection, _: Seeded) -> None:
    rows = [(key(n), f"c{n}") for n in range(4991, 5011)]
    new = inbox.insert(connection, rows, held={}, holder=None)
    assert len(new) == 10


def forget(connection: Connection, _: Seeded) -> None:
    acknowledged = [("q", f"c{n}", UUID(f"{n:032}")) for n in range(100, 120)]
    assert inbox.forget(connection, SESSION, acknowledged) == 10


def hold(connection: Connection, _: Seeded) -> None:
    inbox.hold(connection, ("q", "none", "", "7"), session=SESSION, delivery=uuid4())


def of_others(connection: Connection, _: Seeded) -> None:
    assert (
        len(inbox.held(connection, "q", "same", session=SESSION, silent_after=timedelta(hours=1)))
        == 10
    )


def expire(connection: Connection, _: Seeded) -> None:
    assert inbox.expire(connection, keep=timedelta(days=30), limit=100) == 100


def take_due(connection: Connection, _: Seeded) -> None:
    assert len(replies.take_due(connection, again_after=SOON, limit=20)) == 20


#: What is done, and how many rows of one table it may look at.
ACTS: dict[str, tuple[Callable[[Connection, Seeded], Any], int]] = {
    "start fifty": (lambda c, _: start_fifty(c, taken=0), 0),
    "start fifty of which some are there": (
        lambda c, _: start_fifty(c, taken=6),
        55,  # its own keys, to tell which are not, and the five of others
    ),
    "which executions are there": (lambda c, s: starts.existing(c, [s.ended, uuid4()]), 1),
    "take messages in": (take_in, 0),
    "compare contents": (lambda c, _: inbox.contents(c, [key(n) for n in range(10, 30)]), 20),
    "note executions": (
        lambda c, s: inbox.set_executions(c, {key(n): s.ready for n in range(10, 30)}),
        20,
    ),
    "what others hold": (of_others, 20),
    "of which delivery": (lambda c, _: inbox.of_delivery(c, "q", "same", UUID(int=0x12)), 20),
    "hold again": (hold, 1),
    "forget what is acknowledged": (forget, 20),
    "an expired key": (lambda c, _: inbox.expired_key(c, "flow", "k7"), 1),
    "expire messages": (expire, 200),  # looked up, and deleted by their places
    "want a reply": (lambda c, s: replies.want(c, s.fan, "answers", "1"), 0),
    "take what is due": (take_due, 300 + 20),  # those of open executions are passed over
    "whether anybody waits": (lambda c, _: replies.are_open(c), 1),
    "note that it is answered": (lambda c, s: replies.set_answered(c, [wanted(s.ready, 3010)]), 1),
    "put back": (lambda c, s: replies.put_back(c, [wanted(s.ready, 3010)]), 1),
    "note a problem": (
        lambda c, s: replies.set_problem(c, wanted(s.ready, 3010), "gone", give_up=False),
        1,
    ),
    "want it again": (lambda c, s: replies.want_again(c, s.ended), 1),
}


@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("act", ACTS)
def test_it_finds_starts_messages_and_replies_by_their_keys(
    busy: Seeded, act: str, mode: str
) -> None:
    do, most = ACTS[act]

    with busy.explained(mode) as connection:
        do(connection, busy)

    scans = busy.scans()
    assert busy.plans, "no plan was told"
    whole = [scan for scan in scans if not scan.by_index and scan.index != "replies_attend_at"]
    by_place = [scan for scan in whole if scan.kind == "Tid Scan"]
    assert [scan for scan in whole if scan not in by_place] == []
    read = {table: sum(s.rows for s in scans if s.table == table) for table in TABLES}
    assert {table: rows for table, rows in read.items() if rows > most} == {}
