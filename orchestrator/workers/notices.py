"""Who runs what, said by those who run it and read by the keeper of their leases.

A pool process posts on the shared board; threads of the main process post into a dictionary. Both
say the same: which step runs they hold, under which token, and when lease and timeout end on the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from orchestrator.records import Claimed, StepAddress
from orchestrator.workers.board import Board

#: Per queue: when the newest message that was claimed had been wanted, and when it was claimed.
Claims = Mapping[str, tuple[str, str]]

_compact = json.JSONEncoder(separators=(",", ":")).encode  # `json.dumps` would make one each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A step run that is held right now.

    Attributes:
        lease_until: when the lease ends unless somebody renews it, on the monotonic clock.
        times_out_at: when this attempt has taken too long, on the monotonic clock.
    """

    claimed: Claimed
    lease_until: float
    times_out_at: float

    @property
    def pair(self) -> tuple[StepAddress, int]:
        """What its lease is known by: the step run and the token."""
        return self.claimed.address, self.claimed.token

    def to_list(self) -> list[Any]:
        """Return it as JSON scalars."""
        held = self.claimed
        return [
            str(held.address.execution_id),
            *held.address[1:],
            held.token,
            held.attempt,
            held.deaths,
            held.queue,
            held.definition_id,
            held.key,
            self.lease_until,
            self.times_out_at,
        ]

    @classmethod
    def from_list(cls, values: list[Any]) -> Running:
        """Read what `to_list` wrote."""
        execution, name, scope, run, token, attempt, deaths, queue, definition, key, *times = values
        return cls(
            claimed=Claimed(
                address=StepAddress(UUID(execution), name, scope, run),
                token=token,
                attempt=attempt,
                deaths=deaths,
                queue=queue,
                definition_id=definition,
                key=key,
            ),
            lease_until=times[0],
            times_out_at=times[1],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one process says about itself: who it is, what it runs, what it claimed last."""

    pid: int
    incarnation: UUID
    running: tuple[Running, ...] = ()
    claims: Claims = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return it as compact JSON."""
        held = [one.to_list() for one in self.running]
        document = [self.pid, self.incarnation.hex, held, self.claims]
        return _compact(document).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Notice:
        """Read what `to_bytes` wrote."""
        pid, incarnation, held, claims = json.loads(text)
        return cls(
            pid=pid,
            incarnation=UUID(incarnation),
            running=tuple(Running.from_list(values) for values in held),
            claims=claims,
        )


class Desk:
    """What the threads of this process run; a pool process shows it on the board.

    Args:
        board, slot: where a pool process posts; None for a process that keeps its own leases.
    """

    def __init__(self, board: Board | None = None, slot: int = 0) -> None:
        self.incarnation: UUID | None = None
        self._board, self._slot = board, slot
        self._running: dict[int, Running] = {}
        self._claims: dict[str, tuple[str, str]] = {}

    def runs(self, running: Running | None) -> None:
        """Say what this thread runs from now on."""
        if running is None:
            self._running.pop(threading.get_ident(), None)
        else:
            self._running[threading.get_ident()] = running
        self.post()

    def claimed(self, claimed: Claimed) -> None:
        """Remember a claim by message; it is told with the next notice."""
        if claimed.dispatched_at is not None:
            wanted, now = claimed.dispatched_at.isoformat(), datetime.now(UTC).isoformat()
            known = self._claims.get(claimed.queue)
            self._claims[claimed.queue] = (max(wanted, known[0]) if known else wanted, now)

    def post(self) -> None:
        """Put the notice of this process on the board."""
        if self._board is not None and self.incarnation is not None:
            self._board.write(self._slot, self.notice().to_bytes())

    def notice(self) -> Notice:
        """Return the notice of this process."""
        if self.incarnation is None:
            raise RuntimeError("this process has no incarnation yet")
        return Notice(
            pid=os.getpid(),
            incarnation=self.incarnation,
            running=tuple(self._running.copy().values()),
            claims=self._claims.copy(),
        )

    def notices(self) -> list[Notice]:
        """Return the notice of this process as a list: none before it is somebody."""
        return [] if self.incarnation is None else [self.notice()]


def mark_of(claimed: Claimed) -> int:
    """Return a number for a claim, by which a body is asked to stop; never 0."""
    return zlib.crc32(f"{claimed.address}/{claimed.token}".encode()) or 1


def posted(board: Board) -> list[Notice]:
    """Return the notices of all pool processes, living or dead."""
    found = (board.read(slot) for slot in range(board.slots))
    return [Notice.from_bytes(text) for text in found if text]
