"""Consuming triggers from a real RabbitMQ, with real connections to a real database."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import kombu
import pytest
from celery import Celery

from orchestrator.errors import DefinitionError
from orchestrator.runtime import quarantine
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.triggers import Trigger
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.workers import connect, topology
from orchestrator.workers.app import attach
from orchestrator.workers.crew import crew_of
from orchestrator.workers.replies import Replies
from orchestrator.workers.triggers import TriggerConsumer, trigger_queues
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.services.foreign import QUEUE, Foreign, foreign
from tests.services.postgres import PrivatePostgres
from tests.services.processes import wait_until
from tests.services.tunnel import Tunnel

DEAD = f"{QUEUE}.dead"


class Station:
    """A worker's two threads for foreign messages, without the rest of the worker."""

    def __init__(self, lab: Lab, broker_url: str, *triggers: Trigger, hold: float = 30) -> None:
        settings = Settings(database_url=lab.url, broker_url=broker_url)
        self.database = Database(lab.url, patience=timedelta(seconds=0.3))
        self.lab = lab

        def open_broker() -> kombu.Connection:
            return kombu.Connection(broker_url, heartbeat=10)

        self.replies = Replies(connect.broker(settings), self.database, lab.catalogue)
        self.consumer = TriggerConsumer(
            open_broker,
            self.database,
            Intake(self.database, lab.catalogue, settings, triggers),
            queues=(QUEUE, *(trigger.queue for trigger in triggers)),
            dead=DEAD,
            publish=lab.post,
            expect=self.replies.expect,
            hold=hold,
        )

    def start(self) -> Station:
        self.consumer.start()
        self.replies.start()
        return self

    def stop(self) -> None:
        self.consumer.stop()
        self.replies.stop()
        self.database.close()


@pytest.fixture
def open_station(lab: Lab, rabbitmq_url: str) -> Iterator[Callable[..., Station]]:
    stations = []
    lab.database.run(lab.catalogue.register)

    def make(*triggers: Trigger, url: str = rabbitmq_url, start: bool = True, **o: Any) -> Station:
        stations.append(Station(lab, url, *triggers, **o))
        return stations[-1].start() if start else stations[-1]

    yield make
    for station in stations:
        station.stop()


@pytest.fixture
def lab(database_url: str) -> Iterator[Lab]:
    made = Lab.open(database_url, flows.ALL)
    yield made
    made.close()


@pytest.fixture
def publisher(rabbitmq_url: str) -> Iterator[Foreign]:
    with foreign(rabbitmq_url) as made, kombu.Connection(rabbitmq_url) as connection:
        queues = [topology.dead_trigger_queue(DEAD), topology.trigger_queue(QUEUE, dead=DEAD)]
        topology.set_up(connection, queues)
        yield made


def request(n: object = 1, **more: Any) -> dict[str, Any]:
    return {"flow": "single", "input": {"n": n}, **more}


def count(lab: Lab, table: str = "executions") -> int:
    row = lab.database.hot().execute(f"SELECT count(*) FROM orchestrator.{table}").fetchone()
    assert row is not None
    return int(row[0])


def wait_for_count(lab: Lab, expected: int, table: str = "executions", timeout: float = 20) -> None:
    wait_until(
        lambda: count(lab, table) >= expected,
        timeout=timeout,
        what=lambda: f"{expected} rows in {table}; there are {count(lab, table)}",
    )
    assert count(lab, table) == expected


