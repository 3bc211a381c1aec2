"""An unmodified Flower beside a crew, asked by its REST API."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from tests.services.processes import free_port, wait_until
from tests.services.workers import Crew

CELERYS = (sys.executable, "-m", "celery", "-A", "orchestrator.workers.app", "flower")


class Flower:
    """A running Flower that has seen a worker's heartbeat: from then on it sees everything."""

    def __init__(self, crew: Crew, command: Sequence[str] = CELERYS) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        crew.program(
            [*command, f"--port={port}"],
            name="flower",
            env={"FLOWER_UNAUTHENTICATED_API": "true", "FLOWER_ADDRESS": "127.0.0.1"},
        )
        wait_until(lambda: self.ask("/api/workers"), timeout=60, what="Flower knows the worker")

    def ask(self, path: str) -> Any:
        """What it answers; nothing while it is not there."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            return {}

    def rows(self, execution: str | None = None) -> list[dict[str, Any]]:
        """All rows, or an execution's own and those of its steps."""
        rows = list(self.ask("/api/tasks").values())
        return [row for row in rows if execution in {None, row["root_id"]}]

    def tasks(self, execution: str) -> dict[str, dict[str, Any]]:
        """An execution's rows by their names."""
        return {row["name"]: row for row in self.rows(execution)}

    def row(self, execution: str) -> dict[str, Any]:
        """The row of an execution itself."""
        found = (row for row in self.rows() if row["uuid"] == execution)
        return next(found, {"state": None, "retries": None})

    def shows(self, execution: str, state: str, timeout: float = 20) -> dict[str, Any]:
        """The row of an execution once it has this state."""
        wait_until(
            lambda: self.row(execution)["state"] == state,
            timeout=timeout,
            what=lambda: f"Flower shows {state}; it shows {self.row(execution)}",
        )
        return self.row(execution)
