"""Flows that the workers of these tests run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from orchestrator.flow.authoring import each, flow, step
from orchestrator.flow.retry import Retry
from orchestrator.flow.waits import signal as answered
from orchestrator.runtime.context import this_step


@step
def add(number: int, more: int = 1) -> int:
    return number + more


@step
def numbers(count: int) -> list[int]:
    return list(range(count))


@step
def square(number: int) -> int:
    return number * number


@step
def total(values: list[int]) -> int:
    return sum(values)


@step
def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@step
def wait_for(file: str) -> int:
    """Show that it runs, and run until it is let go."""
    Path(f"{file}.{this_step().attempt}").write_text(str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.02)
    return this_step().attempt


@step(timeout="2h")
def wait_long_for(file: str) -> int:
    """The same, for longer than a message may stay open."""
    Path(f"{file}.{this_step().attempt}").write_text(str(os.getpid()))
    while not Path(file).exists():
        time.sleep(0.02)
    return this_step().attempt


@step(timeout="1s")
def stop_when_asked(file: str) -> str:
    Path(f"{file}.{this_step().attempt}").write_text(str(os.getpid()))
    while not this_step().cancelled:
        time.sleep(0.02)
    Path(f"{file}.asked").touch()
    return "asked"


@step(timeout="1s", retry=Retry(attempts=2, first="0.1s"))
def hang(file: str) -> int:
    """Hold the interpreter's attention for ever, the first time."""
    if this_step().attempt > 1:
        return this_step().attempt
    Path(file).write_text(str(os.getpid()))
    while True:
        pass


@step
def die_once(file: str) -> int:
    if not Path(file).exists():
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return this_step().attempt


@step
def leave(how: str) -> int:
    """Make the process go that runs it, as if it had nothing to do any more."""
    if how == "exit":
        os._exit(0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    return 1


@step
def interrupt(number: int) -> int:
    raise KeyboardInterrupt(f"somebody pressed {number} keys")


@step
async def interrupt_softly(number: int) -> int:
    raise KeyboardInterrupt(f"somebody pressed {number} keys")


@step
def refuse(number: int) -> int:
    raise LookupError(f"there is no {number}")


@step(retry=Retry(attempts=2, first="0.1s"))
def fail_once(number: int) -> int:
    if this_step().attempt == 1:
        raise LookupError(f"there is no {number}")
    return number


@step
async def rest(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


@flow(version="1")
def chain(number: int) -> int:
    return add(add(add(add(number))))


@flow(version="1")
def napping(seconds: float) -> int:
    return nap.options(inline=False)(seconds)


@flow(version="1")
def urgent(number: int) -> int:
    return add.options(priority="high")(number)


@flow(version="1")
def urgent_there(number: int) -> int:
    return add(add.options(queue="annex", priority="high")(add(number)))


@flow(version="1")
def fan(count: int) -> int:
    return total(each(numbers(count), square))


@flow(version="1")
def waiting(file: str) -> int:
    return add(wait_for(file), 10)


@flow(version="1")
def stoppable(file: str) -> str:
    return stop_when_asked(file)


@flow(version="1")
def hanging(file: str) -> int:
    return add(hang(file))


@flow(version="1")
def dying(file: str) -> int:
    return add(die_once(file), 10)


@flow(version="1")
def leaving(how: str) -> int:
    return leave(how)


@flow(version="1")
def interrupting(number: int) -> int:
    return interrupt(add(number))


@flow(version="1")
def interrupting_softly(number: int) -> int:
    return interrupt_softly(add(number))


@flow(version="1")
def failing(number: int) -> int:
    return refuse(add(number))


@flow(version="1")
def failing_at_once(number: int) -> int:
    return refuse(number)


@flow(version="1")
def recovering(number: int) -> int:
    return add(fail_once(number))


@flow(version="1")
def resting(seconds: float) -> int:
    return add(rest(seconds))


@flow(version="1")
def stoppable_for_long(file: str) -> str:
    return stop_when_asked.options(timeout="1m")(file)


@flow(version="1")
def elsewhere(number: int) -> int:
    return add(add.options(queue="annex")(add(number)))


@flow
def waiting_long(file: str) -> int:
    return wait_long_for(file)


@step
def same(text: str) -> str:
    return text


@step
def greet(buyer: str, answer: str) -> str:
    return f"{buyer}: {answer}"


@flow(version="1")
def calling(number: int) -> int:
    return add(chain(number))


@flow(version="1")
def patient(card_number: str, buyer: str) -> str:
    return greet(buyer, answered("answer", str))


@flow(version="1")
def waiting_inline(file: str) -> int:
    return wait_for(same(file))


@flow(version="1", deadline="2s")
def hurried(file: str) -> str:
    return greet(stop_when_asked.options(timeout="1m")(file), answered("answer", str))
