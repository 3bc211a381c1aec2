"""What the pool's processes are running, on a board that the main process can read without asking
them.

The board is anonymous shared memory, mapped before the pool forks. Each pool process writes into
the slot of its index and nobody else does; the pool gives an index away again only when the process
that had it is reaped. A body may hold the interpreter lock for minutes or the process may be
stopped: the notice still stands there, and the main process renews leases and enforces timeouts by
it.

The main process answers on the margin of the board: which body is asked to stop, whether the worker
is about to stop, and whether the main process has beaten steadily.

A slot is a sequence lock: the number is odd while the notice changes, and a reader that meets an
odd number, sees it change, or finds a wrong checksum reads again. A writer that is killed in the
middle leaves the number odd; the reader then keeps what it read last.
"""

from __future__ import annotations

import mmap
import zlib
from struct import Struct

SLOTS = 256
SLOT_SIZE = 32 * 1024

_HEAD = Struct("=QII")  # sequence, length, checksum
_SEQUENCE = Struct("=Q")
_ASKED = Struct("=I")
_DRAINING, _STEADY = 0, 1  # bytes on the margin, before the asked
_ASKED_AT = 8
_READS = 100


class Board:
    """Shared memory with one notice for each process of the pool."""

    def __init__(self, slots: int = SLOTS, slot_size: int = SLOT_SIZE) -> None:
        self.slots = slots
        self._size = slot_size
        self._margin = slots * slot_size
        self._memory = mmap.mmap(-1, self._margin + _ASKED_AT + slots * _ASKED.size)
        self._read: dict[int, tuple[int, bytes]] = {}

    def write(self, slot: int, notice: bytes) -> None:
        """Replace the notice of a slot; only its owner may."""
        start, room = slot * self._size, self._size - _HEAD.size
        if len(notice) > room:
            raise ValueError(f"a notice of {len(notice)} bytes does not fit into {room}")
        (sequence,) = _SEQUENCE.unpack_from(self._memory, start)
        changing = sequence | 1  # a killed predecessor may have left it odd
        # Assigned in one piece each: `pack_into` would show zeros for a moment.
        self._memory[start : start + _SEQUENCE.size] = _SEQUENCE.pack(changing)
        self._memory[start + _HEAD.size : start + _HEAD.size + len(notice)] = notice
        head = _HEAD.pack(changing, len(notice), zlib.crc32(notice))
        self._memory[start : start + _HEAD.size] = head
        self._memory[start : start + _SEQUENCE.size] = _SEQUENCE.pack(changing + 1)

    def read(self, slot: int) -> bytes:
        """Return the newest whole notice of a slot; empty if none was ever written."""
        start = slot * self._size
        for _ in range(_READS):
            sequence, length, checksum = _HEAD.unpack_from(self._memory, start)
            known = self._read.get(slot)
            if known is not None and known[0] == sequence:
                return known[1]
            if sequence == 0:
                return b""
            if sequence % 2 or length > self._size - _HEAD.size:
                continue
            notice = self._memory[start + _HEAD.size : start + _HEAD.size + length]
            if zlib.crc32(notice) == checksum and self._sequence(start) == sequence:
                self._read[slot] = (sequence, notice)
                return notice
        return self._read.get(slot, (0, b""))[1]

    def ask_to_stop(self, slot: int, mark: int) -> None:
        """Ask the body with this mark to stop."""
        start = self._margin + _ASKED_AT + slot * _ASKED.size
        self._memory[start : start + _ASKED.size] = _ASKED.pack(mark)

    def asked(self, slot: int) -> int:
        """Return the mark of the body that was last asked to stop here, or 0."""
        (mark,) = _ASKED.unpack_from(self._memory, self._margin + _ASKED_AT + slot * _ASKED.size)
        return int(mark)

    @property
    def draining(self) -> bool:
        """Whether the worker is about to stop."""
        return bool(self._memory[self._margin + _DRAINING])

    @draining.setter
    def draining(self, value: bool) -> None:
        self._memory[self._margin + _DRAINING] = value

    @property
    def steady(self) -> bool:
        """Whether the main process has beaten without a gap for long enough to trust silence."""
        return bool(self._memory[self._margin + _STEADY])

    @steady.setter
    def steady(self, value: bool) -> None:
        self._memory[self._margin + _STEADY] = value

    def _sequence(self, start: int) -> int:
        (sequence,) = _SEQUENCE.unpack_from(self._memory, start)
        return int(sequence)
