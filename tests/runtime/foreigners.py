"""Messages of foreign programs, and who takes them in the lab."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from orchestrator.runtime import quarantine, start
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.runtime.intake import Batch, Intake
from orchestrator.runtime.triggers import Trigger
from orchestrator.store.database import Database
from tests.runtime.lab import Lab

QUEUE = "orchestrator.triggers"


def request(n: object = 1, *, flow: str = "single", **more: Any) -> bytes:
    return json.dumps({"flow": flow, "input": {"n": n}, **more}).encode()


def message(body: bytes = b"", *, id: str | None = None, **more: Any) -> ForeignMessage:  # noqa: A002
    given = {"queue": QUEUE, "body": body or request(), "delivery": start.new_id(), **more}
    return ForeignMessage(message_id=id, **given)


class Consumer:
    """One connection to the broker: it takes, and forgets what it has acknowledged."""

    def __init__(self, lab: Lab, *triggers: Trigger, catalogue: Catalogue | None = None) -> None:
        self.lab = lab
        self.database = Database(lab.url)
        self.session = uuid4()
        known = catalogue or lab.catalogue
        self.intake = Intake(self.database, known, lab.settings, triggers)

    def take(self, *batch: ForeignMessage, patient: bool = True) -> Batch:
        taken = self.intake.take(batch, session=self.session, patient=patient)
        self.lab.post(taken.messages)
        return taken

    def outcomes(self, *batch: ForeignMessage, patient: bool = True) -> list[str]:
        return [taken.outcome for taken in self.take(*batch, patient=patient).taken]

    def acknowledge(self, *batch: ForeignMessage) -> None:
        self.intake.forget(batch, session=self.session)

    def reconnect(self) -> None:
        self.session = uuid4()
        self.database.forget()

    def die(self) -> None:
        self.database.close()
        self.database.forget()


def executions(lab: Lab) -> int:
    row = lab.database.hot().execute("SELECT count(*) FROM orchestrator.executions").fetchone()
    assert row is not None
    return int(row[0])


def rows(lab: Lab, table: str) -> int:
    row = lab.database.hot().execute(f"SELECT count(*) FROM orchestrator.{table}").fetchone()
    assert row is not None
    return int(row[0])


def aside(lab: Lab) -> list[tuple[str, str]]:
    found = lab.database.run(quarantine.listed)
    return [(row.reason, row.detail["problem"]) for row in reversed(found)]
