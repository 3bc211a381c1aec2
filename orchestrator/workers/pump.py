"""The pump: sends what is due, unsent or orphaned, so that no beat is needed for precision.

One thread of the main process of every worker. It asks one cheap question a second: when does the
next row want to be looked at? If that is now it sweeps until nothing is left; if it is sooner than
a second it sleeps just so long, and a start in somebody's own transaction rings when it is
committed. With every beat it looks for incarnations that have died and delivers what executions
have told each other. Several pumps do the same work without harm: they skip each other's locked
rows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from orchestrator import telemetry
from orchestrator.runtime import events, sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.incarnations import DeathWatch
from orchestrator.settings import Settings
from orchestrator.store import sweeping
from orchestrator.store.bell import Bell
from orchestrator.store.database import Connection, Database
from orchestrator.workers.sender import Sender

log = logging.getLogger(__name__)

#: After an error the pump pauses, twice as long each time, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
#: Rows can become due faster than they are swept; even so the pump looks at other duties.
_SWEEPS_IN_A_ROW = 20


class Pump:
    """See the module's text.

    Args:
        steady: whether this worker has beaten long enough to take expired leases for real.
        deaths: looks for the dead.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        catalogue: Catalogue,
        settings: Settings,
        *,
        deaths: DeathWatch,
        steady: Callable[[], bool],
    ) -> None:
        self._database, self._sender, self._settings = database, sender, settings
        self._catalogue = catalogue
        self._deaths, self._steady = deaths, steady
        self._next_look = 0.0
        self._pause = 0.0
        self._stopping = threading.Event()
        self._bell = Bell(database)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._bell.ring()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.is_set():
            try:
                wait = self._round()
                self._pause = 0.0
            except Exception as error:  # noqa: BLE001 - the pump goes on whatever happens
                self._pause = wait = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
                log.warning("the pump pauses for %g s: %s", wait, error)
            self._bell.wait(wait)
        self._bell.close()

    def _round(self) -> float:
        """Do what is to be done now; return for how many seconds nothing is."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._settings.beat_interval.total_seconds()
            self._database.run(look_for_dead, self._deaths, self._steady())
            relay(self._database, self._sender, self._catalogue, self._settings)
        self._sender.settle()
        interval = self._settings.pump_interval.total_seconds()
        for _ in range(_SWEEPS_IN_A_ROW):
            due = self._database.run(sweeping.next_due)
            if due is None or due > timedelta(0):
                return interval if due is None else min(interval, due.total_seconds())
            if not redrive(self._database, self._sender, self._settings, steady=self._steady()):
                return interval  # others have them
        return 0.0


def relay(database: Database, sender: Sender, catalogue: Catalogue, settings: Settings) -> int:
    """Deliver what executions have told each other and nobody handled; return how much it was."""
    messages, handled = events.deliver_all(database, catalogue, settings)
    sender.publish(messages)
    return handled


def redrive(database: Database, sender: Sender, settings: Settings, *, steady: bool) -> int:
    """Sweep once and send what the sweep wants sent; return how many rows were looked at."""
    began = time.monotonic()
    swept = database.run(sweeps.redrive, settings, steady=steady)
    sender.publish(swept.messages)
    for row in swept.in_doubt:
        database.run(sweeps.close_in_doubt, row, settings)
    if swept.messages or swept.in_doubt:
        telemetry.emit(
            "sweep_done",
            sweep="redrive",
            count=len(swept.messages) + len(swept.in_doubt),
            duration_ms=int((time.monotonic() - began) * 1000),
        )
    return swept.looked_at


def look_for_dead(connection: Connection, deaths: DeathWatch, steady: bool) -> int:
    """Declare dead who is proven dead; return how many."""
    return len(deaths.look(connection, steady=steady))
