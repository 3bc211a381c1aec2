"""The keeper: keeps alive what runs in this worker, and notices what does not live any more.

One thread of the main process, for all its pool processes or threads. It

- *beats* for the incarnations of the worker, so that others see them living;
- *renews* the leases of exactly the step runs that are held (step and token), when less than half
of
  a lease is left. A body may hold the interpreter lock or be busy in C code: the keeper works
  beside it and knows from the board what it holds;
- *enforces timeouts*: the attempt is recorded as timed out first, which makes its token old; then
  its process is killed and the pool replaces it, or on threads the body is asked to stop. A body
  that ends in between finds its record refused: exactly one of the two outcomes is stored;
- *buries the dead*: a pool process that is gone has its incarnation ended with the reason, whether
it
  was idle or busy. `bury` does so for a caller who must not go on before it is done.

The keeper never gives up: what fails because the database is away is tried again with the next
round. It stops last, after the pool has run dry.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from orchestrator.records import StepAddress
from orchestrator.workers.deaths import Ending, Watch, ending_of
from orchestrator.workers.notices import Notice, Running

log = logging.getLogger(__name__)

#: How long the keeper sleeps when nothing wakes it, in seconds.
ROUND = 0.25
#: When the pool reaped a process before we saw its end, its request may still tell, in seconds.
HEARSAY = 0.5
#: A pool process that ended is buried before its message is requeued, but a database that is away
#: must not hold the worker's main loop longer than this, in seconds.
BURIAL_PATIENCE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Duties:
    """What the keeper calls; each is complete in itself and may raise, to be called again.

    Attributes:
        beat: renew the beat of these processes.
        renew: renew these leases; returns by step run whether it is asked to stop, those that are
            missing have lost their lease.
        time_out: record an attempt of this holder as timed out; False if it was recorded before.
        bury: end an incarnation: (id, how it ended, whether that is a death; None: it left by
            itself, and died if it still held a step).
        ask_to_stop: ask a body to stop.
        kills: whether a body that takes too long is stopped by killing its process.
    """

    beat: Callable[[Sequence[Notice]], None]
    renew: Callable[[Sequence[Running]], dict[StepAddress, bool]]
    time_out: Callable[[UUID, Running], bool]
    bury: Callable[[UUID, str, bool | None], None]
    ask_to_stop: Callable[[Notice, Running], None]
    kills: bool


@dataclass(slots=True)
class _Child:
    """A pool process as the keeper knows it."""

    incarnation: UUID
    timed_out: bool = False
    gone_since: float | None = None
    hearsay: Ending | None = None
    buried: threading.Event = field(default_factory=threading.Event)


class Keeper:
    """See the module's text.

    Args:
        notices: what this worker's processes say they run.
        duties: what to call.
        lease: the length of a lease, in seconds.
        beat_interval: seconds between two beats.
        outage_guard: for how long beats must not have failed before `steady`, in seconds.
    """

    def __init__(
        self,
        notices: Callable[[], Sequence[Notice]],
        duties: Duties,
        *,
        lease: float,
        beat_interval: float,
        outage_guard: float,
    ) -> None:
        self._notices = notices
        self._duties = duties
        self._lease, self._beat_interval = lease, beat_interval
        self._outage_guard = outage_guard
        self._watch = Watch()
        self._children: dict[int, _Child] = {}
        self._renewed: dict[tuple[StepAddress, int], float] = {}
        self._timed_out: set[tuple[StepAddress, int]] = set()
        self._beaten_at = float("-inf")
        self._steady_since = float("inf")
        self._orderly: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after a last round."""
        self._stopping.set()
        self._watch.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    @property
    def steady(self) -> bool:
        """Whether beats have reached the database for so long that silent leases mean something."""
        now = time.monotonic()
        return (
            now - self._beaten_at < 3 * self._beat_interval
            and now - self._steady_since >= self._outage_guard
        )

    def expect_ends(self, reason: str) -> None:
        """From now on pool processes end because they are told to: none of that is a death."""
        self._orderly = reason

    def bury(self, pid: int, hearsay: Ending) -> None:
        """Return when the incarnation of a process that ended is ended, or patience is over."""
        deadline = time.monotonic() + BURIAL_PATIENCE
        while (child := self._children.get(pid)) is None:
            # It died before the keeper saw its first notice; without any it had no incarnation.
            if time.monotonic() > deadline or all(one.pid != pid for one in self._notices()):
                return
            self._watch.wake()
            time.sleep(0.005)
        child.hearsay = hearsay
        self._watch.wake()
        if not child.buried.wait(max(0.0, deadline - time.monotonic())):
            log.warning("process %d is not buried yet: its message goes back before", pid)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._round()
            self._watch.wait(ROUND)
        self._round()

    def _round(self) -> None:
        notices = self._notices()
        self._meet(notices)
        alive = self._bury_the_dead(notices)
        self._try("end attempts that took too long", self._enforce_timeouts, alive)
        self._try("renew leases", self._renew, alive)
        if time.monotonic() >= self._beaten_at + self._beat_interval:
            self._try("beat", self._beat, alive)

    def _beat(self, alive: Sequence[Notice]) -> None:
        self._duties.beat(alive)
        now = time.monotonic()
        if now - self._beaten_at > 3 * self._beat_interval:
            self._steady_since = now
        self._beaten_at = now

    def _meet(self, notices: Sequence[Notice]) -> None:
        shown = {notice.pid for notice in notices}
        for pid, child in list(self._children.items()):
            if pid not in shown and child.buried.is_set():
                del self._children[pid]
        for notice in notices:
            known = self._children.get(notice.pid)
            if notice.pid == os.getpid() or (
                known is not None and known.incarnation == notice.incarnation
            ):
                continue
            self._children[notice.pid] = _Child(notice.incarnation)
            self._watch.add(notice.pid)

    def _bury_the_dead(self, notices: Sequence[Notice]) -> list[Notice]:
        alive = {os.getpid()}
        for pid, child in list(self._children.items()):
            if child.buried.is_set():
                continue
            ending = ending_of(pid)
            if ending is None:
                alive.add(pid)
                continue
            if ending.unknown:
                child.gone_since = child.gone_since or time.monotonic()
                ending = child.hearsay or ending
                if ending.unknown and time.monotonic() - child.gone_since < HEARSAY:
                    continue
            self._try("end an incarnation", self._bury, pid, child, ending)
        return [notice for notice in notices if notice.pid in alive]

    def _bury(self, pid: int, child: _Child, ending: Ending) -> None:
        reason = "a step took too long" if child.timed_out else self._orderly or str(ending)
        told = child.timed_out or self._orderly is not None
        self._duties.bury(child.incarnation, reason, False if told else ending.died or None)
        self._watch.remove(pid)
        child.buried.set()

    def _renew(self, notices: Sequence[Notice]) -> None:
        now = time.monotonic()
        held = [(notice, one) for notice in notices for one in notice.running]
        pairs = {one.pair for _, one in held}
        self._renewed = {pair: until for pair, until in self._renewed.items() if pair in pairs}
        due = [
            (notice, one)
            for notice, one in held
            if self._renewed.get(one.pair, one.lease_until) - now < self._lease / 2
        ]
        if not due:
            return
        answers = self._duties.renew([one for _, one in due])
        for notice, one in due:
            self._renewed[one.pair] = now + self._lease
            if answers.get(one.claimed.address, True):
                self._duties.ask_to_stop(notice, one)

    def _enforce_timeouts(self, notices: Sequence[Notice]) -> None:
        now = time.monotonic()
        held = [(notice, one) for notice in notices for one in notice.running]
        self._timed_out &= {one.pair for _, one in held}
        for notice, one in held:
            if now >= one.times_out_at and one.pair not in self._timed_out:
                self._end_attempt(notice, one)
                self._timed_out.add(one.pair)

    def _end_attempt(self, notice: Notice, running: Running) -> None:
        if not self._duties.time_out(notice.incarnation, running):
            return  # it ended at the last moment
        if not self._duties.kills:
            self._duties.ask_to_stop(notice, running)
        elif self._runs_still(notice.pid, running):
            self._children[notice.pid].timed_out = True
            log.warning("%s took too long: killing its process", running.claimed.address)
            os.kill(notice.pid, signal.SIGKILL)

    def _runs_still(self, pid: int, running: Running) -> bool:
        return any(
            one.pair == running.pair
            for notice in self._notices()
            if notice.pid == pid
            for one in notice.running
        )

    def _try(self, what: str, duty: Callable[..., object], *args: object) -> None:
        try:
            duty(*args)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("could not %s: %s", what, error)
