"""A purchase that fails, and what its operator does about it, on services started for it.

The operator's part is the real command line: what is typed is shown, and what it answered. Only the
beginning differs from the tutorial. The embedded broker is a folder, which no foreign program
publishes to, so the order is started by ``orchestrator start`` instead of a message.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import psycopg
from rich.console import Console

from examples.purchase import outside
from examples.purchase.flows import purchase
from orchestrator import ExecutionFailed, Orchestrator, OrchestratorError, Settings, embedded
from orchestrator.cli.processes import Team, forget_settings, orderly_end
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store import migrate
from orchestrator.workers import connect

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: The order as a shop publishes it, and the postcode that it got wrong.
MESSAGE: Mapping[str, Any] = json.loads((HERE / "order.json").read_text("utf-8"))
POSTCODE = "SW1Y 4LB"

_PATIENCE = 60.0  # seconds
_console = Console(highlight=False)


def main() -> None:
    """Tell the story; what keeps it from going on is told in one sentence."""
    try:
        with orderly_end():
            sys.exit(0 if told() else 1)
    except OrchestratorError as error:
        sys.exit(f"The story stopped: {error}")


def told() -> bool:
    """Tell the story; return whether it came to its good end, the customer charged once."""
    forget_settings()
    folder = Path(tempfile.mkdtemp(prefix="purchase-"))
    os.environ["PURCHASE_WORLD"] = str(folder / "world.sqlite")
    with embedded.start() as services:
        migrate.upgrade(services.database_url)
        with psycopg.connect(services.database_url) as connection:
            connection.execute((HERE / "schema.sql").read_bytes())
        variables = {
            **services.environment,
            "ORCHESTRATOR_MODULES": purchase.body.__module__,
            "PURCHASE_WORLD": os.environ["PURCHASE_WORLD"],
        }
        _say(f"A PostgreSQL, a broker and a worker of our own; the logs are in {folder}.")
        with Team(variables, folder, folder=ROOT) as team:
            team.start_worker()
            team.wait_ready()
            settings = Settings(database_url=services.database_url, broker_url=services.broker_url)
            flows = connect.orchestrator(settings, catalogue=Catalogue([purchase]))
            try:
                return _story(flows, Terminal(variables), services.database_url)
            finally:
                flows.close()


class Terminal:
    """Where the operator types."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}

    def type(self, *words: str) -> None:
        """Show a command, and what it answers."""
        _console.print(
            f"\n$ orchestrator {' '.join(map(quote, words))}", style="bold", markup=False
        )
        subprocess.run(  # noqa: S603 - its words are ours
            [sys.executable, "-m", "orchestrator.cli", *words],
            env=self._environment,
            cwd=ROOT,
            check=True,
        )


def _story(flows: Orchestrator, terminal: Terminal, database_url: str) -> bool:
    key = MESSAGE["key"]
    _say(f"\nAda orders a teapot, cups and tea. Her order {key} arrives:")
    terminal.type("start", "purchase", "--key", key, "--input", json.dumps(MESSAGE["input"]))
    _wait(flows, key)

    _say("\nIt does not get far. The operator looks for what has failed, and why:")
    terminal.type("list", "--status", "failed")
    terminal.type("show", key)
    terminal.type("explain", key)
    _ledger(key)

    _say(f"\nThe postcode is wrong. Ada says: {POSTCODE}. Only what has failed is run again:")
    address = {**MESSAGE["input"]["address"], "postcode": POSTCODE}
    terminal.type("retry", key, "--input", json.dumps({"address": address}))
    _wait(flows, key)
    terminal.type("show", key)
    _ledger(key)

    with psycopg.connect(database_url) as connection:
        booked = connection.execute("SELECT order_id, amount FROM shop.bookings").fetchall()
    _say(f"The books: {_count(len(booked), 'booking')} for {key}.")
    charges = outside.charges(key)
    good = len(charges) == len(booked) == len(outside.parcels(key)) == 1
    style = "bold green" if good else "bold red"
    _say("\nCharged once, booked once, shipped once." if good else "\nThat is not right.", style)
    return good


def _ledger(key: str) -> None:
    """Tell what the world outside knows of an order."""
    for charge in outside.charges(key):
        _say(
            f"\nThe gateway's ledger: one charge of {charge.amount / 100:.2f} for {key}, asked for"
            f" {_count(charge.requests, 'time')}: its first answer was lost."
        )
    _say(f"The warehouse: {'; '.join(outside.reservations(key)) or 'nothing'}.")
    _say(f"The carrier: {'; '.join(outside.parcels(key)) or 'nothing'}.")


def _wait(flows: Orchestrator, key: str) -> None:
    try:
        flows.wait(("purchase", key), _PATIENCE)
    except ExecutionFailed:
        return  # the operator will see


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _say(sentence: str, style: str = "") -> None:
    _console.print(sentence, style=style or None, markup=False, soft_wrap=True)
    sys.stdout.flush()
