"""A worker as a crew: the main process with its keeper and pump, and the processes that run steps.

`Crew` follows a Celery worker through its life. Before the pool forks it maps the board and becomes
somebody in the database; each pool process then makes its own connections (`StepProcess`). On
thread and solo pools the main process is the one that runs steps. Keeper and pump start when the
pool is there. At the end the pump goes first and the keeper last, when the pool has run dry.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from billiard.process import current_process
from celery import Celery, bootsteps, signals
from celery.concurrency import get_implementation
from celery.concurrency.prefork import TaskPool as PreforkPool

from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.records import StepAddress, StepMessage
from orchestrator.runtime import attempts, sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.runtime.incarnations import DeathWatch, Incarnation
from orchestrator.runtime.queues import to_ask_for, unconsumed
from orchestrator.runtime.triggers import Trigger
from orchestrator.settings import Settings
from orchestrator.store import incarnations, situation, sweeping
from orchestrator.store.database import Database
from orchestrator.store.migrate import look, require_current
from orchestrator.workers import connect, notices
from orchestrator.workers.board import Board
from orchestrator.workers.deaths import leaving_with, told_by
from orchestrator.workers.events import TaskEvents
from orchestrator.workers.keeper import Duties, Keeper
from orchestrator.workers.notices import Notice, Running, mark_of
from orchestrator.workers.process import Job, StepProcess, monitors
from orchestrator.workers.pump import Pump, look_for_dead, redrive, relay
from orchestrator.workers.sender import Sender

T = TypeVar("T")

log = logging.getLogger(__name__)

#: The main process has loops that try again by themselves.
_MAIN_PATIENCE = timedelta(seconds=2)
#: How long a worker that starts waits for its database.
_START_PATIENCE = timedelta(seconds=60)


class Crew:
    """What a Celery application needs to work on flows; one per application."""

    def __init__(self, app: Celery, catalogue: Catalogue, settings: Settings) -> None:
        self.app, self.catalogue, self.settings = app, catalogue, settings
        self.triggers: tuple[Trigger, ...] = ()
        self.told_to_take_triggers = False
        self.board: Board | None = None
        self.process: StepProcess | None = None
        self.keeper: Keeper | None = None
        self._pump: Pump | None = None
        self._main = 0
        self._own: Incarnation | None = None
        self._database: Database | None = None
        self._sender: Sender | None = None
        self._events: TaskEvents | None = None
        self._job: Job | None = None
        self._deaths = DeathWatch.of(settings)
        signals.worker_init.connect(self._on_worker_init, weak=False)
        signals.worker_process_init.connect(self._on_process_init, weak=False)
        signals.worker_process_shutdown.connect(self._on_process_shutdown, weak=False)
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)
        app.steps["worker"].add(Background)

    # -- the life of a worker ------------------------------------------------------------------

    def _on_worker_init(self, sender: Any, **_: Any) -> None:
        """Before the pool is made: what the pool processes inherit."""
        if sender.app is not self.app:
            return
        self._main = os.getpid()
        self.board = Board()
        queues = tuple(self.app.amqp.queues.consume_from)
        self._job = Job(
            app=self.app,
            catalogue=self.catalogue,
            settings=self.settings,
            hostname=sender.hostname,
            queues=queues,
            sends_events=bool(sender.task_events),
            draining=lambda: self.board is not None and self.board.draining,
        )
        transport = self.app.connection().transport
        self._deaths.confirmed_broker = transport.driver_type == "amqp"
        if not self.catalogue.flows:
            print("Note: no module of this worker holds a flow, so it runs none", file=sys.stderr)
        self._wait_for_database()
        self._database = connect.database(self.settings, patience=_MAIN_PATIENCE)
        if issubclass(get_implementation(sender.pool_cls), PreforkPool):
            self._own = Incarnation(self._database, queues=queues, functions=())

    def _wait_for_database(self) -> None:
        """Register the flows once the database is there; end with a sentence if it is not ours."""
        database = connect.database(self.settings, patience=_START_PATIENCE)
        try:
            self._tell_if_away()
            database.run(_nothing)
            if not self.settings.transaction_pooling and database.meets_a_pooler():
                raise Unavailable(
                    "the database is reached through a pooler that shares sessions by transaction; "
                    "set ORCHESTRATOR_TRANSACTION_POOLING=1 (docs/operations.md says what the "
                    "role needs), or ORCHESTRATOR_DATABASE_URL to PostgreSQL itself"
                )
            require_current(self.settings.database_url)
            database.run(self.catalogue.register)
        except OrchestratorError as error:
            # Celery would log any other exception of a signal's receiver and go on.
            raise SystemExit(f"the worker does not start: {error}") from error
        finally:
            database.close()

    def _tell_if_away(self) -> None:
        """Say at once what is waited for; raise where waiting does not help."""
        try:
            look(self.settings.database_url)
        except Unavailable as error:
            patience = f"{_START_PATIENCE.total_seconds():.0f} s"
            # the log is not set up yet
            print(f"the worker waits for {patience}: {error}", file=sys.stderr, flush=True)

    def _on_process_init(self, **_: Any) -> None:
        """In a new process of the prefork pool."""
        if self._job is None or os.getpid() == self._main:
            return  # another application's worker, or a solo pool
        me: Any = current_process()
        self.process = StepProcess(
            self._job,
            board=self.board,
            slot=me.index,
            parent=None if self._own is None else self._own.id,
        )
        self.process.begin()

    def _on_process_shutdown(self, exitcode: int = 0, **_: Any) -> None:
        """In a process of the prefork pool that leaves by itself, whatever its exit code."""
        if self.process is not None and os.getpid() != self._main:
            self._quietly(self.process.end, leaving_with(exitcode))

    def _on_shutting_down(self, **_: Any) -> None:
        """The worker was told to stop: what runs is finished, nothing is continued inline."""
        if self.board is not None and os.getpid() == self._main:
            self.board.draining = True

    def start(self) -> None:
        """Start the keeper and the pump: the pool is there, nothing is consumed yet."""
        job = _the(self._job)
        database = _the(self._database)
        if self._own is not None:
            self._sender = connect.sender(connect.broker_of(self.app), database)
            self._events = monitors(job, database)
        else:
            self.process = StepProcess(job)
            self.process.begin()
            self._sender, self._events = self.process.sender, self.process.events
        self.keeper = Keeper(
            self._notices,
            self._duties(),
            lease=self.settings.lease.total_seconds(),
            beat_interval=self.settings.beat_interval.total_seconds(),
            outage_guard=self.settings.outage_guard.total_seconds(),
        )
        self.keeper.start()
        self._pump = Pump(
            database,
            self._sender,
            self.catalogue,
            self.settings,
            deaths=self._deaths,
            steady=lambda: self._steady,
        )
        self._pump.start()
        self._tell_of_queues()

    def _tell_of_queues(self) -> None:
        """Warn of steps of its flows that would lie in queues which nobody consumes."""
        try:
            others = _the(self._database).run_calm(situation.consumed, self.settings.lease)
        except OrchestratorError:
            return  # the database is away, and that is told already
        own, flows = self.consumed, self.catalogue.flows.values()
        missing = unconsumed(flows, self.settings, {*own, *others})
        wanted = ",".join((*to_ask_for(own, self.settings), *missing))
        for queue in missing:
            log.warning(
                "this worker has flows with steps on queue %r, which neither it nor another living "
                "worker consumes: start it with -Q %s, or another worker with -Q %s",
                queue,
                wanted,
                queue,
            )

    def stop(self) -> None:
        """Consuming has ended: stop the pump; the keeper goes on while the pool runs dry."""
        if self._pump is not None:
            self._pump.stop()

    def leave(self) -> None:
        """The pool is gone: leave in good order."""
        if self.keeper is not None:
            self.keeper.expect_ends("stopped")
            self.keeper.stop()
        if self.process is not None and os.getpid() == self._main:
            self._quietly(self.process.end, "stopped")
        if self._own is not None:
            self._quietly(self._own.end, "stopped")
        if self._events is not None:
            self._quietly(self._events.close)
        if self._sender is not None:
            self._quietly(self._sender.close)

    def drain(self, timeout: float) -> None:
        """Wait for what runs, at most ``timeout`` seconds; then hand the rest back."""
        board = _the(self.board)
        board.draining = True
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and any(one.running for one in self._notices()):
            time.sleep(0.1)
        if self.keeper is not None:
            self.keeper.expect_ends("handed back")
        for notice in self._notices():
            if notice.running:
                self._quietly(self._hand_back, notice)

    # -- what its processes do -----------------------------------------------------------------

    @property
    def step_process(self) -> StepProcess:
        """The steps of this process."""
        return _the(self.process)

    def bury(self, pid: int, error: object) -> None:
        """Return when the incarnation of a lost pool process is ended."""
        if self.keeper is not None:
            self.keeper.bury(pid, told_by(error))

    @property
    def consumed(self) -> tuple[str, ...]:
        """The queues that this worker was started to consume."""
        return () if self._job is None else self._job.queues

    @property
    def main_database(self) -> Database:
        """The connections of the main process, one per thread that uses them."""
        return _the(self._database)

    def publish(self, messages: Sequence[StepMessage]) -> None:
        """Send messages from the main process, without waiting; the pump marks them."""
        _the(self._sender).publish(messages)

    def offer_again(self, message: StepMessage) -> bool:
        """Have another message sent for a step that this worker has no slot for."""
        return _the(self._database).run(sweeping.offer_again, message.address, message.number)

    def put_off(self, message: StepMessage) -> bool:
        """Have another message sent, after a pause, for a step whose message is a dead letter."""
        return _the(self._database).run(sweeps.put_off, message, self.settings)

    def set_aside(self, letter: ForeignMessage, problem: str) -> None:
        """Put a dead letter that is no message of ours into quarantine."""
        _the(self._database).run(sweeps.set_aside, letter, problem)

    def redrive(self) -> int:
        """Sweep once, on behalf of beat; return how many rows were looked at."""
        process = self.step_process
        relay(process.database, process.sender, self.catalogue, self.settings)
        return redrive(process.database, process.sender, self.settings, steady=self._steady)

    def recover(self) -> int:
        """Look for the dead, on behalf of beat, and offer anew what they held; return how many."""
        found = self.step_process.database.run(look_for_dead, self._deaths, self._steady)
        self.redrive()
        return found

    def expire(self) -> int:
        """Delete what is old enough, in batches, on behalf of beat; return how much."""
        database = self.step_process.database
        total = 0
        batches = (
            sweeps.expire_completed,
            sweeps.expire_keys,
            sweeps.expire_inbox,
            sweeps.expire_quarantine,
            sweeps.forget_incarnations,
        )
        for batch in batches:
            while (deleted := database.run(batch, self.settings)) > 0:
                total += deleted
        return total

    # -- duties of the keeper ------------------------------------------------------------------

    def _notices(self) -> Sequence[Notice]:
        if self.process is not None:
            return self.process.desk.notices()
        return notices.posted(_the(self.board))

    def _duties(self) -> Duties:
        return Duties(
            beat=self._beat,
            renew=self._renew,
            time_out=self._time_out,
            bury=self._bury,
            ask_to_stop=self._ask_to_stop,
            kills=self.process is None,
        )

    def _beat(self, alive: Sequence[Notice]) -> None:
        if self._own is not None:
            self._own.tend()
        if self.process is not None:
            self.process.tend()
        claims = {notice.incarnation: notice.claims for notice in alive}
        if self._own is not None:
            claims[self._own.id] = {}
        self._deaths.own = set(claims)
        _the(self._database).run(incarnations.beat, claims)
        board = _the(self.board)
        board.steady = self._steady

    def _renew(self, running: Sequence[Running]) -> dict[StepAddress, bool]:
        pairs = [one.pair for one in running]
        return _the(self._database).run(attempts.renew, pairs, self.settings)

    def _time_out(self, holder: UUID, running: Running) -> bool:
        messages = attempts.time_out(
            _the(self._database), self.catalogue, self.settings, running.claimed, holder
        )
        if messages is None:
            return False
        _the(self._sender).publish(messages)
        if self._events is not None:
            self._events.moved(running.claimed.address.execution_id)
        return True

    def _bury(self, incarnation: UUID, how: str, died: bool | None) -> None:
        database = _the(self._database)
        if died:
            database.run(self._deaths.declare, incarnation, how)
        else:
            database.run(incarnations.end, incarnation, died=died, reason=how)

    def _ask_to_stop(self, notice: Notice, running: Running) -> None:
        if self.process is not None:
            self.process.ask_to_stop(running)
            return
        board = _the(self.board)
        for slot in range(board.slots):
            text = board.read(slot)
            if text and Notice.from_bytes(text).incarnation == notice.incarnation:
                board.ask_to_stop(slot, mark_of(running.claimed))

    def _hand_back(self, notice: Notice) -> None:
        addresses = [one.claimed.address for one in notice.running]
        database = _the(self._database)
        database.run(attempts.hand_back, notice.incarnation, addresses)
        database.run(incarnations.end, notice.incarnation, died=False, reason="handed back")
        redrive(database, _the(self._sender), self.settings, steady=False)

    @property
    def _steady(self) -> bool:
        if self.keeper is not None and os.getpid() == self._main:
            return self.keeper.steady
        return self.board is not None and self.board.steady

    def _quietly(self, act: Callable[..., object], *args: object) -> None:
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001 - it leaves anyway; others find what it held
            log.warning("while stopping: %s", error)


class Background(bootsteps.StartStopStep):
    """Celery's step for keeper and pump: after the pool, before anything is consumed."""

    requires = ("celery.worker.components:Pool",)

    def start(self, parent: Any) -> None:
        """Start them."""
        crew_of(parent.app).start()

    def stop(self, parent: Any) -> None:
        """Stop what has to stop before the pool."""
        crew_of(parent.app).stop()

    terminate = stop


def crew_of(app: Celery | None) -> Crew:
    """Return the crew of an attached application."""
    crew: Crew | None = getattr(app, "orchestrator", None)
    if crew is None:
        raise RuntimeError(
            "this application was not attached: call orchestrator.workers.app.attach(app, modules)"
        )
    return crew


def _nothing(_: object) -> None:
    """Only connect."""


def _the(made: T | None) -> T:
    if made is None:
        raise RuntimeError("this process is not part of a worker")
    return made
