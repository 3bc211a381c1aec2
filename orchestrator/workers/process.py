"""A process that runs steps: a child of the prefork pool, or the main process of the other pools.

Everything here is made after the fork, by and for one process: its database connections, its
sender, its incarnation. Each thread of a thread pool carries out its own deliveries with them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billiard import common
from celery import Celery
from celery.exceptions import Reject, WorkerTerminate
from celery.worker import state

from orchestrator.errors import NotFound, Unavailable
from orchestrator.records import Claimed, StepMessage
from orchestrator.runtime import delivery
from orchestrator.runtime.bodies import COROUTINES
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.delivery import Delivery, Ended
from orchestrator.runtime.incarnations import Incarnation
from orchestrator.settings import Settings
from orchestrator.store.database import Database
from orchestrator.workers import connect
from orchestrator.workers.board import Board
from orchestrator.workers.events import TaskEvents
from orchestrator.workers.mirror import ExecutionRows
from orchestrator.workers.notices import Desk, Running, mark_of

log = logging.getLogger(__name__)

#: Coroutines are cancelled by their own loop; the keeper comes second.
GRACE = 0.5
#: How often a process looks whether its body is asked to stop, in seconds.
LOOK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every process of a worker is told when it starts.

    Attributes:
        hostname: the worker's name for Celery's monitors.
        queues: what the worker consumes.
        sends_events: whether the worker tells Celery's monitors of tasks.
        draining: whether the worker is about to stop.
    """

    app: Celery
    catalogue: Catalogue
    settings: Settings
    hostname: str
    queues: tuple[str, ...]
    sends_events: bool
    draining: Callable[[], bool]


