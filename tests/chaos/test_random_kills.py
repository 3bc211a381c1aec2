"""Random kills: workers, pool processes, beats, broker and database, in any order.

Whatever was killed, in the end everything is sound: every execution has ended with its right
result, counters equal rows, nothing is left to be done, every step ran under one key.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.acceptance.conftest import OpenSite
from tests.acceptance.masses import Masses
from tests.acceptance.site import Site
from tests.acceptance.test_services import kill_everything_in_the_middle
from tests.chaos.conftest import ChaosTime
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.workers import BeatProcess, WorkerProcess

#: Executions started in one go, and how many may be open before more are started.
_BATCH, _OPEN = 12, 60


class Chaos:
    """Does one random harm after the other, and heals all of it at the end."""

    def __init__(
        self, site: Site, rabbit: PrivateRabbit, postgres: PrivatePostgres, seed: int
    ) -> None:
        self._site, self._rabbit, self._postgres = site, rabbit, postgres
        self._random = random.Random(seed)
        self.workers: list[WorkerProcess] = [
            site.worker(wait=False),
            site.worker(wait=False),
            site.worker(wait=False, pool="threads"),
        ]
        self.beats: list[BeatProcess] = [site.crew.beat(wait=False)]
        self._frozen: WorkerProcess | None = None
        self.done: list[str] = []

    def harm(self) -> None:
        """Do one harm; services are started again at once, they are slow enough."""
        harms: dict[Callable[[], None], int] = {
            self._kill_worker: 6,
            self._kill_child: 6,
            self._freeze_or_thaw: 4,
            self._kill_beat: 1,
            self._restart_broker: 1,
            self._restart_database: 2,
        }
        (chosen,) = self._random.choices(list(harms), weights=list(harms.values()))
        chosen()

    def heal(self) -> None:
        if self._frozen is not None:
            self._frozen.thaw()
        for program in [*self.workers, *self.beats]:
            if not program.running():
                program.start(wait=False)

    def _kill_worker(self) -> None:
        victim = self._random.choice(self.workers)
        if victim is self._frozen:
            self._frozen = None
        self._note(f"kill {victim.name}")
        if victim.running():
            victim.kill9()
        victim.start(wait=False)

    def _kill_child(self) -> None:
        children = [
            (worker, child.pid)
            for worker in self.workers
            if worker.running()
            for child in worker.children()
        ]
        if children:
            worker, pid = self._random.choice(children)
            self._note(f"kill child {pid} of {worker.name}")
            try:
                worker.kill9_child(pid)
            except (ValueError, ProcessLookupError):
                self._note("it was gone")

    def _freeze_or_thaw(self) -> None:
        if self._frozen is not None:
            self._note(f"thaw {self._frozen.name}")
            self._frozen.thaw()
            self._frozen = None
            return
        self._frozen = self._random.choice(self.workers)
        self._note(f"freeze {self._frozen.name}")
        self._frozen.freeze()

    def _kill_beat(self) -> None:
        (beat,) = self.beats
        self._note("kill beat")
        if beat.running():
            beat.kill9()
        beat.start(wait=False)

    def _restart_broker(self) -> None:
        if self._random.random() < 0.5:
            self._note("wipe the broker")
            self._rabbit.wipe()
        else:
            self._note("kill the broker")
            self._rabbit.kill9()
            self._rabbit.start()

    def _restart_database(self) -> None:
        self._note("stop the database")
        self._postgres.restart(immediate=True)

    def _note(self, what: str) -> None:
        self.done.append(f"{time.strftime('%H:%M:%S')} {what}")


@pytest.mark.timeout(400)
def test_everything_is_sound_after_random_kills(
    open_site: OpenSite,
    own_database_url: str,
    own_rabbit: PrivateRabbit,
    own_postgres: PrivatePostgres,
    chaos_time: ChaosTime,
) -> None:
    chaos_seconds, chaos_seed = chaos_time.seconds, chaos_time.seed
    site = open_site(own_database_url, own_rabbit.url, max_deaths=1000, test_work=0.05)
    chaos = Chaos(site, own_rabbit, own_postgres, chaos_seed)
    pauses = random.Random(chaos_seed + 1)
    masses = Masses(site)
    try:
        masses.start(_BATCH)
        over = time.monotonic() + chaos_seconds
        while time.monotonic() < over:
            time.sleep(pauses.uniform(0.2, 2.5))
            chaos.harm()
            if len(masses.handles) - site.ended() < _OPEN:
                masses.start(_BATCH)
        chaos.heal()
        masses.check_results(timeout=120)
        again = masses.bodies_run_again()
    except BaseException as error:
        error.add_note(f"CHAOS_SEED={chaos_seed}; what was done:\n" + "\n".join(chaos.done))
        raise
    harms = Counter(line.split()[1] for line in chaos.done)
    print(f"{len(masses.handles)} executions, {again} bodies ran again, {dict(harms)}")


@pytest.mark.timeout(600)
def test_everything_killed_in_the_middle_of_1000_executions_ends_by_itself(
    site_on_own_broker: Site, own_rabbit: PrivateRabbit, chaos_time: ChaosTime
) -> None:
    if not chaos_time.is_long:
        pytest.skip("takes minutes: run make chaos")
    kill_everything_in_the_middle(site_on_own_broker, own_rabbit, executions=1000)
