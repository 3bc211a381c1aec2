"""The board in shared memory."""

from __future__ import annotations

import os
import signal
import time
import uuid

import pytest

from orchestrator.records import Claimed, StepAddress
from orchestrator.workers.board import Board
from orchestrator.workers.notices import Desk, Notice, Running, mark_of, posted


def running(token: int = 1) -> Running:
    claimed = Claimed(
        address=StepAddress(uuid.uuid4(), "charge", "folder[3]", 0),
        token=token,
        attempt=2,
        deaths=1,
        queue="steps",
        definition_id=7,
        key="order-1",
    )
    return Running(claimed=claimed, lease_until=12.5, times_out_at=99.25)


def test_notice_comes_back_as_it_was_posted() -> None:
    notice = Notice(
        pid=17, incarnation=uuid.uuid4(), running=(running(), running(2)), claims={"a": ["x", "y"]}
    )

    assert Notice.from_bytes(notice.to_bytes()) == notice


def test_slot_nobody_wrote_is_empty() -> None:
    assert Board(slots=4).read(3) == b""


def test_notice_too_large_for_its_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Board(slots=1, slot_size=64).write(0, b"x" * 64)


def test_reader_sees_only_whole_notices_of_a_busy_writer() -> None:
    board = Board(slots=2)
    writer = os.fork()
    if writer == 0:
        number = 0
        while True:
            number += 1
            board.write(1, f"{number};".encode() * (number % 300 + 1))
    last, until = 0, time.monotonic() + 1
    while time.monotonic() < until:
        parts = set(board.read(1).decode().split(";")[:-1])
        assert len(parts) <= 1
        newest = int(parts.pop()) if parts else 0
        assert newest >= last
        last = newest
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert last > 0


def test_successor_of_a_killed_writer_can_post() -> None:
    board = Board(slots=1)
    board.write(0, b"first")
    board._memory[0] |= 1  # killed in the middle: the sequence number stays odd
    assert board.read(0) == b""

    board.write(0, b"second")

    assert board.read(0) == b"second"


def test_pool_process_posts_and_is_asked_to_stop() -> None:
    board, one = Board(slots=4), running()
    child = os.fork()
    if child == 0:
        desk = Desk(board, slot=2)
        desk.incarnation = uuid.UUID(int=5)
        desk.runs(one)
        until = time.monotonic() + 5
        while board.asked(2) != mark_of(one.claimed) and time.monotonic() < until:
            time.sleep(0.01)
        os._exit(0 if time.monotonic() < until else 1)
    until = time.monotonic() + 5
    while not (notices := posted(board)) and time.monotonic() < until:
        time.sleep(0.01)

    board.ask_to_stop(2, mark_of(one.claimed))

    (notice,) = notices
    assert (notice.pid, notice.incarnation) == (child, uuid.UUID(int=5))
    assert notice.running == (one,)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_flags_are_seen_on_the_other_side_of_a_fork() -> None:
    board = Board(slots=1)
    assert (board.draining, board.steady) == (False, False)
    child = os.fork()
    if child == 0:
        board.draining = board.steady = True
        os._exit(0)
    os.waitpid(child, 0)

    assert (board.draining, board.steady) == (True, True)
