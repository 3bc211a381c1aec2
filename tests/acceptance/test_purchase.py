"""The purchase: published to RabbitMQ, it fails, and its operator brings it to a good end."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import examples.purchase
from examples.purchase import outside
from orchestrator import Orchestrator, Settings
from orchestrator.workers import connect
from tests.services.flower import Flower
from tests.services.foreign import Foreign, foreign
from tests.services.processes import wait_until
from tests.services.workers import ROOT, Crew, environment

FOLDER = Path(examples.purchase.__file__).parent
CLI = [sys.executable, "-m", "orchestrator.cli"]
MODULE = "examples.purchase.flows"


class Shop:
    """Two workers, a publisher that knows nothing of flows, and a terminal."""

    def __init__(self, crew: Crew, publisher: Foreign, orchestrator: Orchestrator) -> None:
        self.crew, self.publisher, self.orchestrator = crew, publisher, orchestrator

    def order(self, **changes: Any) -> dict[str, Any]:
        """Publish the order of the example, changed a little."""
        message = json.loads((FOLDER / "order.json").read_text("utf-8"))
        order = message["input"]["order"]
        order.update({name: value for name, value in changes.items() if name in order})
        message["input"]["address"].update(changes.get("address", {}))
        message["key"] = order["id"]
        self.publisher.publish(message, message_id=f"m-{order['id']}")
        return dict(message)

    def type(self, *words: str) -> str:
        """Run a command of ours; return what it prints."""
        return self.call("orchestrator", *words)

    def call(self, program: str, *words: str) -> str:
        """Run ``orchestrator`` or ``python``; return what it prints."""
        done = subprocess.run(
            [*({"orchestrator": CLI, "python": CLI[:1]}[program]), *words],
            env=environment(self.crew.env),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self, **wanted: str) -> list[dict[str, Any]]:
        """What ``orchestrator list`` finds."""
        where = " ".join(f"{name}={value}" for name, value in wanted.items())
        found: list[dict[str, Any]] = json.loads(self.type("list", "--where", where, "--json"))[
            "executions"
        ]
        return found

    def bookings(self) -> list[tuple[str, int]]:
        """The shop's own books."""
        with psycopg.connect(self.crew.env["ORCHESTRATOR_DATABASE_URL"]) as connection:
            rows = connection.execute("SELECT order_id, amount FROM shop.bookings").fetchall()
        return [(row[0], row[1]) for row in rows]


