"""The runtime in one process: real database, virtual clock, workers that stop where a test wants.

A crash is simply not calling the next move: every public runtime function is one transaction, so
between two of them is where a process can die. Messages land in a list from which a test delivers,
doubles or drops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.client import Orchestrator
from orchestrator.flow.authoring import Flow
from orchestrator.handles import Handle
from orchestrator.records import Claimed, StepAddress, StepMessage
from orchestrator.runtime import bodies, events, sweeps
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.delivery import Delivery
from orchestrator.runtime.incarnations import DeathWatch, Incarnation
from orchestrator.settings import Settings
from orchestrator.store import moves
from orchestrator.store.database import Database


class Crash(BaseException):
    """The process is gone: not an error that a body could cause."""


@dataclass
class Worker:
    """One process that runs steps: its own connections, its own incarnation."""

    lab: Lab
    database: Database
    incarnation: Incarnation
    delivery: Delivery

    @property
    def id(self) -> UUID:
        return self.incarnation.id

    def deliver(self, message: StepMessage | None = None, *, redelivered: bool = False) -> int:
        """Carry out a message, by default the oldest one waiting."""
        message = message if message is not None else self.lab.mail.popleft()
        return self.delivery.run(message, redelivered=redelivered)

    def claim(self, message: StepMessage, *, nonce: int = 1) -> list[Claimed]:
        """Only claim: what a worker that dies in the body has done."""
        return self.database.run(
            moves.claim,
            [(message.address, message.number)],
            holder=self.id,
            lease=self.lab.settings.lease,
            nonce=nonce,
        )

    def die(self) -> None:
        """Be gone, and be proven gone, as by the process that reaps it."""
        self.incarnation._session.close()
        DeathWatch().declare(self.lab.database.hot(), self.id, "SIGKILL")
        self.database.close()

    def leave(self) -> None:
        """End by itself, whatever it holds, and say so."""
        self.incarnation.end()
        self.database.close()

    def vanish(self) -> None:
        """Be gone without anybody's proof: only the lease will tell."""
        self.incarnation._session.close()


@dataclass
class Lab:
    database: Database
    settings: Settings
    catalogue: Catalogue
    url: str
    mail: deque[StepMessage] = field(default_factory=deque)
    lose: bool = False
    lost: set[tuple[StepAddress, int]] = field(default_factory=set)
    workers: list[Worker] = field(default_factory=list)
    offset: timedelta = timedelta(0)

    @classmethod
    def open(cls, url: str, flows: Iterable[Flow[..., Any]], **settings: Any) -> Lab:
        bodies.interrupted_by(lambda error: isinstance(error, Crash))
        return cls(
            database=Database(url),
            settings=Settings(database_url=url, **settings),
            catalogue=Catalogue(flows),
            url=url,
        )

    @property
    def client(self) -> Orchestrator:
        return Orchestrator(
            self.database,
            self.settings,
            self.catalogue,
            publish=self.post,
            collect=lambda _seconds: [],
        )

    def post(self, messages: Sequence[StepMessage]) -> None:
        if self.lose:
            self.lost.update((message.address, message.number) for message in messages)
        else:
            self.mail.extend(messages)

    def loses(self, message: StepMessage) -> None:
        """Let a message that is under way never arrive."""
        self.mail.remove(message)
        self.lost.add((message.address, message.number))

    def worker(self, *, catalogue: Catalogue | None = None) -> Worker:
        """A new worker process."""
        known = catalogue if catalogue is not None else self.catalogue
        database = Database(
            self.url,
            clock_offset=self.offset,
            transaction_pooling=self.settings.transaction_pooling,
        )
        incarnation = Incarnation(database, queues=[self.settings.queue], functions=known.functions)
        delivery = Delivery(
            database=database,
            catalogue=known,
            settings=self.settings,
            holder=lambda: incarnation.id,
            publish=self.post,
        )
        made = Worker(self, database, incarnation, delivery)
        self.workers.append(made)
        return made

    def start(self, flow: Flow[..., Any], *args: Any, **kwargs: Any) -> Handle[Any]:
        return self.client.start(flow, *args, **kwargs)

    def drain(self, worker: Worker | None = None) -> None:
        """Deliver until no message waits."""
        runner = worker or self.worker()
        while self.mail:
            runner.deliver()

    def send(self, handle: Handle[Any], signal: str, value: Any, key: str | None = None) -> None:
        """Send a signal, as a client does."""
        sent = self.database.run(
            events.send,
            self.catalogue,
            handle.execution_id,
            signal,
            value,
            settings=self.settings,
            dedupe_key=key,
        )
        self.post(sent)

    def relay(self) -> int:
        """Deliver what executions have told each other, as pumps do; return how much it was."""
        messages, handled = events.deliver_all(self.database, self.catalogue, self.settings)
        self.post(messages)
        return handled

    def mark(self, *messages: StepMessage) -> None:
        """Confirm messages."""
        self.database.run(moves.mark_sent, messages)

    def sweep(self, *, steady: bool = True) -> sweeps.Swept:
        """Let a sweep look and send what it wants sent."""
        swept = self.database.run(sweeps.redrive, self.settings, steady=steady)
        self.post(swept.messages)
        for row in swept.in_doubt:
            self.database.run(sweeps.close_in_doubt, row, self.settings)
        return swept

    def advance(self, **by: float) -> None:
        """Move the virtual clock of everyone: ``advance(seconds=31)``."""
        step = timedelta(**by)
        self.offset += step
        for database in [self.database, *(worker.database for worker in self.workers)]:
            database.move_clock(step)

    def row(self, handle: Handle[Any], name: str, scope: str = "", run: int = 0) -> dict[str, Any]:
        """One row of `steps` as the database has it."""
        with self.database.hot().cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute(
                "SELECT * FROM orchestrator.steps"
                " WHERE execution_id = %s AND name = %s AND scope = %s AND run = %s",
                (handle.execution_id, name, scope, run),
            ).fetchone()
        assert found is not None, f"no row of {name} in {scope!r}"
        return found

    def address(self, handle: Handle[Any], name: str, scope: str = "", run: int = 0) -> StepAddress:
        return StepAddress(handle.execution_id, name, scope, run)

    def sound(self, handle: Handle[Any]) -> None:
        """Check the laws that hold for every execution at every moment."""
        check_sound(self.database.hot(), handle.execution_id)

    def counts_on_nothing_gone(self) -> None:
        """Check that each message that the rows count on is under way, or was lost by the broker.

        What was taken from a queue and came to nothing is gone, and no sweep may wait for it.
        """
        under_way = {(message.address, message.number) for message in self.mail}
        rows = self.database.hot().execute(
            """
            SELECT s.execution_id, s.name, s.scope, s.run, s.dispatch
              FROM orchestrator.steps s JOIN orchestrator.executions e ON e.id = s.execution_id
             WHERE s.status IN ('ready', 'running') AND s.dispatch > s.claimed AND s.message_sent
               AND s.due_at IS NULL
               AND e.status = 'running' AND NOT e.paused
            """
        )
        counted_on = {(StepAddress(*row[:4]), row[4]) for row in rows}
        assert counted_on <= under_way | self.lost, "a row waits for a message that is gone"

    def retire(self) -> None:
        """Close the connections of all workers: a server has only a hundred."""
        for worker in self.workers:
            worker.incarnation._session.close()
            worker.database.close()
        self.workers.clear()

    def close(self) -> None:
        self.retire()
        self.database.close()


