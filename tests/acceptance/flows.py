"""Flows whose bodies leave traces outside of the database, and that wait where a test wants.

Every body notes that it ran: a line in a file of the test's folder, appended in one write, so that
no death loses half of it. A gate is a name: a body that comes to a gate shows the number of its
attempt there and waits until the test opens it, so a kill hits the middle of a body and no timer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

from orchestrator import Retry, each, flow, step, this_step

#: Where bodies note that they ran and where gates stand.
FOLDER = "ORCHESTRATOR_TEST_FOLDER"
#: How long a body that notes works afterwards, so that random kills hit bodies, in seconds.
WORK = "ORCHESTRATOR_TEST_WORK"
_LOOK = 0.01


def folder() -> Path:
    return Path(os.environ[FOLDER])


def note(body: str) -> None:
    """Append one line: which body ran, for which step, in which process."""
    this = this_step()
    line = {
        "body": body,
        "execution": this.execution_id,
        "scope": this.scope,
        "key": this.id,
        "attempt": this.attempt,
        "pid": os.getpid(),
    }
    notes = os.open(folder() / "ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(notes, json.dumps(line).encode() + b"\n")
    finally:
        os.close(notes)
    if WORK in os.environ:
        time.sleep(float(os.environ[WORK]))


def arrive(gate: str) -> None:
    """Show that this attempt has come to the gate."""
    (folder() / f"{gate}.reached.{this_step().attempt}").write_text(str(os.getpid()))


def pass_gate(gate: str) -> None:
    """Arrive, and wait until the gate is open."""
    arrive(gate)
    while not (folder() / f"{gate}.open").exists():
        time.sleep(_LOOK)


# Steps


@step
def add(number: int) -> int:
    note("add")
    return number + 1


@step(inline=False)
def add_apart(number: int) -> int:
    """Always by a message of its own."""
    note("add_apart")
    return number + 1


@step
def numbers(count: int) -> list[int]:
    note("numbers")
    return list(range(count))


@step
def square(number: int) -> int:
    note("square")
    return number * number


@step
def total(values: list[int]) -> int:
    note("total")
    return sum(values)


@step
def plus(one: int, other: int) -> int:
    note("plus")
    return one + other


@step
def hold(gate: str) -> int:
    """Wait at the gate; which attempt came through is the result."""
    note("hold")
    pass_gate(gate)
    return this_step().attempt


@step
def hold_item(item: str) -> int:
    """Wait at the item's own gate."""
    note("hold_item")
    pass_gate(item)
    return this_step().attempt


@step
def names(gate: str, count: int) -> list[str]:
    return [f"{gate}{index}" for index in range(count)]


@step
async def rest(seconds: float) -> int:
    note("rest")
    await asyncio.sleep(seconds)
    return os.getpid()


@step(timeout="500ms", retry=Retry(attempts=2, first="100ms"))
def hang_once(gate: str) -> int:
    """For ever the first time, without ever giving the processor away."""
    note("hang_once")
    arrive(gate)
    while this_step().attempt == 1:
        pass
    return this_step().attempt


@step(timeout="500ms")
def hang(gate: str) -> int:
    note("hang")
    arrive(gate)
    while not this_step().cancelled:
        time.sleep(_LOOK)
    arrive(f"{gate}.asked")
    return 0


@step(timeout="500ms")
async def hang_gently(gate: str) -> int:
    note("hang_gently")
    arrive(gate)
    await asyncio.Event().wait()
    return 0


@step
def kill_own_process(number: int) -> int:
    note("kill_own_process")
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@step(retry=Retry(attempts=3, first="300ms", factor=2, jitter=False))
def fail_twice(number: int) -> int:
    note("fail_twice")
    if this_step().attempt < 3:
        raise LookupError(f"there is no {number} yet")
    return number


@step
def need(gate: str) -> int:
    """Fail until the test opens the gate."""
    note("need")
    if not (folder() / f"{gate}.open").exists():
        raise LookupError(f"{gate} is closed")
    return 1