@pytest.fixture
def shop(
    new_crew: Callable[..., Crew],
    database_url: str,
    rabbitmq_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    """A shop that is open for business."""
    monkeypatch.setenv("PURCHASE_WORLD", str(tmp_path / "world.sqlite"))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute((FOLDER / "schema.sql").read_text("utf-8"))
    crew = new_crew(database_url=database_url, broker_url=rabbitmq_url, modules=MODULE)
    crew.worker()
    orchestrator = connect.orchestrator(
        Settings(database_url=database_url, broker_url=rabbitmq_url)
    )
    with foreign(rabbitmq_url) as publisher:
        yield Shop(crew, publisher, orchestrator)
    orchestrator.close()


@pytest.mark.req("E12")
def test_an_operator_edits_the_input_of_a_purchase_that_failed_and_it_succeeds(shop: Shop) -> None:
    flower = Flower(shop.crew, [*CLI, "flower"])
    message = shop.order()

    # it fails, and the customer has paid
    wait_until(lambda: shop.listed(flow="purchase", status="failed"), timeout=60)
    assert outside.charges("o-17") == [outside.Charge("o-17", 6460, paid=True, requests=2)]
    assert outside.parcels("o-17") == []

    # the operator looks for it, at it, and why
    [failed] = shop.listed(flow="purchase", status="failed")
    assert (failed["key"], failed["failed"]) == ("o-17", 1)
    assert "there is no postcode 'SW1Y 4L'" in shop.type("list", "--status", "failed")
    shown = shop.type("show", "o-17")
    assert re.search(r"^ship +failed +1 .*AddressUnknown", shown, re.MULTILINE)
    assert re.search(r"^charge +succeeded +2 ", shown, re.MULTILINE)
    explained = shop.type("explain", "o-17")
    assert "step ship failed" in explained
    assert "with another input" in explained
    row = flower.shows(failed["id"], "FAILURE")
    assert row["exception"].startswith("ship: AddressUnknown: there is no postcode")
    assert "tok-lost-answer" not in str(flower.rows())

    # edits the input, and retries
    address = {**message["input"]["address"], "postcode": "SW1Y 4LB"}
    shop.type("retry", "o-17", "--input", json.dumps({"address": address}))

    assert shop.orchestrator.wait(("purchase", "o-17"), 60) == "parcel 1001"
    assert outside.charges("o-17") == [outside.Charge("o-17", 6460, paid=True, requests=2)]
    assert len(outside.reservations("o-17")) == 3
    assert outside.parcels("o-17") == ["Ada Lovelace, 12 Square Lane, SW1Y 4LB"]
    assert shop.bookings() == [("o-17", 6460)]
    row = flower.shows(failed["id"], "SUCCESS")
    assert (row["name"], row["args"], row["retries"]) == ("purchase", "('o-17',)", 1)
    below = [one["name"] for one in flower.rows(failed["id"]) if one["uuid"] in row["children"]]
    assert below.count("purchase.charge") == 2, "the first attempt and the second"
    assert below.count("purchase.reserve.reserve") == 3
    assert below.count("purchase.ship") == 2, "the first run and the operator's"


def test_a_declined_card_is_a_branch_and_no_failure(shop: Shop) -> None:
    shop.order(id="o-18", card="tok-declined")

    wait_until(lambda: shop.listed(flow="purchase", status="succeeded"), timeout=60)

    result = shop.orchestrator.wait(("purchase", "o-18"), 1)
    assert result == "Ada was told that the card was declined"
    assert outside.charges("o-18") == [outside.Charge("o-18", 6460, paid=False, requests=1)]
    assert (outside.reservations("o-18"), shop.bookings()) == ([], [])


def test_an_order_that_is_published_twice_is_charged_once(shop: Shop) -> None:
    right = {"postcode": "SW1Y 4LB"}
    shop.order(id="o-19", card="tok-1", address=right)
    shop.order(id="o-19", card="tok-1", address=right)
    shop.order(id="o-20", card="tok-1", address=right)

    wait_until(lambda: len(shop.listed(flow="purchase", status="succeeded")) == 2, timeout=60)
    assert outside.charges("o-19") == [outside.Charge("o-19", 6460, paid=True, requests=1)]
    assert sorted(shop.bookings()) == [("o-19", 6460), ("o-20", 6460)]


def test_the_tutorials_commands_do_what_it_says(shop: Shop) -> None:
    _, purchase = (ROOT / "docs" / "tutorial.md").read_text("utf-8").split("## 5. Operating", 1)
    shell = re.findall(r"^```sh\n(.*?)^```", purchase, re.DOTALL | re.MULTILINE)
    services, published, failed, repaired = (block.splitlines() for block in shell)
    assert [line.split()[1] for line in services if line[:4] == "orch"] == ["worker", "flower"]

    [publish] = published
    told = shop.call(*shlex.split(publish))
    assert told.startswith("order.json is published as message ")
    wait_until(lambda: shop.listed(flow="purchase", status="failed"), timeout=60)
    said = [shop.call(*shlex.split(line)) for line in failed]
    assert all("there is no postcode 'SW1Y 4L'" in text for text in said)
    rehearse, retry, show, history = (shlex.split(line) for line in repaired)
    assert "o-17" in shop.call(*rehearse)
    shop.call(*retry)
    shop.orchestrator.wait(("purchase", "o-17"), 60)
    assert "parcel 1001" in shop.call(*show)
    assert "SW1Y 4LB" in shop.call(*history, "--json")

    assert [(one.amount, one.requests) for one in outside.charges("o-17")] == [(6460, 2)]
    assert shop.bookings() == [("o-17", 6460)]


def test_the_story_tells_itself_on_services_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.purchase"],
        env={"PATH": "/usr/bin:/bin", "HOME": "", "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "one charge of 64.60 for o-17, asked for 2 times" in done.stdout
    assert done.stdout.splitlines()[-1] == "Charged once, booked once, shipped once."