def check_sound(connection: psycopg.Connection[Any], execution_id: UUID) -> None:
    """Counters agree with the rows, positions have no gap, an ended execution is all done."""
    row = connection.execute(
        """
        SELECT e.status, e.started, e.finished, e.failed, e.position, e.finished_at IS NOT NULL,
               count(s.*) FILTER (WHERE s.status <> 'superseded' AND s.counter_updated),
               count(s.*) FILTER (
                   WHERE s.status IN ('succeeded', 'skipped', 'failed', 'cancelled')),
               count(s.*) FILTER (WHERE s.status = 'failed'),
               count(s.*) FILTER (WHERE s.attend_at IS NOT NULL AND s.ended_no IS NULL),
               count(s.*) FILTER (WHERE s.status = 'waiting' AND s.live >= s.wanted),
               count(s.*) FILTER (WHERE s.status = 'running' AND s.attend_at IS NULL),
               count(s.*) FILTER (WHERE s.status NOT IN ('ready', 'running')
                                        AND s.attend_at IS NOT NULL),
               count(s.*) FILTER (WHERE s.status = 'ready' AND s.attend_at IS NULL
                                        AND coalesce(s.due_at < '9999-01-01', true)
                                        AND e.status = 'running' AND NOT e.paused)
          FROM orchestrator.executions e LEFT JOIN orchestrator.steps s ON s.execution_id = e.id
         WHERE e.id = %s GROUP BY e.id
        """,
        (execution_id,),
    ).fetchone()
    assert row is not None
    status, started, finished, failed, position, ended, rows, done, bad, attended, full, *eyes = row
    assert (started, finished, failed) == (rows, done, bad), "counters and rows disagree"
    assert ended == (status in {"succeeded", "failed", "cancelled"})
    assert ended == (started == finished), f"{status} with {finished} of {started} ended"
    assert full == 0, "a join has all its arrivals and waits"
    unseen, heads, unwanted = eyes
    assert not unseen or heads, "a step runs and no sweep would find it"
    assert unwanted == 0, "a step is ready and no sweep would find it"
    if ended:
        assert attended == 0, "a settled execution is still attended to"
    lines = [
        line[0]
        for line in connection.execute(
            "SELECT position FROM orchestrator.journal WHERE execution_id = %s ORDER BY 1",
            (execution_id,),
        )
    ]
    ends = [
        line[0]
        for line in connection.execute(
            "SELECT DISTINCT ended_no FROM orchestrator.steps"
            " WHERE execution_id = %s AND ended_no IS NOT NULL",
            (execution_id,),
        )
    ]
    assert max([*lines, *ends]) <= position
    settlements = connection.execute(
        "SELECT count(*) FROM orchestrator.journal WHERE execution_id = %s"
        " AND kind IN ('succeeded', 'failed', 'cancelled')",
        (execution_id,),
    ).fetchone()
    reopened = connection.execute(
        "SELECT count(*) FROM orchestrator.journal"
        " WHERE execution_id = %s AND kind IN ('retry', 'rerun', 'complete', 'skip')",
        (execution_id,),
    ).fetchone()
    assert settlements is not None
    assert reopened is not None
    assert settlements[0] <= 1 + reopened[0], "settled more than once"
