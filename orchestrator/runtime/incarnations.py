"""Processes that hold steps: their birth, their beat and the proof of their death (protocol.md 5).

An incarnation is one process start, never a name. The process holds a session advisory lock on it
over a connection of its own; the lock is gone milliseconds after a SIGKILL and still held under
SIGSTOP. The lock alone can lie: a database restart frees the locks of the living. So a process of
this host is dead when its lock is free *and* its pid with its start time is gone; one of another
host when its lock is free, it has missed its beats, and the looker has itself beaten without a gap
for longer than an outage takes to be noticed.

Behind a pooler that shares sessions there are no such locks: there the proof of a death is that the
process has not beaten for `silent_after`, to a looker who has, for longer than an outage takes.

When the broker hands out a message again and its holder's lock on another host is free, nothing is
certain, but waiting would be worse: the holder is taken for dead. Should it live, it finds that out
with its next beat, lives on as who it is now, and takes back the deaths that were counted.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import psutil

from orchestrator import telemetry
from orchestrator.records import StepAddress
from orchestrator.settings import Settings
from orchestrator.store import incarnations as store
from orchestrator.store import sweeping
from orchestrator.store.database import Connection, Database, is_transient
from orchestrator.store.incarnations import IncarnationFacts

log = logging.getLogger(__name__)

#: A step function that no living worker has is looked for again this often.
PARKED_AGAIN_AFTER = timedelta(seconds=60)
#: A step whose message met a worker without its function is offered again so soon.
POSTPONED = timedelta(seconds=5)


class Incarnation:
    """This process, as the others see it.

    Args:
        queues: the queues it consumes.
        functions: keys of the step functions it has.
        parent: incarnation of the main process, for a process of its pool.
    """

    def __init__(
        self,
        database: Database,
        *,
        queues: Sequence[str],
        functions: Collection[str],
        parent: UUID | None = None,
    ) -> None:
        self._database = database
        self._queues = list(queues)
        self._functions = sorted(functions)
        self._parent = parent
        self._session = database.direct()
        self._locked = True
        self.id = self._born()

    def tend(self, running: Sequence[tuple[StepAddress, int]] = ()) -> None:
        """Keep the lock: a new session after an outage, a new incarnation if declared dead.

        Called every beat. Raises nothing while the database is away: the next call tries again.

        Args:
            running: what it holds by its own account, (step run, token): if it was declared dead,
                its death is not counted against these.
        """
        # a session that was lost shows it when it is used
        for _ in range(1 if self._session.closed else 2):
            try:
                self._hold(running)
            except Exception as error:
                if not is_transient(error):
                    raise
                self._session.close()
            else:
                return

    def end(self, reason: str = "stopped", *, told: bool = False) -> None:
        """End this incarnation and free its lock.

        Args:
            told: the worker was told to stop, so nothing is to be blamed on what this process still
                holds. Without that a step run in its hands counts a death: it made the process
                leave, or at least nobody knows better.
        """
        try:
            parting = store.end(self._session, self.id, died=False if told else None, reason=reason)
        finally:
            self._session.close()
        telemetry.emit(
            "incarnation_ended",
            incarnation=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            reason=reason if parting is None else parting.reason,
        )

    def _hold(self, running: Sequence[tuple[StepAddress, int]]) -> None:
        if self._session.closed:
            self._session = self._database.direct()
            self._locked = self._database.transaction_pooling  # nothing to lock there
        if not store.is_alive(self._session, self.id):
            if store.take_back_death(self._session, self.id, sorted(running)):
                log.warning("this process was taken for dead: what it ran was given to others")
            self.id = self._born()
            self._locked = True
        elif not self._locked:
            self._locked = store.relock(self._session, self.id)

    def _born(self) -> UUID:
        identity = store.insert(
            self._session,
            parent=self._parent,
            host=socket.gethostname(),
            pid=os.getpid(),
            born_at=psutil.Process().create_time(),
            queues=self._queues,
            functions=self._functions,
            lock=not self._database.transaction_pooling,
        )
        store.unpark(self._session, self._functions)
        telemetry.emit(
            "incarnation_started",
            incarnation=identity,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._queues,
        )
        return identity


@dataclass(slots=True, kw_only=True)
class DeathWatch:
    """Looks for incarnations that have died.

    Attributes:
        own: incarnations that this process knows to live.
        confirmed_broker: False on a broker where a killed worker takes reserved messages with it.
        silence: for how long a process of another host must not have beaten: longer than two beats,
            with each of which a living one takes a lock again that an outage has freed.
        locks: False behind a pooler, where silence is all there is.
    """

    own: set[UUID] = field(default_factory=set)
    confirmed_broker: bool = True
    silence: timedelta = timedelta(seconds=5)
    locks: bool = True

    @classmethod
    def of(cls, settings: Settings) -> DeathWatch:
        """Return the watch that these settings ask for."""
        if settings.transaction_pooling:
            return cls(silence=settings.silent_after, locks=False)
        return cls(silence=2.5 * settings.beat_interval)

    def look(self, connection: Connection, *, steady: bool) -> list[UUID]:
        """Declare dead those whose death is proven; return them.

        Several transactions, each complete in itself.

        Args:
            steady: this process has beaten without a gap for longer than the outage guard.
        """
        alive = {found.id: found for found in store.alive(connection) if found.id not in self.own}
        suspects = list(alive)
        if suspects and self.locks:
            suspects = store.unlocked(connection, suspects)
        return [
            suspect
            for suspect in suspects
            if (proof := self._proof(alive[suspect], steady=steady))
            and self.declare(connection, suspect, proof)
        ]

    def _proof(self, found: IncarnationFacts, *, steady: bool) -> str | None:
        """Return what proves the death of one that holds no lock."""
        here = found.host == socket.gethostname()
        if here and _process_lives(found.pid, found.born_at):
            return None
        if here and self.locks:
            return "its lock is free and its process gone"
        if steady and found.silent >= self.silence:
            return f"it has not beaten for {found.silent.total_seconds():.0f} s"
        return None

    def declare(self, connection: Connection, incarnation: UUID, reason: str) -> bool:
        """End an incarnation known to be dead; offer its steps anew. False if it had ended."""
        parting = store.end(connection, incarnation, died=True, reason=reason)
        if parting is None:
            return False
        telemetry.emit(
            "incarnation_declared_dead", incarnation=incarnation, host=None, pid=None, proof=reason
        )
        if not self.confirmed_broker:
            sweeping.presume_lost(connection, parting.queues, parting.at)
        return True


def prove_dead(connection: Connection, address: StepAddress, settings: Settings) -> bool:
    """Return whether the holder of a redelivered step run is dead; declare it if so.

    The broker says that the consumer is gone; that proves nothing by itself (protocol.md 5), but
    with its lock free, and its process gone if it was one of this host, it is enough to go on. One
    of another host may have lost its connections and live: `Incarnation.tend` puts that right.
    Behind a pooler there is no lock to look at: the watch for missing beats decides.
    """
    found = store.holder_of(connection, address)
    if found is None:
        return True  # nobody holds it, or the holder has been declared dead already
    if settings.transaction_pooling:
        return False
    if not store.unlocked(connection, [found.id]):
        return False
    if found.host == socket.gethostname() and _process_lives(found.pid, found.born_at):
        return False
    return DeathWatch().declare(connection, found.id, "its message came back and its lock is free")


def postpone(connection: Connection, address: StepAddress, *, function: str) -> None:
    """Offer a step again later, without an attempt: this worker lacks its function.

    It is parked, with the function's name, while no living worker has it.
    """
    parked = not store.knows_function(connection, function)
    store.postpone(
        connection,
        address,
        delay=PARKED_AGAIN_AFTER if parked else POSTPONED,
        error={
            "kind": "parked" if parked else "postponed",
            "function": function,
            "message": f"no living worker has the step function {function}; deploy one that has it"
            if parked
            else f"the worker that got the message lacks the step function {function}",
        },
    )


def _process_lives(pid: int, born_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        same: bool = abs(process.create_time() - born_at) < 1
        zombie: bool = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return same and not zombie
