"""Taking foreign messages: identity, batches, quarantine. The broker is the test itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.errors import DefinitionError
from orchestrator.runtime import quarantine, start, sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.triggers import Trigger
from tests.runtime import flows
from tests.runtime.foreigners import QUEUE, Consumer, aside, executions, message, request, rows
from tests.runtime.lab import Lab


@pytest.fixture
def consumer(lab: Lab) -> Iterator[Consumer]:
    made = Consumer(lab)
    lab.database.run(lab.catalogue.register)
    yield made
    made.die()


@pytest.fixture
def other(lab: Lab) -> Iterator[Consumer]:
    made = Consumer(lab)
    yield made
    made.die()


# Identity


@pytest.mark.req("E12")
def test_a_message_starts_its_flow_with_its_input_and_key(lab: Lab, consumer: Consumer) -> None:
    taken = consumer.take(message(request(4, key="o-1"), id="m1"))

    [one] = taken.taken
    assert one.outcome == "started"
    lab.drain()
    found = lab.client.find("single", "o-1")
    assert found == one.execution_id
    assert lab.client.wait(found, 0) == 5


@pytest.mark.req("E10")
def test_a_message_delivered_again_with_its_id_starts_nothing(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    first, again = message(id="m1"), message(id="m1", redelivered=True)

    assert consumer.outcomes(first) == ["started"]
    assert other.outcomes(again) == ["repeat"]
    assert consumer.outcomes(message(id="m1")) == ["repeat"]  # published twice
    assert executions(lab) == 1


def test_the_same_id_in_another_queue_or_of_another_program_is_another_message(
    lab: Lab, consumer: Consumer
) -> None:
    batch = [message(id="m"), message(id="m", queue="other"), message(id="m", app_id="shop")]

    assert consumer.outcomes(*batch) == ["started"] * 3


def test_a_header_serves_as_id_where_there_is_no_other(lab: Lab, consumer: Consumer) -> None:
    headers: dict[str, Any] = {"x-idempotency-key": "k" * 400}

    assert consumer.outcomes(message(headers=headers), message(headers=headers)) == [
        "started",
        "repeat",
    ]
    assert consumer.outcomes(message(id="k" * 400)) == ["started"]


def test_an_id_used_for_two_different_messages_is_set_aside_once(
    lab: Lab, consumer: Consumer
) -> None:
    assert consumer.outcomes(message(request(1), id="m")) == ["started"]
    assert consumer.outcomes(message(request(2), id="m")) == ["quarantined"]
    assert consumer.outcomes(message(request(2), id="m")) == ["repeat"]
    assert consumer.outcomes(message(request(3), id="n"), message(request(4), id="n")) == [
        "started",
        "quarantined",
    ]
    assert [reason for reason, _ in aside(lab)] == ["id used twice"] * 2


@pytest.mark.req("E10")
def test_an_answer_that_was_lost_after_the_commit_changes_nothing(
    lab: Lab, consumer: Consumer
) -> None:
    batch = [message(id="m"), message(), message(request(key="k")), message(b"no")]

    assert consumer.outcomes(*batch) == ["started", "started", "started", "quarantined"]
    assert consumer.outcomes(*batch) == ["repeat"] * 4  # as `Database.run` does it
    assert (executions(lab), len(aside(lab))) == (3, 1)


# Messages without an id


def test_equal_messages_without_an_id_are_different_messages(lab: Lab, consumer: Consumer) -> None:
    assert consumer.outcomes(message(), message()) == ["started", "started"]
    assert consumer.outcomes(message()) == ["started"]


@pytest.mark.req("E10")
def test_a_message_without_an_id_that_was_not_acknowledged_is_known_again(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    consumer.outcomes(message())
    consumer.die()

    assert other.outcomes(message(redelivered=True)) == ["repeat"]
    other.reconnect()  # its acknowledgement was lost, too
    assert other.outcomes(message(redelivered=True)) == ["repeat"]
    assert executions(lab) == 1


def test_each_taken_message_without_an_id_stands_for_one_repetition_only(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    consumer.outcomes(message())
    consumer.die()  # it held a second, equal one, that it had not taken

    again = [message(redelivered=True), message(redelivered=True)]
    assert other.outcomes(*again) == ["repeat", "started"]
    assert other.outcomes(*again) == ["repeat", "repeat"]  # the same deliveries
    assert executions(lab) == 2


def test_an_acknowledged_message_without_an_id_is_forgotten(lab: Lab, consumer: Consumer) -> None:
    first = message()
    consumer.outcomes(first)
    consumer.acknowledge(first)
    consumer.reconnect()

    assert rows(lab, "inbox") == 0
    assert consumer.outcomes(message(redelivered=True)) == ["started"]


def test_what_a_living_consumer_holds_leaves_an_equal_redelivered_one_undecided(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    first = message()
    consumer.outcomes(first)
    again = message(redelivered=True)

    assert other.outcomes(again) == ["undecided"]
    consumer.acknowledge(first)
    assert other.outcomes(again) == ["started"]

    stuck = message(request(9))
    consumer.outcomes(stuck)
    assert other.outcomes(message(request(9), redelivered=True), patient=False) == ["repeat"]


def test_behind_a_pooler_time_tells_whether_a_message_was_acknowledged(
    open_lab: Callable[..., Lab],
) -> None:
    lab = open_lab(transaction_pooling=True, silent_after="10s")
    lab.database.run(lab.catalogue.register)
    consumer, other = Consumer(lab), Consumer(lab)
    consumer.outcomes(message())
    again = message(redelivered=True)

    assert other.outcomes(again) == ["undecided"]
    other.database.move_clock(timedelta(seconds=11))
    assert other.outcomes(again) == ["repeat"]
    assert executions(lab) == 1
    consumer.die()
    other.die()


def test_what_the_broker_adds_to_a_message_does_not_make_it_another(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    consumer.outcomes(message(headers={"tenant": "a"}))
    consumer.die()
    counted = message(headers={"tenant": "a", "x-delivery-count": 1}, redelivered=True)
    different = message(headers={"tenant": "b", "x-delivery-count": 1}, redelivered=True)

    assert other.outcomes(different, counted) == ["started", "repeat"]


# Keys


@pytest.mark.req("E10")
def test_the_same_key_by_two_messages_is_one_execution(lab: Lab, consumer: Consumer) -> None:
    body = request(key="o-1")

    assert consumer.outcomes(message(body, id="a"), message(body, id="b")) == ["started", "found"]


def test_the_key_of_other_work_is_set_aside(lab: Lab, consumer: Consumer) -> None:
    consumer.outcomes(message(request(1, key="o-1"), id="a"))

    assert consumer.outcomes(message(request(2, key="o-1"), id="b")) == ["quarantined"]
    [(reason, problem)] = aside(lab)
    assert reason == "key conflict"
    assert "'o-1'" in problem
    assert "another input" in problem


@pytest.mark.req("E14")
def test_work_that_was_done_and_has_expired_is_a_repeat(lab: Lab, consumer: Consumer) -> None:
    consumer.outcomes(message(request(1, key="o-1"), id="a"))
    lab.drain()
    lab.advance(days=8)
    lab.database.run(sweeps.expire_completed, lab.settings)

    assert consumer.outcomes(message(request(1, key="o-1"), id="b")) == ["repeat"]
    assert consumer.outcomes(message(request(2, key="o-1"), id="c")) == ["quarantined"]


@pytest.mark.req("E14")
def test_ids_outlive_executions_and_are_forgotten_in_batches(lab: Lab, consumer: Consumer) -> None:
    consumer.outcomes(*[message(id=str(n)) for n in range(5)])
    lab.drain()
    lab.advance(days=29)
    lab.database.run(sweeps.expire_completed, lab.settings)
    consumer.database.move_clock(lab.offset)

    assert lab.database.run(sweeps.expire_inbox, lab.settings) == 0
    assert consumer.outcomes(message(id="3")) == ["repeat"]
    lab.advance(days=2)
    assert lab.database.run(sweeps.expire_inbox, lab.settings, limit=3) == 3
    assert lab.database.run(sweeps.expire_inbox, lab.settings, limit=3) == 2


# Bad input


@pytest.mark.req("E11")
@pytest.mark.parametrize(
    ("body", "reason", "problem"),
    [
        (b"{'flow'", "not JSON", "the body is not JSON: "),
        (b"\xff\xfe\x00", "not JSON", "the body is not JSON: "),
        (b'{"flow": "single", "input": {"n": NaN}}', "not JSON", "NaN is no JSON number"),
        (b"[" * 100_000, "not JSON", "nested too deeply"),
        (b"17", "malformed", "the message is 17, expected an object"),
        (b"{}", "malformed", "the field 'flow' is missing"),
        (b'{"flow": "single", "inputs": {}}', "malformed", "'inputs' .* did you mean 'input'"),
        (b'{"flow": "single", "input": [1]}', "malformed", "the field 'input' is a list"),
        (b'{"flow": "single", "key": true}', "malformed", "the field 'key' is true"),
        (b'{"flow": "single", "version": 1}', "malformed", "the field 'version' is 1"),
        (b'{"flow": "singel"}', "unknown flow", "no flow 'singel', did you mean 'single'"),
        (request(version="99"), "unknown version", "'single' has no version '99'; there are "),
        (request("x"), "invalid input", "flow 'single', parameter 'n': .* integer"),
        (b'{"flow": "single"}', "invalid input", "flow 'single': the parameter 'n' is missing"),
        (request(key="k" * 501), "invalid input", "a key has 1 to 500 characters"),
        (request(key="a\x00"), "invalid input", "NUL"),
        (b" " * ((1 << 20) + 1), "too large", "1048577 bytes, at most 1048576"),
    ],
)
def test_bad_input_is_set_aside_with_its_reason(
    lab: Lab, consumer: Consumer, body: bytes, reason: str, problem: str
) -> None:
    bad = message(body, id="bad", app_id="shop", reply_to="answers", headers={"tenant": "a"})

    assert consumer.outcomes(message(id="good"), bad) == ["started", "quarantined"]
    assert consumer.outcomes(bad) == ["repeat"]
    [row] = lab.database.run(quarantine.listed)
    kept = lab.database.run(quarantine.show, row.id)
    assert (kept.reason, kept.queue, kept.body, kept.size) == (reason, QUEUE, body, len(body))
    assert kept.properties is not None
    assert kept.properties["headers"] == {"tenant": "a"}
    assert kept.properties["reply_to"] == "answers"
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(kept.detail["problem"])


def test_input_of_exactly_the_largest_size_is_taken(lab: Lab, consumer: Consumer) -> None:
    body = request(7)

    assert consumer.outcomes(message(body + b" " * ((1 << 20) - len(body)))) == ["started"]


@pytest.mark.req("E11")
def test_what_only_the_database_refuses_spoils_no_other_message(
    lab: Lab, consumer: Consumer
) -> None:
    poison = message(id="p", reply_to="answers", correlation_id="a\x00b")
    good = [message(request(n), id=str(n)) for n in range(3)]

    assert consumer.outcomes(good[0], poison, *good[1:]) == [
        "started",
        "quarantined",
        "started",
        "started",
    ]
    [(reason, _)] = aside(lab)
    assert reason == "cannot be stored"
    assert executions(lab) == 3
    assert consumer.outcomes(poison) == ["repeat"]


def test_a_key_that_somebody_holds_delays_its_own_message_only(
    lab: Lab, consumer: Consumer, other: Consumer
) -> None:
    holder = other.database.direct()
    registered = lab.catalogue.registered(lab.database.hot(), "single")
    with holder.transaction(force_rollback=True):
        start.start(
            holder, registered, {"n": 1}, lab.settings, execution_id=start.new_id(), key="busy"
        )
        blocked = message(request(key="busy"), id="b")
        assert consumer.outcomes(message(id="a"), blocked) == ["started", "undecided"]
    assert consumer.outcomes(blocked) == ["started"]
    holder.close()


# Flows that this process does not have


def test_a_flow_of_another_service_is_started_from_its_stored_definition(
    lab: Lab, consumer: Consumer
) -> None:
    stranger = Consumer(lab, catalogue=Catalogue())

    assert stranger.outcomes(message(request(3), id="a")) == ["started"]
    lab.drain()
    wrong = message(json.dumps({"flow": "single", "input": {"m": 1}}).encode(), id="b")
    missing = message(b'{"flow": "single", "input": {}}', id="c")
    assert stranger.outcomes(wrong, missing) == ["quarantined"] * 2
    assert [problem for _, problem in aside(lab)] == [
        "flow 'single': there is no parameter 'm'",
        "flow 'single': the parameter 'n' is missing",
    ]
    stranger.die()


# Queues of their own


def test_a_message_of_a_flows_own_queue_is_mapped_to_its_input(lab: Lab) -> None:
    trigger = Trigger(
        queue="shop.orders",
        flow=flows.single,
        input={"n": "body.lines[1].count"},
        key='headers["order.id"]',
    )
    consumer = Consumer(lab, trigger)
    lab.database.run(lab.catalogue.register)
    body = json.dumps({"lines": [{"count": 1}, {"count": 20}]}).encode()

    [taken] = consumer.take(message(body, queue="shop.orders", headers={"order.id": 17})).taken
    lab.drain()

    assert taken.execution_id == lab.client.find("single", "17")
    assert lab.client.wait(str(taken.execution_id), 0) == 21
    assert consumer.outcomes(message(b"{}", queue="shop.orders")) == ["quarantined"]
    assert aside(lab)[0][0] == "malformed"
    consumer.die()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"queue": ""}, "a trigger's queue is a name"),
        ({"input": {"n": "boddy"}}, "did you mean 'body'"),
        ({"input": {"n": "body..x"}}, "cannot be read"),
        ({"input": {"m": "body"}}, "flow 'single' has no parameter 'm'"),
        ({"key": "message_id.x"}, "has no parts"),
        ({"key": 3}, "3 is no place in a message"),
    ],
)
def test_a_trigger_that_cannot_work_is_refused_where_it_is_written(
    values: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DefinitionError, match=problem):
        Trigger(**{"queue": "q", "flow": flows.single, **values})
