"""A whole installation on one machine, and what its users and operators see of it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from celery import Celery
from psycopg.rows import dict_row

from orchestrator import Flow, Handle, Settings
from orchestrator.workers import connect, topology
from tests.acceptance import laws
from tests.services.processes import wait_until
from tests.services.workers import Crew, WorkerProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One call of a body, as the body itself noted it."""

    body: str
    execution: str
    scope: str
    key: str
    attempt: int
    pid: int


class Site:
    """Workers and beats as processes, an Orchestrator as a user's program has it.

    Args:
        crew: the processes.
        settings: what the user's program runs with; the crew has the same in its variables.
        folder: where bodies leave their traces.
    """

    def __init__(self, crew: Crew, settings: Settings, folder: Path) -> None:
        self.crew, self.settings, self.folder = crew, settings, folder
        self.orchestrator = connect.orchestrator(settings)
        self._reader: psycopg.Connection[Any] | None = None

    # -- acts ----------------------------------------------------------------------------------

    def start(self, flow: Flow[..., Any], *args: Any, key: str | None = None) -> Handle[Any]:
        return self.orchestrator.start(flow, *args, key=key)

    def worker(self, **options: Any) -> WorkerProcess:
        return self.crew.worker(**options)

    def duty(self, name: str) -> None:
        """Ask for one of beat's duties now."""
        with Celery(broker=self.settings.broker_url, set_as_current=False) as app:
            queue = topology.step_queue(self.settings.queue, is_amqp=True)
            app.send_task(f"orchestrator.{name}", queue=queue)

    def empty(self) -> None:
        """Forget all executions and traces; workers go on."""
        with psycopg.connect(self.settings.database_url) as connection:
            connection.execute(
                "TRUNCATE orchestrator.executions, orchestrator.execution_state, orchestrator.keys,"
                " orchestrator.steps, orchestrator.payloads, orchestrator.journal,"
                " orchestrator.quarantine, orchestrator.audit"
            )
        for trace in self.folder.iterdir():
            trace.unlink()

    def open(self, *gates: str) -> None:
        for gate in gates:
            (self.folder / f"{gate}.open").touch()

    def close(self) -> None:
        """End everything; no law is checked any more."""
        self.crew.kill9()
        self.orchestrator.close()
        if self._reader is not None:
            self._reader.close()

    # -- looks ---------------------------------------------------------------------------------

    def reached(self, gate: str, *, attempt: int = 1, timeout: float = 30) -> int:
        """Wait until this attempt is at the gate; return its process id."""
        shown = self.folder / f"{gate}.reached.{attempt}"
        wait_until(
            lambda: shown.exists() and shown.read_text(),
            timeout=timeout,
            interval=0.01,
            what=lambda: f"attempt {attempt} at gate {gate}; the rows:\n{self.describe()}",
        )
        return int(shown.read_text())

    def came(self, gate: str, *, attempt: int = 1) -> bool:
        return (self.folder / f"{gate}.reached.{attempt}").exists()

    def ran(self, body: str | None = None) -> list[Ran]:
        """Every call of a body so far, oldest first."""
        try:
            lines = (self.folder / "ran").read_text().splitlines()
        except FileNotFoundError:
            return []
        calls = [Ran(**json.loads(line)) for line in lines]
        return [call for call in calls if body in {None, call.body}]

    def calls(self) -> Counter[str]:
        """How often each body ran."""
        return Counter(call.body for call in self.ran())

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """What the database says; a connection lost with its server is opened anew."""
        if self._reader is not None and not self._reader.closed:
            with contextlib.suppress(psycopg.OperationalError):
                return self._reader.execute(query, parameters).fetchall()
            self._reader.close()
        self._reader = psycopg.connect(
            self.settings.database_url, autocommit=True, row_factory=dict_row
        )
        return self._reader.execute(query, parameters).fetchall()

    def row(self, handle: Handle[Any], name: str, scope: str = "", run: int = 0) -> dict[str, Any]:
        """One row of `steps`; KeyError when there is none yet."""
        found = self.rows(
            "SELECT * FROM orchestrator.steps"
            " WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s",
            handle.execution_id, name, scope, run,
        )  # fmt: skip
        if not found:
            raise KeyError(name)
        return found[0]

    def has_row(self, handle: Handle[Any], name: str, **expected: Any) -> bool:
        """Whether there is a row of this step that looks like this."""
        try:
            row = self.row(handle, name)
        except KeyError:
            return False
        return all(row[column] == value for column, value in expected.items())

    def ended(self) -> int:
        found = self.rows(
            "SELECT count(*) AS n FROM orchestrator.executions WHERE finished_at IS NOT NULL"
        )
        return int(found[0]["n"])

    def describe(self) -> str:
        """The rows that have not ended, for the message of a test that waited in vain."""
        found = self.rows(
            "SELECT s.name, s.scope, s.status, s.attempt, s.deaths, s.dispatch, s.sent, s.claimed,"
            " s.attend_at - now() AS attend, s.lease_until - now() AS lease, s.due_at, s.error,"
            " w.reason, w.died FROM orchestrator.steps s LEFT JOIN orchestrator.workers w"
            " ON w.id = s.holder WHERE s.ended_no IS NULL LIMIT 30"
        )
        return "\n".join(str(row) for row in found)

    # -- ends ----------------------------------------------------------------------------------

    def results(self, handles: Iterable[Handle[Any]], *, timeout: float = 60) -> list[Any]:
        """Wait until all have ended, by themselves, and return their results."""
        awaited = list(handles)
        ids = [handle.execution_id for handle in awaited]

        def all_ended() -> bool:
            found = self.rows(
                "SELECT count(*) AS n FROM orchestrator.executions"
                " WHERE id = ANY (%s) AND finished_at IS NULL", ids,
            )  # fmt: skip
            return bool(found[0]["n"] == 0)

        wait_until(
            all_ended,
            timeout=timeout,
            interval=0.1,
            what=lambda: f"the end of all executions; open rows:\n{self.describe()}",
        )
        return [handle.result(0) for handle in awaited]

    def result(self, handle: Handle[Any], *, timeout: float = 30) -> Any:
        """Wait for the end of one execution and return its result."""
        return self.results([handle], timeout=timeout)[0]

    def sound(self, *, begun_anew: bool = False) -> None:
        """The law: everything has ended, counters equal rows, nothing is left to be done.

        Args:
            begun_anew: an operator's retry or a hand-back began attempts at 1 again.
        """
        with psycopg.connect(self.settings.database_url, autocommit=True) as connection:
            laws.check_all_at_rest(connection)
        laws.check_keys(self.ran())
        if not begun_anew:
            laws.check_attempts(self.ran())