class StepProcess:
    """The steps of this process.

    Args:
        board, slot: where a pool process shows what it runs, and is asked to stop.
        parent: incarnation of the main process, for a process of its pool.
    """

    def __init__(
        self, job: Job, *, board: Board | None = None, slot: int = 0, parent: UUID | None = None
    ) -> None:
        self.desk = Desk(board, slot)
        self.database = connect.database(job.settings, patience=job.settings.delivery_budget)
        self.sender = connect.sender(connect.broker_of(job.app), self.database)
        self._job, self._board, self._slot, self._parent = job, board, slot, parent
        self._incarnation: Incarnation | None = None
        self._guard = threading.Lock()
        self._bodies: dict[int, delivery.Running] = {}
        self._own = threading.local()
        self._stopping = threading.Event()
        self.events = monitors(job, self.database)
        self._delivery = Delivery(
            database=self.database,
            catalogue=job.catalogue,
            settings=job.settings,
            holder=self.holder,
            publish=self.sender.publish,
            on_body=self._on_body,
            on_begin=self._on_begin,
            on_end=self._on_end,
            on_claim=self.desk.claimed,
            draining=job.draining,
        )

    def begin(self) -> None:
        """Become somebody: register, and keep the lock that proves this process alive."""
        COROUTINES.forget_after_fork()
        try:
            self.holder()
        except Exception as error:  # noqa: BLE001 - the first delivery tries again
            log.warning("cannot register this process yet: %s", error)
        if self._board is not None:
            threading.Thread(target=self._tend, name="tends the incarnation", daemon=True).start()

    def end(self, reason: str) -> None:
        """Leave; unless the worker was told to stop, with a step run in hand that is a death."""
        self._stopping.set()
        if self.events is not None:
            self.events.close()
        self.sender.close()
        with self._guard:
            if self._incarnation is not None:
                self._incarnation.end(reason, told=self._job.draining())
                self._incarnation = None

    def holder(self) -> UUID:
        """Return who this process is, registering it on first use."""
        with self._guard:
            if self._incarnation is None:
                pooled = self._board is not None
                self._incarnation = Incarnation(
                    self.database,
                    # Messages reserved for a pool process are the main process's.
                    queues=() if pooled else self._job.queues,
                    functions=self._job.catalogue.functions.keys(),
                    parent=self._parent,
                )
                self._introduce(self._incarnation.id)
            return self._incarnation.id

    def tend(self) -> None:
        """Keep the proof of life over an outage; called every beat."""
        with self._guard:
            if self._incarnation is not None:
                self._incarnation.tend([one.pair for one in self.desk.notice().running])
                self._introduce(self._incarnation.id)

    def deliver(self, message: StepMessage, *, redelivered: bool) -> tuple[int, Ended | None]:
        """Carry out a message; return how many attempts it came to, and how its own ended.

        Raises:
            Reject: the database stays away, and somebody else must have the message.
        """
        self._own.address, self._own.ended = message.address, None
        give_up = time.monotonic() + self._job.settings.ack_budget.total_seconds()
        try:
            while True:
                try:
                    attempts = self._delivery.run(message, redelivered=redelivered)
                except Unavailable as error:
                    log.warning("the database does not answer: %s", error)
                    if self._job.draining() or time.monotonic() > give_up:
                        raise Reject(error, requeue=True) from error
                    redelivered = True
                else:
                    return attempts, self._own.ended
        except NotFound as error:
            log.info("nothing to do for %s: %s", message.task, error)
            return 0, None
        finally:
            self.desk.runs(None)
            self.sender.settle()
            if self.events is not None:
                self.events.flush()

    def ask_to_stop(self, running: Running) -> None:
        """Ask a body of this process to stop."""
        for body in list(self._bodies.values()):
            if (body.claimed.address, body.claimed.token) == running.pair:
                body.step.ask_to_stop()

    def _introduce(self, incarnation: UUID) -> None:
        if self.desk.incarnation != incarnation:
            self.desk.incarnation = incarnation
            self.desk.post()

    def _on_body(self, body: delivery.Running | None) -> None:
        thread = threading.get_ident()
        if body is None:
            # What is recorded now keeps its lease until the next body or the end of the delivery.
            self._bodies.pop(thread, None)
            return
        self._bodies[thread] = body
        settings = self._job.settings
        self.desk.runs(
            Running(
                claimed=body.claimed,
                lease_until=body.began + settings.lease.total_seconds(),
                times_out_at=body.began + body.timeout.total_seconds() + GRACE,
            )
        )

    def _on_begin(self, claimed: Claimed, task: str, inline: bool) -> None:
        if self.events is not None:
            self.events.began(claimed, task, inline)

    def _on_end(self, ended: Ended) -> None:
        if not ended.inline and ended.claimed.address == self._own.address:
            self._own.ended = ended
        if self.events is not None:
            self.events.ended(ended)

    def _tend(self) -> None:
        interval = self._job.settings.beat_interval.total_seconds()
        next_tending = 0.0
        while not self._stopping.wait(LOOK):
            self._look_at_board()
            if self.sender.overdue(by=1.0):
                # No delivery has ended for a while: the process is idle, or in a long body.
                self.sender.settle()
                self.database.forget()
            if time.monotonic() >= next_tending:
                next_tending = time.monotonic() + interval
                try:
                    self.tend()
                except Exception as error:  # noqa: BLE001 - the next beat tries again
                    log.warning("cannot tend the incarnation: %s", error)

    def _look_at_board(self) -> None:
        if self._board is None:
            return
        asked = self._board.asked(self._slot)
        for body in list(self._bodies.values()):
            if asked == mark_of(body.claimed):
                body.step.ask_to_stop()


def is_interrupt(error: BaseException) -> bool:
    """Return whether a body raised this only because a signal ends its process.

    In a pool process SIGTERM raises SystemExit wherever its thread happens to be, and billiard
    notes it; what a body's cleanup raises on its way out is no failure either. A body of the solo
    pool can meet the WorkerTerminate of Celery's hard shutdown. The other signals of a shutdown,
    SIGINT among them, raise nothing: the main process only notes them and stops when no body runs
    any more, and pool processes ignore SIGINT. So a KeyboardInterrupt is always the body's own.
    """
    billiard: Any = common  # its stubs are of an older release
    if billiard.terminate_handler_fired():
        return True
    told: Any = state.should_terminate  # a status to leave with, which may be 0
    return told is not None and told is not False and isinstance(error, WorkerTerminate)


def monitors(job: Job, database: Database) -> TaskEvents | None:
    """Return what tells Celery's monitors of this process's work; None: nobody is to be told."""
    if not job.sends_events:
        return None
    rows = ExecutionRows(database=database, masked=job.settings.masked)
    return TaskEvents(job.app, connect.broker_of(job.app), job.hostname, rows)
