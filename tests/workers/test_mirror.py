"""What monitors are told of an execution, read from a real database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import kombu
import pytest
from celery import Celery
from celery.events import EventReceiver

from orchestrator.errors import Unavailable
from orchestrator.handles import Handle
from orchestrator.workers.events import TaskEvents
from orchestrator.workers.mirror import Event, ExecutionRows
from tests.runtime import chosen_flows, flows
from tests.runtime.conftest import lab, open_lab  # noqa: F401 - fixtures
from tests.runtime.lab import Lab
from tests.services.processes import wait_until


def rows_of(lab: Lab) -> ExecutionRows:  # noqa: F811
    return ExecutionRows(database=lab.database, masked=("card",))


def told(lab: Lab, handle: Handle[Any], *, quiet: bool = False) -> list[Event]:  # noqa: F811
    """What a process tells that meets the execution for the first time."""
    rows = rows_of(lab)
    rows.touch(handle.execution_id, quiet=quiet)
    return rows.look()


def words(events: list[Event]) -> list[str]:
    return [name.removeprefix("task-") for _, name, _ in events]


def test_an_execution_is_introduced_and_told_how_far_it_is(lab: Lab) -> None:  # noqa: F811
    handle = lab.start(flows.hop, 1, key="o-1")
    lab.worker().deliver()

    (began, _, who), _, (_, _, state) = events = told(lab, handle)

    assert words(events) == ["received", "started", "running"]
    assert began == handle.view().facts.created_at.timestamp()
    assert (who["name"], who["args"], who["kwargs"]) == ("hop", "('o-1',)", "{'n': 1}")
    assert (who["root_id"], who["parent_id"], who["retries"]) == (handle.id, None, 0)
    assert state == {"uuid": handle.id, "result": "1/2 steps"}


def test_what_has_not_changed_is_not_told_again(lab: Lab) -> None:  # noqa: F811
    handle = lab.start(flows.hop, 1)
    rows = rows_of(lab)
    rows.touch(handle.execution_id, quiet=False)
    assert words(rows.look()) == ["received", "started", "running"]
    assert rows.look() == [], "it is not due before a second has passed"

    assert rows.look(early=True) == []
    lab.drain()
    found = rows.look(early=True)

    assert words(found) == ["succeeded"]
    assert rows.next_look() is None, "what has ended is forgotten"


def test_an_operators_retry_leads_out_of_failure(lab: Lab) -> None:  # noqa: F811
    def refuse() -> None:
        raise LookupError("there is no such thing")

    flows.behave["second"] = refuse
    handle = lab.start(flows.chain, 1)
    lab.drain()
    _, _, (at, _, failed) = events = told(lab, handle)
    assert words(events) == ["received", "started", "failed"]
    assert failed["exception"] == "second: LookupError: there is no such thing"
    assert "LookupError" in failed["traceback"]
    assert failed["result"] == "2/2 steps"

    flows.behave.clear()
    lab.client.retry(handle.execution_id)
    assert words(told(lab, handle)) == ["received", "started", "retried", "running"]
    lab.drain()

    _, _, (retried, _, _), (_, _, ended) = events = told(lab, handle)
    assert words(events) == ["received", "started", "retried", "succeeded"]
    assert retried >= at
    assert ended["result"] == "3/3 steps"


def test_what_waits_is_paused_or_cancelled_is_told_so(lab: Lab) -> None:  # noqa: F811
    handle = lab.start(chosen_flows.patient, 1)
    lab.drain()
    assert words(told(lab, handle, quiet=True)) == ["received", "started", "waiting"]

    lab.client.pause(handle.execution_id)
    assert words(told(lab, handle, quiet=True))[2:] == ["paused"]
    lab.client.cancel(handle.execution_id)
    assert words(told(lab, handle, quiet=True))[2:] == ["cancelled"]


def test_an_execution_that_is_gone_is_forgotten(lab: Lab) -> None:  # noqa: F811
    handle = lab.start(flows.single, 1)
    lab.drain()
    lab.database.hot().execute("DELETE FROM orchestrator.executions")

    assert told(lab, handle) == []


@pytest.fixture
def heard(rabbitmq_url: str) -> Iterator[list[dict[str, Any]]]:
    """What a monitor hears."""
    app = Celery(broker=rabbitmq_url, set_as_current=False)
    events: list[dict[str, Any]] = []
    with app.connection() as connection:
        receiver = EventReceiver(connection, handlers={"*": events.append}, app=app)
        listening = threading.Thread(
            target=lambda: receiver.capture(limit=None, timeout=60, wakeup=False), daemon=True
        )
        listening.start()
        yield events
        receiver.should_stop = True
        listening.join(5)


def test_what_could_not_be_sent_is_told_when_the_broker_is_back(
    lab: Lab,  # noqa: F811
    rabbitmq_url: str,
    heard: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.workers.events._SILENCE", 0.2)
    broken = [True, True]

    def connect() -> kombu.Connection:
        if broken:
            broken.pop()
            raise Unavailable("the broker is away")
        return kombu.Connection(rabbitmq_url)

    app = Celery(broker=rabbitmq_url, set_as_current=False)
    handle = lab.start(flows.single, 1)
    lab.drain()
    events = TaskEvents(app, connect, "worker@test", rows_of(lab))

    events.moved(handle.execution_id)

    wait_until(lambda: [one["type"] for one in heard][-1:] == ["task-succeeded"], timeout=20)
    events.close()
    assert [one["type"] for one in heard] == ["task-received", "task-started", "task-succeeded"]
    assert {(one["uuid"], one["hostname"]) for one in heard} == {(handle.id, "worker@test")}
