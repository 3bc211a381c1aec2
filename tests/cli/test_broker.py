"""``orchestrator broker setup`` on a real RabbitMQ."""

from __future__ import annotations

import json
import sys
import types
from functools import partial
from typing import Any

import kombu
import pytest
from click.testing import CliRunner, Result

from orchestrator import Trigger, flow, step
from orchestrator.cli import cli
from orchestrator.cli.desk import Desk
from orchestrator.settings import Settings
from tests.services.foreign import foreign


@step(queue="reports")
def write(number: int) -> int:
    return number


@flow(version="1")
def report(number: int) -> int:
    return write(number)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> str:
    made: Any = types.ModuleType("of_the_broker_test")
    made.report, made.orders = report, Trigger(queue="shop.orders", flow=report)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return str(made.__name__)


def set_up(url: str, *words: str) -> Result:
    desk = Desk()
    desk.__dict__.update(settings=Settings(broker_url=url), broker=partial(kombu.Connection, url))
    return CliRunner().invoke(cli, ["broker", "setup", *words], obj=desk, catch_exceptions=False)


def states(done: Result) -> dict[str, str]:
    return {row["queue"]: row["state"] for row in json.loads(done.stdout)["queues"]}


def test_all_queues_are_made_once_with_their_limits_and_dead_letters(
    rabbitmq_url: str, module: str
) -> None:
    first = set_up(rabbitmq_url, "--json", "-A", module)

    assert first.exit_code == 0
    queues = {
        "orchestrator",
        "orchestrator.long",
        "reports",
        "orchestrator.triggers",
        "orchestrator.triggers.dead",
        "shop.orders",
    }
    assert states(first) == dict.fromkeys(queues, "made")
    assert states(set_up(rabbitmq_url, "--json", "-A", module)) == dict.fromkeys(queues, "there")
    with foreign(rabbitmq_url) as program:
        assert program.ready("orchestrator.dead") == 0
        program.publish({}, queue="shop.orders", exchange="orchestrator")
        assert program.get("shop.orders")[0] == {}


def test_a_queue_that_differs_is_told_and_left_alone(rabbitmq_url: str) -> None:
    with foreign(rabbitmq_url) as program:
        program.declare("orchestrator.triggers", durable=True)

    done = set_up(rabbitmq_url)

    assert done.exit_code == 1
    [told] = [line for line in done.stdout.splitlines() if "differs" in line]
    assert "orchestrator.triggers" in told
    assert "inequivalent arg" in told


def test_a_broker_that_is_away_is_told_in_one_sentence() -> None:
    done = set_up("amqp://guest:secret@127.0.0.1:1//")

    assert done.exit_code == 1
    assert "cannot be reached: [Errno 111] Connection refused; start it" in done.stderr
    assert "secret" not in done.output


def test_a_broker_that_refuses_us_is_told_with_what_to_correct(rabbitmq_url: str) -> None:
    done = set_up(f"{rabbitmq_url.rpartition('/')[0]}/nowhere")

    assert done.exit_code == 1
    assert "refuses us: vhost nowhere not found; correct the user, the password" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_broker_of_files_has_no_queues_to_declare() -> None:
    done = set_up("memory://")

    assert done.exit_code == 1
    assert "only RabbitMQ has queues to declare" in done.stderr
