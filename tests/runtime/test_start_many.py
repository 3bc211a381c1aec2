"""Bulk starts: one statement per thousand, answers in input order, safe to repeat."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from psycopg.rows import dict_row

from orchestrator import Conflict, InvalidInput, NotFound, flow
from orchestrator.runtime import start, sweeps
from tests.runtime import flows
from tests.runtime.lab import Lab


@flow
def with_two(amount: int, currency: str) -> int:
    return flows.first(amount)


@flow
def with_a_default(amount: int, currency: str = "EUR") -> int:
    return flows.first(amount)


def rows(lab: Lab, table: str) -> int:
    found = lab.database.hot().execute(f"SELECT count(*) FROM orchestrator.{table}").fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.req("E12")
def test_many_executions_start_in_the_order_of_their_inputs(lab: Lab) -> None:
    handles = lab.client.start_many(flows.single, range(1, 6))

    assert [handle.created for handle in handles] == [True] * 5
    assert [message.address.execution_id for message in lab.mail] == [
        handle.execution_id for handle in handles
    ]
    lab.drain()
    assert [handle.result(0) for handle in handles] == [2, 3, 4, 5, 6]
    for handle in handles:
        lab.sound(handle)


def test_a_bulk_start_leaves_the_rows_that_a_single_one_leaves(lab: Lab) -> None:
    single = lab.start(flows.single, 1, key="a")
    [bulk] = lab.client.start_many(flows.single, [1], keys=["b"])

    def written(table: str, column: str, handle: Any) -> list[dict[str, Any]]:
        with lab.database.hot().cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(
                f"SELECT * FROM orchestrator.{table} WHERE {column} = %s", [handle.execution_id]
            ).fetchall()
        return [
            {
                name: value is not None if name.endswith("_at") or name == "at" else value
                for name, value in row.items()
                if name not in {"id", "execution_id", "key"}
            }
            for row in found
        ]

    tables = [("executions", "id"), *((t, "execution_id") for t in _OF_AN_EXECUTION)]
    for table, column in tables:
        assert written(table, column, bulk) == written(table, column, single), table
    one, two = lab.row(single, "first"), lab.row(bulk, "first")
    assert one["attend_at"] - one["dispatched_at"] == two["attend_at"] - two["dispatched_at"]
    first, second = lab.mail
    assert (first.task, first.number, first.queue) == (second.task, second.number, second.queue)
    assert (first.label, second.label) == ("a", "b")


_OF_AN_EXECUTION = ("steps", "execution_state", "journal", "keys")


@pytest.mark.req("E10")
def test_starting_again_finds_what_is_there_and_starts_the_rest(lab: Lab) -> None:
    before = lab.client.start_many(flows.single, [1, 2], keys=["1", "2"])
    lab.mail.clear()

    again = lab.client.start_many(flows.single, [0, 1, 2, 3], keys=["0", "1", "2", "3"])

    assert [handle.created for handle in again] == [True, False, False, True]
    assert [handle.id for handle in again[1:3]] == [handle.id for handle in before]
    assert len(lab.mail) == 2
    assert rows(lab, "executions") == 4


def test_a_key_that_is_there_twice_is_one_execution(lab: Lab) -> None:
    one, other, two, free, free_too = lab.client.start_many(
        flows.single, [1, 2, 1, 3, 3], keys=["a", "b", "a", None, None]
    )

    assert one.id == two.id
    assert (one.created, two.created) == (True, False)
    assert len({one.id, other.id, free.id, free_too.id}) == 4
    assert rows(lab, "executions") == len(lab.mail) == 4


def test_one_key_for_two_inputs_of_a_call_is_refused_with_both(lab: Lab) -> None:
    with pytest.raises(Conflict, match=r"key 'a' .* inputs 1 and 2, which differ"):
        lab.client.start_many(flows.single, [0, 1, 2], keys=["z", "a", "a"])

    assert rows(lab, "executions") == rows(lab, "keys") == 0


def test_a_conflict_leaves_nothing_of_its_transaction(lab: Lab) -> None:
    held = lab.start(flows.single, 7, key="b")

    with pytest.raises(Conflict, match=f"'b' .* {held.id} with another input"):
        lab.client.start_many(flows.single, [1, 2, 3], keys=["a", "b", "c"])

    assert rows(lab, "executions") == rows(lab, "keys") == 1
    assert lab.client.start_many(flows.single, [1, 7], keys=["a", "b"])[0].created


def test_many_conflicts_are_told_by_the_first_few(lab: Lab) -> None:
    keys = list("abcdef")
    lab.client.start_many(flows.single, range(6), keys=keys)

    with pytest.raises(Conflict, match=r"'a' .*'b' .*'c' .*; and 3 more"):
        lab.client.start_many(flows.single, range(1, 7), keys=keys)


@pytest.mark.req("E14")
def test_the_key_of_an_expired_execution_is_refused(lab: Lab) -> None:
    lab.start(flows.single, 1, key="old")
    lab.drain()
    lab.advance(days=8)
    assert lab.database.run(sweeps.expire_completed, lab.settings) == 1

    with pytest.raises(Conflict, match=r"'old' .* finished and expired"):
        lab.client.start_many(flows.single, [2, 1], keys=["new", "old"])

    assert rows(lab, "executions") == 0


def test_every_input_is_checked_before_the_first_is_stored(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match=r"input 2: flow 'single', parameter 'n'"):
        lab.client.start_many(flows.single, [1, 2, "many", 4])
    with pytest.raises(InvalidInput, match="2 inputs of flow 'single' and 1 keys"):
        lab.client.start_many(flows.single, [1, 2], keys=["a"])
    with pytest.raises(InvalidInput, match="input 1: a key has 1 to 500 characters"):
        lab.client.start_many(flows.single, [1, 2], keys=["a", ""])

    assert rows(lab, "executions") == 0


def test_inputs_of_several_parameters_are_tuples(lab: Lab) -> None:
    handles = lab.client.start_many(with_two, [(1, "EUR"), (2, "USD")])
    handles += lab.client.start_many(with_a_default, [3])

    worker = lab.worker()
    lab.drain(worker)

    assert [handle.result(0) for handle in handles] == [2, 3, 4]
    with pytest.raises(
        InvalidInput, match="input 0 of flow 'with_two' is no tuple but a int: it needs 2"
    ):
        lab.client.start_many(with_two, [1])  # type: ignore[list-item]  # refused at run time too


def test_more_than_a_transaction_holds_is_started_in_several(lab: Lab) -> None:
    handles = lab.client.start_many(flows.single, range(2_001), keys=map(str, range(2_001)))

    assert len({handle.id for handle in handles}) == rows(lab, "executions") == 2_001
    assert len(lab.mail) == 2_001
    again = lab.client.start_many(flows.single, range(2_001), keys=map(str, range(2_001)))
    assert [handle.id for handle in again] == [handle.id for handle in handles]
    assert not any(handle.created for handle in again)


def test_nothing_is_started_of_no_inputs(lab: Lab) -> None:
    assert lab.client.start_many(flows.single, []) == []


def test_a_repetition_whose_first_commit_was_unknown_gets_the_same_answer(lab: Lab) -> None:
    lab.start(flows.single, 2, key="held")
    registered = lab.database.run(lab.catalogue.registered, "single")
    wanted = [
        start.wanted(registered, {"n": n}, lab.settings, key=key)
        for n, key in ((1, "new"), (2, "held"), (3, None))
    ]

    first = lab.database.run(start.start_many, registered, wanted, lab.settings)
    second = lab.database.run(start.start_many, registered, wanted, lab.settings)

    assert first == second
    assert [answer.created for answer in first[0]] == [True, False, True]
    assert rows(lab, "executions") == 3


@pytest.mark.req("E10")
def test_calls_that_share_keys_in_any_order_make_each_execution_once(lab: Lab) -> None:
    barrier = Barrier(4)
    keys = [str(number) for number in range(300)]

    def race(turn: int) -> dict[str | None, tuple[str, bool]]:
        ordered = keys if turn % 2 else keys[::-1]
        barrier.wait()
        handles = lab.client.start_many(flows.single, map(int, ordered), keys=ordered)
        return {key: (one.id, one.created) for key, one in zip(ordered, handles, strict=True)}

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(race, range(4)))

    for key in keys:
        assert len({answer[key][0] for answer in answers}) == 1
        assert sum(answer[key][1] for answer in answers) == 1
    assert rows(lab, "executions") == len(lab.mail) == 300


def test_a_flow_is_started_by_its_name(lab: Lab) -> None:
    assert lab.client.start("single", 1, key="k").created
    assert not lab.client.start_document("single", {"n": 1}, key="k").created
    assert len(lab.client.start_many("single", [1, 2])) == 2
    with pytest.raises(NotFound, match=r"no flow 'singel' .*did you mean 'single'"):
        lab.client.start("singel", 1)
