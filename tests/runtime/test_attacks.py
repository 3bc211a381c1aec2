"""Scenarios found by attacking the protocol: each was once lost, stuck, refused or doubled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator import flow
from orchestrator.errors import Conflict, ExecutionFailed, InvalidInput, RetryAfter, TimedOut
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import attempts, operate, queries, start, sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.store import incarnations, moves, values
from orchestrator.store.database import Database, is_transient
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.runtime.test_crash_table import attempt_of

VALUES = [
    *(None, True, 0, -1, 10**30, 10**4000, 0.1, -0.0, 1e16, 5e-324, 1.0),
    *("", "null", "\x00", "\ud800", "é\U0001f600", "'; --", "\\u0000"),
    *([], {}, [None], {"": None}, {"$dict": 1}, {"$type": "x"}, {1: "one"}, (1, (2,)), {3}),
    *(b"\x00", timedelta(days=-1, microseconds=1)),
]


def fail() -> None:
    raise ValueError("no")


def patiently(lab: Lab, *, rounds: int = 12, seconds: float = 35) -> None:
    """Let time pass, sweep and deliver: whatever can still end, ends."""
    worker = lab.worker()
    for _ in range(rounds):
        lab.advance(seconds=seconds)
        lab.sweep()
        lab.drain(worker)


def test_a_step_handed_back_while_its_execution_closes_ends_in_doubt(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.client.cancel(handle.id)
    lab.database.run(attempts.hand_back, worker.id, [claimed.address])
    worker.incarnation.end("handed back")

    patiently(lab)

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    assert lab.row(handle, "first")["error"]["kind"] == "InDoubt"
    lab.sound(handle)


@pytest.mark.parametrize("name", ["single", "chain"])
def test_an_execution_cancelled_though_all_it_began_succeeded_goes_on_by_a_rerun(
    lab: Lab, name: str
) -> None:
    handle = lab.start(next(flow for flow in flows.ALL if flow.name == name), 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    lab.client.cancel(handle.id)
    commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)
    assert handle.view().facts.status is ExecutionStatus.CANCELLED

    lab.client.retry(handle.id, from_steps=["first"])
    lab.sound(handle)
    lab.drain()

    assert handle.result(0) == {"single": 2, "chain": 1}[name]
    lab.sound(handle)


def test_a_cancel_of_a_failing_execution_leaves_it_failing(lab: Lab) -> None:
    handle = lab.start(flows.fork, 1)
    slow, worker = lab.worker(), lab.worker()
    [first] = worker.claim(lab.mail.popleft())
    alone = replace(attempt_of(worker, first, 2), may_continue=lambda _name, _scope: False)
    commit(worker.database, alone, lab.settings)
    lab.advance(seconds=6)
    lab.sweep()
    messages = {message.address.name: message for message in lab.mail}
    [running] = slow.claim(messages["shaky"])
    flows.behave["second"] = fail
    worker.deliver(messages["second"])
    assert handle.view().facts.status is ExecutionStatus.FAILING

    assert lab.client.cancel(handle.id) is False
    commit(slow.database, attempt_of(slow, running, 2), lab.settings)

    assert handle.view().facts.status is ExecutionStatus.FAILED
    flows.behave.clear()
    lab.mail.clear()
    lab.client.retry(handle.id)
    lab.drain()
    assert handle.result(0) == [4, 2]
    lab.sound(handle)


def test_a_step_may_be_tried_more_often_than_a_smallint_counts(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.database.hot().execute("UPDATE orchestrator.steps SET attempt = 32767")

    lab.drain()

    assert handle.result(0) == 2


def test_a_wait_that_the_database_cannot_count_fails_its_step(lab: Lab) -> None:
    def for_ever() -> None:
        raise RetryAfter(timedelta.max)

    flows.behave["first"] = for_ever
    handle = lab.start(flows.single, 1)

    lab.drain()

    with pytest.raises(ExecutionFailed, match="timestamp out of range"):
        handle.result(0)
    lab.sound(handle)


def test_arguments_that_cannot_be_put_together_fail_their_step(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.database.hot().execute("UPDATE orchestrator.execution_state SET input = '[1]'")

    lab.drain()

    with pytest.raises(ExecutionFailed, match=r"first .* failed: "):
        handle.result(0)
    lab.sound(handle)


def test_an_error_that_cannot_tell_its_message_fails_its_step(lab: Lab) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def mute() -> None:
        raise Mute

    flows.behave["first"] = mute
    handle = lab.start(flows.single, 1)

    lab.drain()

    with pytest.raises(ExecutionFailed, match="Mute"):
        handle.result(0)


def test_an_outcome_that_the_database_refuses_fails_its_step(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.database.hot().execute(
        "ALTER TABLE orchestrator.steps ADD CHECK (output IS DISTINCT FROM '2'::jsonb)"
    )

    lab.drain()

    with pytest.raises(ExecutionFailed, match=r"first .* failed: "):
        handle.result(0)
    lab.sound(handle)


@pytest.mark.parametrize("key", [None, "order-7"])
def test_a_start_whose_answer_was_lost_is_one_execution(lab: Lab, key: str | None) -> None:
    lost = []

    def start_and_lose(connection: Any, *args: Any, **kwargs: Any) -> Any:
        answer = start.start(connection, *args, **kwargs)
        if not lost:
            lost.append(answer)
            raise psycopg.OperationalError("the connection is gone")
        return answer

    registered = lab.database.run(lab.catalogue.registered, "single")
    answer, messages = lab.database.run(
        start_and_lose,
        registered,
        {"n": 1},
        lab.settings,
        key=key,
        execution_id=start.new_id(),
    )

    assert lab.database.hot().execute(
        "SELECT count(*) FROM orchestrator.executions"
    ).fetchone() == (1,)
    assert answer == lost[0][0]
    assert messages == lost[0][1]


@pytest.mark.parametrize("state", ["25P03", "25006", "57P05"])
def test_a_transaction_that_the_server_ended_is_run_again(state: str) -> None:
    assert is_transient(psycopg.errors.lookup(state)())


def test_nothing_is_stored_in_the_row_of_its_step_however_small_the_room(open_lab: Any) -> None:
    lab = open_lab(inline_output_bytes=0)
    flows.ran.clear()
    flows.behave.clear()
    handle = lab.start(flows.diamond, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())

    commit(worker.database, attempt_of(worker, claimed, None), lab.settings)

    lab.sound(handle)
    assert lab.row(handle, "first")["status"] == "succeeded"


@pytest.mark.parametrize("key", ["a\x00b", "\ud800"])
def test_a_key_that_no_database_holds_is_refused_as_an_input(lab: Lab, key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        lab.start(flows.single, 1, key=key)


def test_a_key_whose_tombstone_goes_while_it_is_read_is_free(lab: Lab) -> None:
    lab.start(flows.single, 1, key="k")
    lab.database.hot().execute(
        """
        CREATE FUNCTION pg_temp.gone() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN DELETE FROM orchestrator.keys WHERE input_hash <> 'mine'; RETURN NULL; END $$;
        """
    )
    lab.database.hot().execute(
        "CREATE TRIGGER gone AFTER INSERT ON orchestrator.keys EXECUTE FUNCTION pg_temp.gone()"
    )

    answer = lab.database.run(
        moves.start_execution,
        execution_id=start.new_id(),
        flow="single",
        definition_id=1,
        key="k",
        document="{}",
        input_hash="mine",
        orders=[("first", "", "orchestrator")],
        unsent_after=timedelta(seconds=5),
        actor=None,
    )

    assert answer.created
    assert isinstance(answer.execution_id, UUID)


def test_an_orphan_whose_message_met_a_worker_without_its_function_is_offered_again_soon(
    lab: Lab,
) -> None:
    handle = lab.start(flows.single, 1)
    victim, ignorant = lab.worker(), lab.worker(catalogue=Catalogue([]))
    knowing = lab.worker()
    victim.claim(lab.mail.popleft())
    victim.die()
    lab.sweep()
    message = lab.mail.popleft()
    ignorant.deliver(message)
    lab.mark(message)

    lab.advance(seconds=6)
    lab.sweep()
    lab.drain(knowing)

    assert handle.result(0) == 2


def test_a_redelivery_takes_only_what_this_worker_can_run(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    message = lab.mail.popleft()
    victim = lab.worker()
    [claimed] = victim.claim(message)
    commit(victim.database, attempt_of(victim, claimed, 2), lab.settings)
    victim.die()

    @flow(name="only_first")
    def only_first(n: int) -> int:
        return flows.first(n)

    ignorant = lab.worker(catalogue=Catalogue([only_first]))
    ignorant.deliver(message, redelivered=True)
    lab.sweep()
    lab.drain()

    assert handle.result(0) == 1
    assert handle.view().facts.status is ExecutionStatus.SUCCEEDED
    lab.sound(handle)


def test_a_message_that_is_never_confirmed_is_sent_again_at_doubling_distances(lab: Lab) -> None:
    lab.start(flows.single, 1)
    sent_at = []
    for second in range(120):
        lab.advance(seconds=1)
        sent_at += [second] * len(lab.sweep().messages)

    gaps = [later - earlier for earlier, later in pairwise(sent_at)]
    assert gaps == sorted(gaps)
    assert len(sent_at) <= 6


def test_a_process_that_lost_its_session_has_its_lock_again_after_one_beat(lab: Lab) -> None:
    worker = lab.worker()
    lab.database.hot().execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    assert lab.database.run(incarnations.unlocked, [worker.id]) == [worker.id]

    worker.incarnation.tend()

    assert lab.database.run(incarnations.unlocked, [worker.id]) == []


def test_a_rerun_waits_for_a_claim_under_way_and_is_refused(lab: Lab) -> None:
    handle = lab.start(flows.hop, 1)
    worker, operator = lab.worker(), Database(lab.url)
    worker.deliver()
    message = lab.mail.popleft()
    connection = worker.database.hot()

    with ThreadPoolExecutor(1) as pool:
        with connection.transaction():
            assert worker.claim(message)
            rerun = pool.submit(
                operator.run,
                operate.rerun,
                lab.catalogue,
                handle.execution_id,
                [("first", "")],
                lab.settings,
                actor="ann",
            )
            with pytest.raises(TimeoutError):
                rerun.result(timeout=0.3)
        with pytest.raises(Conflict, match="'apart' is running"):
            rerun.result()

    operator.close()
    lab.sound(handle)


def test_the_execution_says_which_graph_runs_not_the_message(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    other = lab.start(flows.single, 1)
    message, others = lab.mail.popleft(), lab.mail.popleft()

    lab.worker().deliver(replace(message, definition_id=others.definition_id))

    assert handle.result(0) == 1
    assert other.view().facts.status is ExecutionStatus.RUNNING


def test_a_result_is_not_read_from_an_execution_that_was_opened_meanwhile(lab: Lab) -> None:
    handle = lab.start(flows.fan, 3)
    lab.drain()
    ended = handle.view().facts
    lab.client.retry(handle.id, from_steps=["numbers"])

    with pytest.raises(Conflict, match="opened again"):
        lab.database.run(queries.result, lab.catalogue, ended)
    with pytest.raises(TimedOut):
        handle.result(0)


def test_a_lease_renewed_after_its_end_takes_a_step_out_of_doubt(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    slow = lab.worker()
    [claimed] = slow.claim(lab.mail.popleft())
    lab.client.cancel(handle.id)
    lab.advance(seconds=31)
    [doubtful] = lab.database.run(sweeps.redrive, lab.settings, steady=True).in_doubt
    slow.database.run(attempts.renew, [(claimed.address, claimed.token)], lab.settings)

    assert lab.database.run(sweeps.close_in_doubt, doubtful, lab.settings) is False
    commit(slow.database, attempt_of(slow, claimed, 2), lab.settings)

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    assert lab.row(handle, "first")["status"] == "succeeded"
    lab.sound(handle)


def test_a_value_is_the_same_inline_from_the_database_and_as_an_item(lab: Lab) -> None:
    handle = lab.start(flows.told, VALUES)
    worker = lab.worker()
    lab.drain(worker)

    inline, items = handle.result(0)

    assert [repr(value) for value in inline] == [repr(value) for value in VALUES]
    assert [repr(value) for value in items] == [repr(value) for value in VALUES]


def test_a_step_fetches_of_the_input_only_the_parameters_that_it_takes(lab: Lab) -> None:
    handle = lab.start(flows.spread, [1, 2])

    loaded = lab.database.run(values.load, handle.execution_id, inputs=["missing", "values"])
    none = lab.database.run(values.load, handle.execution_id, inputs=["missing"])

    assert loaded.input == {"missing": None, "values": [1, 2]}
    assert none.input == {"missing": None}


def test_a_worker_declared_dead_by_mistake_goes_on_as_who_it_is_now(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker, other = lab.worker(), lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    DeathWatch().declare(lab.database.hot(), worker.id, "by mistake")
    worker.incarnation.tend()

    commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)

    assert lab.row(handle, "second")["holder"] == worker.id
    lab.sweep()
    lab.drain(other)
    assert lab.row(handle, "second")["deaths"] == 0


def test_a_claim_whose_answer_was_lost_is_made_again_after_a_hand_back(lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    message = lab.mail.popleft()
    worker = lab.worker()
    [claimed] = worker.claim(message, nonce=7)
    lab.database.run(attempts.hand_back, worker.id, [claimed.address])
    [again] = worker.claim(message, nonce=7)
    assert again.token > claimed.token
    assert lab.row(handle, "first")["holder"] == worker.id
    lab.sound(handle)