@pytest.mark.req("E12")
def test_a_published_message_starts_its_flow_and_is_acknowledged(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    station = open_station()

    publisher.publish(request(4, key="o-1"), message_id="m1", app_id="shop")
    publisher.publish(request(5), exchange="orchestrator")  # bound under its own name
    wait_for_count(lab, 2)
    station.stop()

    assert publisher.ready() == 0
    lab.drain()
    assert lab.client.wait(lab.client.find("single", "o-1"), 0) == 5
    assert count(lab, "inbox") == 1  # of messages without an id nothing is left


@pytest.mark.req("E10")
def test_two_consumers_take_doubled_and_nameless_messages_once_each(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    for n in range(150):
        publisher.publish(request(n), message_id=f"m{n}")
        if n % 3 == 0:
            publisher.publish(request(n), message_id=f"m{n}")
        if n % 5 == 0:
            publisher.publish(request(n))
    open_station(), open_station()

    wait_for_count(lab, 150 + 30)
    wait_until(lambda: publisher.ready() == 0)
    for station in (open_station(), open_station()):
        station.stop()
    assert count(lab) == 150 + 30
    assert len(lab.mail) == 150 + 30


@pytest.mark.req("E11")
def test_bad_messages_are_set_aside_and_acknowledged(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    publisher.publish(b"\x00no", message_id="a")
    publisher.publish(json.dumps(request()).encode() + b" " * (3 << 20), message_id="b")
    publisher.publish(request("x"), message_id="c", headers={"tenant": {"id": 1}})
    publisher.publish(request(2), message_id="d")
    station = open_station()

    wait_for_count(lab, 1)
    wait_for_count(lab, 3, "quarantine")
    station.stop()

    assert publisher.ready() == 0
    found = {row.reason: row for row in lab.database.run(quarantine.listed)}
    assert set(found) == {"not JSON", "too large", "invalid input"}
    assert found["too large"].size is not None
    assert found["too large"].size > 3 << 20
    assert found["invalid input"].properties is not None
    assert found["invalid input"].properties["headers"] == {"tenant": {"id": 1}}


@pytest.mark.req("E10")
@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
def test_messages_whose_acknowledgement_is_lost_are_known_when_they_come_again(
    lab: Lab,
    publisher: Foreign,
    rabbitmq_url: str,
    open_station: Callable[..., Station],
    named: bool,
) -> None:
    tunnel = Tunnel(rabbitmq_url)
    open_station(url=tunnel.url)
    wait_until(lambda: tunnel.opened and publisher.consumers() == 1)
    tunnel.mute = True

    for n in range(5):
        publisher.publish(request(n % 2), message_id=f"m{n}" if named else None)
    # of messages without an id it wants to know that they are acknowledged before it takes others
    wait_until(lambda: count(lab) == 5 if named else count(lab) > 0)
    assert publisher.ready() == 0  # in hand
    tunnel.mute = False
    tunnel.cut()

    wait_until(lambda: tunnel.opened >= 2 and publisher.consumers() == 1)
    publisher.publish(request(7), message_id="last")
    wait_for_count(lab, 6)
    open_station().stop()
    assert count(lab) == 6
    tunnel.close()


def test_a_lost_broker_connection_is_opened_again(
    lab: Lab, publisher: Foreign, rabbitmq_url: str, open_station: Callable[..., Station]
) -> None:
    tunnel = Tunnel(rabbitmq_url)
    open_station(url=tunnel.url)

    for n in range(4):
        publisher.publish(request(n), message_id=f"m{n}")
        wait_for_count(lab, n + 1)
        tunnel.cut()

    publisher.channel.queue_delete(QUEUE)
    wait_until(lambda: _exists(rabbitmq_url, QUEUE))
    publisher.publish(request(5), message_id="m5")
    wait_for_count(lab, 5)
    tunnel.close()


def _exists(url: str, queue: str) -> bool:
    with kombu.Connection(url) as connection:
        connection.connect()
        return topology.exists(connection.connection, queue)


@pytest.mark.chaos
@pytest.mark.req("E11")
@pytest.mark.parametrize("hold", [60, 0.5], ids=["short", "longer than messages are held"])
def test_messages_stay_with_the_broker_while_the_database_is_down(
    publisher: Foreign, rabbitmq_url: str, private_postgres: PrivatePostgres,
    private_database_url: str, hold: float,
) -> None:  # fmt: skip
    lab = Lab.open(private_database_url, flows.ALL)
    lab.database.run(lab.catalogue.register)
    station = Station(lab, rabbitmq_url, hold=hold).start()
    publisher.publish(request(0), message_id="before")
    wait_for_count(lab, 1)

    private_postgres.stop()
    for n in range(20):
        publisher.publish(request(n), message_id=f"m{n}")
        publisher.publish(request(100 + n))
    if hold < 1:
        wait_until(lambda: publisher.ready() == 40, timeout=20)
    private_postgres.start()

    lab.database.forget()
    wait_for_count(lab, 41)
    station.stop()
    assert publisher.ready() == 0
    assert publisher.ready(DEAD) == 0
    lab.close()


def test_what_the_broker_gives_up_delivering_is_set_aside(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    publisher.publish(request(1), message_id="m", headers={"tenant": "a"}, exchange="orchestrator")
    for _ in range(topology.TRIGGER_DELIVERY_LIMIT + 1):
        wait_until(lambda: publisher.ready() == 1)
        method, _, _ = publisher.channel.basic_get(QUEUE)
        publisher.channel.basic_nack(method.delivery_tag, requeue=True)
    wait_until(lambda: publisher.ready(DEAD) == 1)
    open_station()

    wait_for_count(lab, 1, "quarantine")
    [row] = lab.database.run(quarantine.listed)
    assert (row.queue, row.reason) == (QUEUE, "not taken")
    assert row.properties is not None
    assert row.properties["message_id"] == "m"
    assert row.properties["routing_key"] == QUEUE
    wait_until(lambda: publisher.ready(DEAD) == 0)
    assert count(lab) == 0


def test_a_queue_of_its_own_is_declared_bound_and_mapped(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    open_station(
        Trigger(queue="shop.orders", flow=flows.single, input={"n": "body.count"}, key="body.id")
    )
    wait_until(lambda: publisher.consumers() == 1)

    publisher.publish({"count": 2, "id": "o-1"}, queue="shop.orders", exchange="orchestrator")
    publisher.publish({"count": 2, "id": "o-1"}, queue="shop.orders")

    wait_until(lambda: publisher.ready("shop.orders") == 0 and count(lab) == 1)
    lab.drain()
    assert lab.client.wait(lab.client.find("single", "o-1"), 0) == 3


def attached(*given: Trigger, **held: Trigger) -> Celery:
    module = types.ModuleType("of_triggers")
    module.__dict__.update(held)
    app = Celery("of_triggers", broker="memory://", set_as_current=False)
    return attach(app, [module], triggers=given, settings=Settings())


def test_an_application_takes_the_triggers_of_its_modules_and_those_it_is_given() -> None:
    crew = crew_of(
        attached(Trigger(queue="a", flow=flows.single), orders=Trigger(queue="b", flow="report"))
    )

    assert trigger_queues(crew) == (QUEUE, "a", "b")
    assert set(crew.catalogue.flows) == {"single"}


def test_two_triggers_of_one_queue_are_refused() -> None:
    with pytest.raises(DefinitionError, match="'a' has two triggers, for the flows"):
        attached(Trigger(queue="a", flow=flows.single), orders=Trigger(queue="a", flow="report"))


# Replies


@pytest.mark.req("E12")
def test_who_asked_hears_of_the_end(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    answers = publisher.declare()
    open_station()
    publisher.publish(request(4, key="o-1"), reply_to=answers, correlation_id="c1")
    publisher.publish(request(4, key="o-1"), reply_to=answers, correlation_id="c2")
    wait_for_count(lab, 2, "replies")
    execution = str(lab.client.find("single", "o-1"))
    assert publisher.ready(answers) == 0
    lab.drain()

    told = [publisher.get(answers) for _ in range(2)]

    for document, properties in told:
        assert document["result"] == 5
        assert (document["execution"], document["key"]) == (execution, "o-1")
        assert (document["flow"], document["status"]) == ("single", "succeeded")
        assert properties.content_type == "application/json"
        assert properties.headers["x-orchestrator-status"] == "succeeded"
    assert {properties.correlation_id for _, properties in told} == {"c1", "c2"}
    assert len({properties.message_id for _, properties in told}) == 2


@pytest.mark.req("E11")
def test_a_failure_is_told_and_after_a_retry_the_success(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    def fail() -> None:
        raise LookupError("no such order")

    answers = publisher.declare()
    open_station()
    flows.behave["first"] = fail
    try:
        publisher.publish(request(4, key="o-1"), reply_to=answers, correlation_id="c1")
        wait_for_count(lab, 1)
        wait_until(lambda: len(lab.mail) == 1)
        lab.drain()
        failed, first = publisher.get(answers)
    finally:
        flows.behave.clear()
    lab.client.retry(failed["execution"])
    lab.drain()
    succeeded, second = publisher.get(answers)

    assert failed["status"] == "failed"
    assert "no such order" in failed["error"]
    assert (succeeded["status"], succeeded["result"]) == ("succeeded", 5)
    assert first.correlation_id == second.correlation_id == "c1"
    assert first.message_id != second.message_id


def test_a_reply_that_nobody_takes_is_tried_again_with_the_reason_kept(
    lab: Lab, publisher: Foreign, open_station: Callable[..., Station]
) -> None:
    open_station()
    publisher.publish(request(4), reply_to="answers")
    wait_until(lambda: len(lab.mail) == 1)
    lab.drain()

    def problem() -> Any:
        row = lab.database.hot().execute("SELECT problem FROM orchestrator.replies").fetchone()
        return row and row[0]

    wait_until(problem, timeout=20)
    assert "is there a queue 'answers'?" in problem()
    publisher.declare("answers", durable=True)
    document, _ = publisher.get("answers")
    assert document["result"] == 5


def test_a_reply_waits_for_a_broker_that_is_away(
    lab: Lab, publisher: Foreign, rabbitmq_url: str, open_station: Callable[..., Station]
) -> None:
    tunnel = Tunnel(rabbitmq_url)
    answers = publisher.declare()
    station = open_station(url=tunnel.url)
    publisher.publish(request(4), reply_to=answers)
    wait_until(lambda: len(lab.mail) == 1)
    station.consumer.stop()
    tunnel.close()
    lab.drain()
    wait_until(lambda: not station.replies._wake.is_set())

    open_station()

    assert publisher.get(answers)[0]["result"] == 5


# Topology


def test_setting_up_is_repeatable_and_tells_what_differs(rabbitmq_url: str) -> None:
    with foreign(rabbitmq_url) as program, kombu.Connection(rabbitmq_url) as connection:
        program.declare(QUEUE, durable=True)
        queues = [
            topology.step_queue("orchestrator", is_amqp=True),
            topology.dead_trigger_queue(DEAD),
            topology.trigger_queue(QUEUE, dead=DEAD),
        ]
        first, again = topology.set_up(connection, queues), topology.set_up(connection, queues)

    assert [one.state for one in first] == ["made", "made", "differs"]
    assert [one.state for one in again] == ["there", "there", "differs"]
    assert "x-queue-type" in again[2].problem or "inequivalent arg" in again[2].problem
