"""Statements that meet on one row: whoever is first, nothing is lost; and none of them deadlock."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from orchestrator.errors import Conflict, LeaseLost, NotFound
from orchestrator.records import Claimed, StepAddress, StepMessage
from orchestrator.runtime import operate, sweeps
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.messages import of_ordered
from orchestrator.runtime.outcomes import Expanded, Failed, Succeeded
from orchestrator.store import expiry, incarnations, moves
from orchestrator.store.database import Database
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker
from tests.runtime.test_crash_table import attempt_of
from tests.runtime.test_races import at_once

ROUNDS = 6
SECONDS = 8
LEASE = timedelta(seconds=30)


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    flows.ran.clear()
    flows.behave.clear()
    opened = Lab.open(database_url, flows.ALL)
    yield opened
    opened.close()


def rounds(lab: Lab) -> Iterator[int]:
    for number in range(ROUNDS):
        yield number
        lab.retire()


def test_a_mark_and_a_claim_at_once_both_count(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        message, worker = lab.mail.popleft(), lab.worker()

        answers = at_once(lambda: lab.mark(message), lambda: worker.claim(message))

        row = lab.row(handle, "first")
        assert len(answers[1]) == 1
        assert (row["status"], row["sent"], row["claimed"]) == ("running", 1, 1)


def test_a_late_renewal_and_a_takeover_at_once_leave_one_holder(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        slow, heir = lab.worker(), lab.worker()
        [held] = slow.claim(lab.mail.popleft())
        lab.advance(seconds=31)
        [again] = [m for m in lab.sweep().messages if m.address == held.address]
        lab.mail.clear()

        renewed, taken = at_once(
            lambda: slow.database.run(moves.renew, [(held.address, held.token)], lease=LEASE),
            lambda: heir.claim(again, nonce=9),
        )

        row = lab.row(handle, "first")
        assert not isinstance(renewed, Exception), renewed
        assert row["holder"] == (heir.id if taken else slow.id)
        assert row["token"] == held.token + len(taken)
        assert renewed or taken


def test_a_sweep_and_a_record_at_once_want_no_message_for_what_has_ended(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        worker, other = lab.worker(), Database(lab.url)
        [held] = worker.claim(lab.mail.popleft())
        lab.advance(seconds=31)
        other.move_clock(lab.offset)

        recorded, swept = at_once(
            lambda: commit(worker.database, attempt_of(worker, held, 2), lab.settings),
            lambda: other.run(sweeps.redrive, lab.settings, steady=True),
        )

        assert recorded.kind == "settled"
        assert not isinstance(swept, Exception), swept
        row = lab.row(handle, "first")
        assert (row["status"], row["attend_at"], row["message_sent"]) == ("succeeded", None, True)
        lab.sound(handle)
        other.close()


def test_expiry_and_a_retry_at_once_delete_all_or_nothing(lab: Lab) -> None:
    for _ in rounds(lab):
        flows.behave["first"] = _refuse
        handle = lab.start(flows.single, 1)
        lab.drain()
        flows.behave.clear()
        lab.advance(days=100)
        keep, other = timedelta(days=30), Database(lab.url, clock_offset=lab.offset)

        retried, expired = at_once(
            lambda: lab.client.retry(handle.id),
            lambda: other.run(
                expiry.expire_executions, keep=keep, key_keep=timedelta(days=90), limit=10
            ),
        )

        left = {
            table: lab.database.hot()
            .execute(
                f"SELECT count(*) FROM orchestrator.{table} WHERE "
                f"{'id' if table == 'executions' else 'execution_id'} = %s",
                (handle.execution_id,),
            )
            .fetchone()
            for table in ("executions", "steps", "execution_state")
        }
        assert not isinstance(expired, Exception), expired
        assert set(left.values()) in ({(0,)}, {(1,)}), left
        assert isinstance(retried, NotFound) == (left["steps"] == (0,)), retried
        if not isinstance(retried, Exception):
            lab.drain()
            assert handle.result(0) == 2
        other.close()


def _refuse() -> None:
    raise ValueError("no")


def test_a_start_waits_for_the_open_start_of_its_key_and_reads_what_it_made(lab: Lab) -> None:
    for keep in (True, False):
        key, first, second = f"k{keep}", Database(lab.url), Database(lab.url)
        begun = Barrier(2)

        def start(database: Database, key: str = key) -> Any:
            return moves.start_execution(
                database.hot(),
                execution_id=uuid4(),
                flow="single",
                definition_id=1,
                key=key,
                document="{}",
                input_hash="0",
                orders=[("first", "", "q")],
                unsent_after=LEASE,
                actor=None,
            )

        def hold(
            start: Callable[..., Any] = start,
            first: Database = first,
            begun: Barrier = begun,
            keep: bool = keep,
        ) -> Any:
            with first.hot().transaction(force_rollback=not keep):
                made = start(first)
                begun.wait()
                time.sleep(0.2)
            return made

        def follow(
            start: Callable[..., Any] = start, second: Database = second, begun: Barrier = begun
        ) -> Any:
            begun.wait()
            began = time.monotonic()
            return start(second), time.monotonic() - began

        made, (read, waited) = at_once(hold, follow)

        assert waited > 0.1
        assert made.created
        assert read.created == (not keep)
        assert (read.execution_id == made.execution_id) == keep
        first.close()
        second.close()


def test_the_end_of_an_incarnation_and_its_claim_at_once_leave_no_step_unwatched(lab: Lab) -> None:
    for _ in rounds(lab):
        handle = lab.start(flows.single, 1)
        doomed, heir = lab.worker(), lab.worker()
        message = lab.mail.popleft()

        at_once(
            lambda: doomed.claim(message),
            lambda: lab.database.run(incarnations.end, doomed.id, died=True, reason="SIGKILL"),
        )
        lab.advance(seconds=61)
        lab.sweep()
        lab.drain(heir)

        assert handle.result(0) == 2
        lab.sound(handle)


@pytest.mark.parametrize("move", ["renew", "claim", "cancel", "hand back"])
def test_a_move_waits_for_its_first_row_before_it_locks_another(lab: Lab, move: str) -> None:
    handle = _busy(lab)
    worker, other = lab.worker(), lab.worker()
    scopes = [f"double[{i}]" for i in range(8)]
    rows = [lab.address(handle, "double", scope) for scope in reversed(scopes)]
    if move != "claim":
        _claim(worker, rows)
    moving: dict[str, Callable[[], Any]] = {
        "renew": lambda: worker.database.run(moves.renew, [(a, 1) for a in rows], lease=LEASE),
        "claim": lambda: _claim(worker, rows),
        "cancel": lambda: lab.client.cancel(handle.id),
        "hand back": lambda: worker.database.run(incarnations.hand_back, worker.id, rows),
    }
    lock = (
        "SELECT 1 FROM orchestrator.steps WHERE execution_id = %s AND name = 'double'"
        " AND scope = %s FOR UPDATE"
    )

    with ThreadPoolExecutor(1) as pool:
        with other.database.hot().transaction():
            other.database.hot().execute("SET LOCAL lock_timeout = '500ms'")
            other.database.hot().execute(lock, (handle.execution_id, scopes[0]))
            moved = pool.submit(moving[move])
            time.sleep(0.3)
            assert not moved.done()
            for scope in scopes[1:]:
                other.database.hot().execute(lock, (handle.execution_id, scope))
        moved.result()


def _claim(worker: Worker, rows: list[StepAddress]) -> None:
    wanted = [(address, 1) for address in rows]
    claimed = worker.database.run(moves.claim, wanted, holder=worker.id, lease=LEASE, nonce=1)
    assert len(claimed) == len(rows)


def test_random_moves_on_a_few_executions_do_not_deadlock(lab: Lab) -> None:
    """Six workers do everything at once to four executions, in bundles of unsorted rows."""
    crew = [lab.worker() for _ in range(6)]
    handles = [_busy(lab) for _ in range(4)]
    before = _deadlocks(lab)
    until = time.monotonic() + SECONDS

    with ThreadPoolExecutor(len(crew)) as pool:
        done = list(pool.map(lambda worker: _hammer(lab, worker, handles, until), crew))

    made: Counter[str] = sum((counts for _, counts in done), Counter())
    assert [error for errors, _ in done for error in errors] == []
    assert set(made) == set(MOVES), "some move was never made"
    time.sleep(1.2)  # sessions tell their counts once a second
    assert _deadlocks(lab) == before
    for handle in handles:
        lab.sound(handle)


#: The moves, and how often each is made.
MOVES = {
    "claim": 8,
    "record": 8,
    "renew": 6,
    "mark": 4,
    "sweep": 4,
    "hand back": 2,
    "end": 1,
    "pause": 1,
    "resume": 2,
    "retry": 2,
    "cancel": 0.5,
}


def _busy(lab: Lab) -> Any:
    """An execution with eight items that are ready at once."""
    handle = lab.start(flows.folder, 8)
    worker = lab.worker()
    for outcome in (Succeeded([1] * 8, "[1,1,1,1,1,1,1,1]"), Expanded([1] * 8)):
        [claimed] = worker.claim(lab.mail.pop(), nonce=secrets.randbits(62))
        attempt = replace(attempt_of(worker, claimed), outcome=outcome, may_continue=_never)
        answer = commit(worker.database, attempt, lab.settings)
        registered = attempt.registered
        lab.post(of_ordered(registered, answer.ordered, None))
    lab.mail.clear()
    return handle


def _never(_name: str, _scope: str) -> bool:
    return False


def _hammer(
    lab: Lab, worker: Worker, handles: list[Any], until: float
) -> tuple[list[str], Counter[str]]:
    """Do random moves; return the errors nobody expects, and how often each move was made."""
    chance = random.Random()
    held: list[Claimed] = []
    errors: list[str] = []
    made: Counter[str] = Counter()
    hot, known, settings = worker.database.hot, lab.catalogue, lab.settings
    while time.monotonic() < until:
        place = chance.randrange(len(handles))
        chosen = handles[place].execution_id
        found = hot().execute(
            "SELECT name, scope, run, dispatch, token FROM orchestrator.steps"
            " WHERE execution_id = %s AND status IN ('ready', 'running')",
            (chosen,),
        )
        rows = [(StepAddress(chosen, *row[:3]), row[3], row[4]) for row in found.fetchall()]
        chance.shuffle(rows)
        move = chance.choices(list(MOVES), list(MOVES.values()))[0]
        try:
            match move:
                case "claim":
                    held += moves.claim(
                        hot(),
                        [(address, number) for address, number, _ in rows],
                        holder=worker.id,
                        lease=timedelta(milliseconds=200),
                        nonce=chance.getrandbits(62),
                    )
                case "record" if held:
                    claimed = held.pop(chance.randrange(len(held)))
                    attempt = attempt_of(worker, claimed, 1)
                    if chance.random() < 0.05:
                        attempt = replace(attempt, outcome=Failed({"kind": "X", "message": "x"}))
                    commit(worker.database, attempt, settings)
                case "renew":
                    pairs = [(address, token) for address, _, token in rows]
                    moves.renew(hot(), pairs, lease=timedelta(milliseconds=200))
                case "mark":
                    moves.mark_sent(
                        hot(),
                        [
                            StepMessage(
                                address=address, definition_id=1, task="t", number=n, queue="q"
                            )
                            for address, n, _ in rows
                        ],
                    )
                case "sweep":
                    sweeps.redrive(hot(), settings, steady=True)
                case "hand back":
                    incarnations.hand_back(hot(), worker.id, [row[0] for row in rows])
                case "end":
                    incarnations.end(hot(), worker.id, died=False, reason="test")
                    hot().execute(
                        "UPDATE orchestrator.workers SET ended_at = NULL WHERE id = %s",
                        (worker.id,),
                    )
                case "pause":
                    operate.pause(hot(), chosen, actor="ann")
                case "resume":
                    operate.resume(hot(), known, chosen, settings, actor="ann")
                case "retry":
                    operate.retry(hot(), known, chosen, settings, actor="ann")
                case "cancel":
                    operate.cancel(hot(), chosen, settings, actor="ann")
                case _:
                    continue
            made[move] += 1
        except (Conflict, LeaseLost):
            made[move] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
            errors.append(f"{move}: {type(error).__name__}: {error}")
    return errors, made


def _deadlocks(lab: Lab) -> int:
    with psycopg.connect(lab.url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return row[0]
