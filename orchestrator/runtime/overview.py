"""What all executions together look like now: for `top`, `queue-depth` and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.runtime import search
from orchestrator.settings import Settings
from orchestrator.store import overview as store
from orchestrator.store import situation
from orchestrator.store.database import Database
from orchestrator.store.overview import FlowTally, QueueTally
from orchestrator.store.search import Found, Search
from orchestrator.store.situation import Living

_FAILURES = 5
#: A step that waits for so long in a queue without a worker is told of.
_PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A look at everything.

    Attributes:
        open: executions that are not paused and have not ended.
        stuck: some of those that do not move, the newest first.
        failures: the newest executions that failed within the window.
        quarantined: what waits in quarantine.
        workers: processes that run steps.
    """

    at: datetime
    window: timedelta
    open: int
    flows: tuple[FlowTally, ...]
    queues: tuple[QueueTally, ...]
    workers: tuple[Living, ...]
    failures: tuple[Found, ...]
    stuck: tuple[Found, ...]
    quarantined: int


def overview(database: Database, window: timedelta) -> Overview:
    """Look at the queues, the workers, and the executions started within a window."""
    failed = search.parse(f"status=failed since={window.total_seconds():.0f}s")
    return Overview(
        at=database.run_calm(situation.now),
        window=window,
        open=database.run_calm(store.open_executions),
        flows=tuple(database.run_calm(store.flows, window)),
        queues=tuple(queues(database)),
        workers=tuple(one for one in database.run_calm(situation.living) if one.functions),
        failures=tuple(search.matching(database, failed, limit=_FAILURES)),
        stuck=tuple(search.matching(database, Search(stuck=True), limit=_FAILURES)),
        quarantined=database.run_calm(store.set_aside),
    )


def queues(database: Database) -> list[QueueTally]:
    """Return every queue that has open step runs or consumers, by name."""
    return database.run_calm(store.queues)


def untaken(database: Database, settings: Settings) -> list[tuple[str, int]]:
    """Return by queue how many step runs wait in one that no living worker consumes."""
    return database.run_calm(store.untaken, settings.lease, _PATIENCE)