@step
def read_price(file: str) -> int:
    """Read what lies outside: it may be another price each time."""
    note("read_price")
    return int((folder() / file).read_text())


@step
def lines(count: int, width: int) -> list[list[int]]:
    return [[line, width] for line in range(count)]


@step
def cells(line: list[int]) -> list[list[int]]:
    return [[line[0], column] for column in range(line[1])]


@step
def times(cell: list[int]) -> int:
    return cell[0] * cell[1]


@step(retry=Retry(attempts=2, first="100ms"))
def divide(number: int) -> float:
    note("divide")
    return 1 / (number - 3)


@step
def beat_until_told(gate: str) -> str:
    """Report progress until the body is asked to stop."""
    note("beat_until_told")
    arrive(gate)
    beats = 0
    while not this_step().cancelled:
        beats += 1
        this_step().heartbeat({"beats": beats})
        time.sleep(_LOOK)
    arrive(f"{gate}.told")
    return "told"


@step(queue="elsewhere")
def add_elsewhere(number: int) -> int:
    """On a queue that only some workers consume."""
    note("add_elsewhere")
    return number + 1


# Flows


@flow(version="1")
def line(number: int) -> int:
    """Four steps in one delivery."""
    return add(add(add(add(number))))


@flow(version="1")
def hops(number: int) -> int:
    """Four steps by four messages."""
    return add_apart(add_apart(add_apart(add_apart(number))))


@flow(version="1")
def fan(count: int) -> int:
    return total(each(numbers(count), square))


@flow(version="1")
def diamond(number: int) -> int:
    first = add(number)
    return plus(add_apart(first), add_apart(first))


@flow(version="1")
def mixed(number: int) -> int:
    """A hop, a fan-out, a join: what the masses are made of."""
    spread = each(numbers(3), square.options(inline=False))
    return plus(total(spread), add_apart(number))


@flow(version="1")
def gated(gate: str) -> int:
    return add(hold(gate))


@flow(version="1")
def gated_behind(gate: str) -> int:
    """The gate stands behind another step of the same delivery."""
    before = add.options(name="before")(1)
    return add(hold.options(after=[before])(gate))


@flow(version="1")
def gated_apart(gate: str) -> int:
    """What follows the gate is ordered by a message."""
    return add(add_apart(hold(gate)))


@flow(version="1")
def gated_items(gate: str, count: int) -> int:
    return total(each(names(gate, count), hold_item))


@flow(version="1")
def gated_elsewhere(gate: str) -> int:
    return add(add_elsewhere(hold(gate)))


@flow(version="1")
def resting(seconds: float) -> int:
    return rest(seconds)


@flow(version="1")
def hanging_once(gate: str) -> int:
    return add(hang_once(gate))


@flow(version="1")
def hanging(gate: str) -> int:
    return add(hang(gate))


@flow(version="1")
def hanging_gently(gate: str) -> int:
    return add(hang_gently(gate))


@flow(version="1")
def deadly(number: int) -> int:
    return add(kill_own_process(number))


@flow(version="1")
def failing_twice(number: int) -> int:
    return add(fail_twice(number))


@flow(version="1")
def needing(gate: str) -> int:
    before = add.options(name="before")(1)
    return add(need.options(after=[before])(gate))


@flow(version="1")
def telling(gate: str) -> str:
    return beat_until_told(gate)


@flow(version="1")
def pricing(file: str) -> int:
    before = add.options(name="before")(1)
    return add(read_price.options(after=[before])(file))


@flow(version="1")
def one_line(line: list[int]) -> int:
    return total(each(cells(line), times))


@flow(version="1")
def grid(count: int, width: int) -> int:
    return total.options(name="total_2")(each(lines(count, width), one_line))


@flow(version="1")
def partly_failing(count: int) -> int:
    return total(each(numbers(count), divide))
