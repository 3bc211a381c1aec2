"""What operators do with foreign messages that were set aside."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.runtime import quarantine, start, sweeps
from orchestrator.runtime.triggers import Trigger
from tests.runtime import flows
from tests.runtime.foreigners import Consumer, aside, message, request, rows
from tests.runtime.lab import Lab


@pytest.fixture
def consumer(lab: Lab) -> Iterator[Consumer]:
    made = Consumer(lab)
    lab.database.run(lab.catalogue.register)
    yield made
    made.die()


def release(lab: Lab, number: int, body: bytes | None = None) -> tuple[UUID, bool]:
    execution, created, messages = lab.database.run(
        quarantine.release,
        lab.catalogue,
        lab.settings,
        number,
        execution_id=start.new_id(),
        body=body,
        actor="ann",
    )
    lab.post(messages)
    return execution, created


@pytest.mark.req("E11")
def test_a_repaired_message_is_released_once(lab: Lab, consumer: Consumer) -> None:
    [taken] = consumer.take(message(request("x", key="o-1"), id="m", reply_to="answers")).taken
    assert taken.quarantine_id is not None

    with pytest.raises(InvalidInput, match=r"message \d+ in quarantine: flow 'single', parameter"):
        release(lab, taken.quarantine_id)
    first, created = release(lab, taken.quarantine_id, request(4, key="o-1"))
    assert created
    assert release(lab, taken.quarantine_id, request(5, key="o-1")) == (first, False)

    lab.drain()
    assert lab.client.wait(first, 0) == 5
    assert lab.database.run(quarantine.listed) == []
    [row] = lab.database.run(quarantine.listed, every=True)
    assert (row.execution_id, row.detail["repaired"]) == (first, request(4, key="o-1").decode())
    assert rows(lab, "replies") == 1
    with pytest.raises(Conflict, match="was released"):
        lab.database.run(quarantine.drop, row.id, actor="ann")


def test_a_message_of_a_mapped_queue_is_released_where_its_trigger_is_not_known(lab: Lab) -> None:
    trigger = Trigger(queue="shop.orders", flow=flows.single, input={"n": "body.n"}, key="body.id")
    consumer = Consumer(lab, trigger)
    lab.database.run(lab.catalogue.register)
    [taken] = consumer.take(message(b'{"n": "x", "id": 1}', queue="shop.orders")).taken
    assert taken.quarantine_id is not None

    execution, _ = release(lab, taken.quarantine_id, b'{"n": 2, "id": 1}')

    assert lab.client.find("single", "1") == execution
    consumer.die()


def test_a_dropped_message_cannot_be_released_and_is_deleted_in_time(
    lab: Lab, consumer: Consumer
) -> None:
    [taken] = consumer.take(message(b"no", id="m")).taken
    number = taken.quarantine_id
    assert number is not None

    assert lab.database.run(quarantine.drop, number, actor="ann")
    assert not lab.database.run(quarantine.drop, number, actor="ann")
    with pytest.raises(Conflict, match="was dropped"):
        release(lab, number, request())
    with pytest.raises(NotFound, match="nothing in quarantine has the number 99"):
        release(lab, 99)
    acts = lab.database.hot().execute("SELECT actor, act FROM orchestrator.audit").fetchall()
    assert acts == [("ann", "drop")]
    lab.advance(days=31)
    assert lab.database.run(sweeps.expire_quarantine, lab.settings) == 1


def test_a_dead_letter_is_set_aside_unread_unless_it_was_taken(
    lab: Lab, consumer: Consumer
) -> None:
    consumer.outcomes(message(id="taken"))

    dead = [message(id="taken", dead="delivery_limit"), message(id="new", dead="delivery_limit")]
    taken = consumer.take(*dead).taken
    assert [one.outcome for one in taken] == ["repeat", "quarantined"]
    number = taken[1].quarantine_id
    assert number is not None
    assert "delivery_limit" in aside(lab)[0][1]
    assert release(lab, number)[1]
