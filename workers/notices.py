"""Who runs what, said by those who run it and read by the keeper of their leases.

A pool process posts on the shared board; threads of the main process post into a dictionary. Both
say the same: which step runs they hold, under which token, and when lease and timeout end on the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from orchestrator.records import StepAddress
from workers.board import Board


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A step run that is held right now.

    Attributes:
        lease_until: when the lease ends unless somebody renews it, on the monotonic clock.
        times_out_at: when this attempt has taken too long, on the monotonic clock.
    """

    address: StepAddress
    token: int
    lease_until: float
    times_out_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one process says about itself: who it is, and what it runs."""

    pid: int
    incarnation: UUID
    running: tuple[Running, ...] = ()

    def to_bytes(self) -> bytes:
        """Return it as compact JSON."""
        held = [
            [str(it.address[0]), *it.address[1:], it.token, it.lease_until, it.times_out_at]
            for it in self.running
        ]
        return json.dumps([self.pid, self.incarnation.hex, held], separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Notice:
        """Read what `to_bytes` wrote."""
        pid, incarnation, held = json.loads(text)
        return cls(
            pid=pid,
            incarnation=UUID(incarnation),
            running=tuple(
                Running(
                    address=StepAddress(UUID(execution), name, scope, run),
                    token=token,
                    lease_until=lease_until,
                    times_out_at=times_out_at,
                )
                for execution, name, scope, run, token, lease_until, times_out_at in held
            ),
        )


class PoolDesk:
    """The desk of one pool process: posts into its slot of the board."""

    def __init__(self, board: Board, slot: int, incarnation: UUID) -> None:
        self._board, self._slot = board, slot
        self._incarnation = incarnation
        self.post(())

    def post(self, running: Sequence[Running]) -> None:
        """Say what this process runs from now on."""
        notice = Notice(pid=os.getpid(), incarnation=self._incarnation, running=tuple(running))
        self._board.write(self._slot, notice.to_bytes())


class ThreadDesk:
    """The desk of all threads of one process."""

    def __init__(self, incarnation: UUID) -> None:
        self._incarnation = incarnation
        self._by_thread: dict[int, tuple[Running, ...]] = {}

    def post(self, running: Sequence[Running]) -> None:
        """Say what this thread runs from now on."""
        if running:
            self._by_thread[threading.get_ident()] = tuple(running)
        else:
            self._by_thread.pop(threading.get_ident(), None)

    def notices(self) -> list[Notice]:
        """Return the one notice of this process."""
        everything = tuple(one for held in list(self._by_thread.values()) for one in held)
        return [Notice(pid=os.getpid(), incarnation=self._incarnation, running=everything)]


def posted(board: Board) -> list[Notice]:
    """Return the notices of all pool processes, living or dead."""
    found = (board.read(slot) for slot in range(board.slots))
    return [Notice.from_bytes(text) for text in found if text]
