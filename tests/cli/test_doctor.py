"""The doctor: what it finds, and the fix it names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from orchestrator import flow, step
from orchestrator.cli import checks as looks
from orchestrator.store.health import ServerFacts
from orchestrator.workers import topology
from tests.cli.conftest import Terminal
from tests.cli.test_commands import orchestrator
from tests.runtime import flows
from tests.runtime.lab import Lab


def checks(found: Any) -> dict[str, Any]:
    return {one["check"]: one for one in found["checks"]}


def test_a_sound_installation_has_no_problem(terminal: Terminal, lab: Lab) -> None:
    lab.worker()

    found = terminal.json("doctor", "--rows")

    verdicts = {name: one["verdict"] for name, one in checks(found).items()}
    assert (found["healthy"], found["problems"]) == (True, 0)
    for name in ("Python", "celery", "PostgreSQL", "schema", "fsync", "clocks", "rows", "workers"):
        assert verdicts[name] == "ok", name
    assert verdicts["broker"] == "warning", "messages in memory die with their process"
    assert "0 problems" in terminal("doctor")


@pytest.mark.req("E13")
def test_rows_that_contradict_each_other_are_found(terminal: Terminal, lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    other = lab.start(flows.chain, 2)
    connection = lab.database.hot()
    connection.execute("DELETE FROM orchestrator.executions WHERE id = %s", (handle.execution_id,))
    connection.execute(
        "UPDATE orchestrator.executions SET started = 5 WHERE id = %s", (other.execution_id,)
    )

    ran = terminal.run("doctor", "--rows", "--json")

    found = [one["found"] for one in json.loads(ran.stdout)["checks"] if one["check"] == "rows"]
    assert ran.exit_code == 1
    assert any(text.startswith("1 steps without an execution") for text in found)
    assert any("contradict their steps" in text and other.id in text for text in found)


def test_a_database_without_our_schema_is_told_to_be_migrated(empty_database_url: str) -> None:
    told = orchestrator(
        "doctor", "--json", database_url=empty_database_url, broker_url="amqp://localhost:1//"
    )

    found = checks(json.loads(told.stdout))
    assert told.returncode == 1
    assert found["schema"]["fix"] == "run `orchestrator db upgrade`"
    assert "cannot be reached" in found["broker"]["found"]
    assert found["broker"]["fix"] == "start it, or correct ORCHESTRATOR_BROKER_URL"
    assert told.stderr == ""


def test_services_that_are_down_are_problems_and_no_traceback() -> None:
    told = orchestrator(
        "doctor", database_url="postgresql://localhost:1/x", broker_url="amqp://localhost:1//"
    )

    assert told.returncode == 1
    assert "database postgresql://localhost:1/x cannot be reached" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr


@step
def draw(n: int) -> int:
    return n


@flow
def drawing(n: int) -> int:
    return draw.options(queue="gpu", priority="high")(n)


@pytest.mark.req("E13")
def test_steps_in_a_queue_that_no_living_worker_consumes_are_a_problem(
    terminal: Terminal, lab: Lab
) -> None:
    lab.catalogue.add(drawing)
    handle = lab.start(drawing, 1)
    lab.advance(seconds=25)
    lab.worker()
    assert checks(terminal.json("doctor"))["steps"]["verdict"] == "ok", "it has just been sent"
    lab.advance(seconds=10)

    ran = terminal.run("doctor", "--json")

    found = checks(json.loads(ran.stdout))["steps"]
    assert (ran.exit_code, found["verdict"]) == (1, "problem")
    assert found["found"] == "1 step waits in queue 'gpu.high', which no living worker consumes"
    assert "`orchestrator worker -Q gpu`" in found["fix"]
    assert terminal.json("list", "--status", "stuck")["executions"] == []
    lab.advance(seconds=40)
    lab.sweep()
    [stuck] = terminal.json("list", "--status", "stuck")["executions"]
    assert stuck["id"] == handle.id


SOUND: dict[str, Any] = {
    "version": 150000,
    "shown_version": "15.0",
    "settings": dict.fromkeys(
        ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"), "on"
    ),
    "encoding": "UTF8",
    "used": 5,
    "most": 100,
    "is_standby": False,
    "same_session": True,
    "now": datetime.now(UTC),
}


@pytest.mark.parametrize(
    ("changes", "name", "fix"),
    [
        ({"settings": {**SOUND["settings"], "fsync": "off"}}, "fsync", "fsync = on"),
        (
            {"settings": {**SOUND["settings"], "synchronous_commit": "off"}},
            "synchronous_commit",
            "synchronous_commit = on",
        ),
        ({"encoding": "SQL_ASCII"}, "encoding", "UTF8"),
        ({"is_standby": True}, "server", "at the primary"),
        ({"same_session": False}, "pooler", "PostgreSQL itself"),
        ({"used": 95}, "connections", "max_connections"),
    ],
)
def test_settings_of_a_server_that_lose_work_are_named_with_their_fix(
    changes: Any, name: str, fix: str
) -> None:
    facts = ServerFacts(**{**SOUND, **changes})

    found = {
        check.name: check for check in (*looks.durability(facts), *looks.reach(facts, pooled=False))
    }

    assert found[name].verdict != "ok"
    assert fix in (found[name].fix or "")


def test_settings_of_celery_that_lose_work_are_named() -> None:
    conf = SimpleNamespace(task_acks_late=False, task_time_limit=300)
    desk: Any = SimpleNamespace(app=SimpleNamespace(conf=conf), attached=True)

    found = {check.name: check for check in looks.celery(desk)}

    assert found["task_acks_late"].fix == "set task_acks_late = True in your Celery configuration"
    assert found["task_time_limit"].verdict == "warning"


def test_a_queue_that_was_made_otherwise_is_a_problem() -> None:
    found = looks.queue("orders", 3, 0, "inequivalent arg 'x-queue-type'")

    assert found.verdict == "problem"
    assert "circles for ever" in (found.fix or "")


def test_a_queue_that_the_users_application_made_is_a_warning_and_never_to_be_deleted() -> None:
    found = looks.queue("legacy", 3, 0, "inequivalent arg 'x-queue-type'", foreign=True)

    assert found.verdict == "warning"
    assert "without a delivery limit and dead letters" in found.found
    assert "delete" not in (found.fix or "")


@pytest.mark.system
def test_the_queue_of_an_adopted_task_may_be_of_another_type(
    terminal: Terminal, lab: Lab, rabbitmq_url: str
) -> None:
    app = Celery("legacy", broker="memory://", set_as_current=False)

    @app.task
    def old(n: int) -> int:
        return n

    adopted = step(old)

    @flow
    def modern(n: int) -> int:
        return adopted.options(queue="legacy")(n)

    lab.catalogue.add(modern)
    lab.start(modern, 1)
    with Connection(rabbitmq_url) as connection:
        channel: Any = connection.default_channel
        for name in ("legacy", lab.settings.long_queue):
            channel.queue_declare(name, durable=True, auto_delete=False)

    found = {
        check.name: check.verdict
        for check in looks.queues(terminal.desk(broker=partial(Connection, rabbitmq_url)))
    }

    assert found["queue legacy"] == "warning"
    assert found[f"queue {lab.settings.long_queue}"] == "problem"


@pytest.mark.system
def test_the_queues_of_a_real_broker_are_compared_with_ours(
    database_url: str, rabbitmq_url: str
) -> None:
    with Connection(rabbitmq_url) as connection:
        channel: Any = connection.default_channel
        topology.step_queue("orchestrator", is_amqp=True)(channel).declare()
        channel.queue_declare("orchestrator.long", durable=True, auto_delete=False)

    told = orchestrator("doctor", "--json", database_url=database_url, broker_url=rabbitmq_url)

    found = checks(json.loads(told.stdout))
    assert found["broker"]["found"].startswith("RabbitMQ")
    assert found["queue orchestrator"]["verdict"] == "ok"
    assert "inequivalent arg" in found["queue orchestrator.long"]["found"]
    depth = orchestrator(
        "queue-depth", "--json", database_url=database_url, broker_url=rabbitmq_url
    )
    rows = {row["queue"]: row for row in json.loads(depth.stdout)["queues"]}
    assert rows["orchestrator"]["broker"] == {"messages": 0, "consumers": 0, "dead_letters": 0}
