"""Invariants hold for any schedule: messages lost, doubled, late; workers dying anywhere.

A seed decides everything that happens. The simulated broker is a list; a crash before or after a
write is a worker that stops between two moves. What is checked: the laws of `check_sound` while it
runs; at the end every execution has its result, each body has run at least once, and nothing is
left unsent, due or leased.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import LeaseLost
from orchestrator.handles import Handle
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime.delivery import commit
from tests.runtime import flows
from tests.runtime.lab import Crash, Lab, Worker
from tests.runtime.test_crash_table import attempt_of

EXPECTED: dict[str, Callable[[int], Any]] = {
    "chain": lambda n: (n + 1) * 2 - 3,
    "diamond": lambda n: (n + 1) * 2 + (n + 1) - 3,
    "hop": lambda n: (n + 1) * 2,
    "fan": lambda n: n * (n - 1),
    "tree": lambda n: sum(k * (k - 1) for k in range(n)),
    "retried": lambda n: n * 2,
    "fork": lambda n: [(n + 1) * 2, n + 1],
}


#: Names of eaches, and of steps whose bodies fail or ask about themselves.
NOT_PLAIN = {"key_of", "numbers", "double", "folder", "pair", "total", "shaky"}


@pytest.fixture
def simulated(open_lab: Callable[..., Lab]) -> Lab:
    flows.ran.clear()
    flows.behave.clear()
    return open_lab()


@pytest.mark.req("E8")
@pytest.mark.req("E10")
@pytest.mark.parametrize("seed", range(12))
def test_every_execution_ends_right_whatever_happens_to_messages_and_workers(
    simulated: Lab, seed: int
) -> None:
    lab, chance = simulated, random.Random(seed)
    by_name = {flow.name: flow for flow in flows.ALL}
    handles: list[tuple[str, int, Handle[Any]]] = []
    for _ in range(8):
        name, n = chance.choice(list(EXPECTED)), chance.randrange(5)
        handles.append((name, n, lab.start(by_name[name], n)))
    crew = [lab.worker() for _ in range(3)]
    make_unreliable(chance)

    for _ in range(120):
        disturb(lab, chance, crew)
        for _, _, handle in chance.sample(handles, 2):
            lab.sound(handle)
    flows.behave.clear()
    finish(lab, crew)

    for name, n, handle in handles:
        lab.sound(handle)
        assert handle.result(0) == EXPECTED[name](n)
    left = lab.database.hot().execute(
        "SELECT count(*) FROM orchestrator.steps WHERE attend_at IS NOT NULL OR status NOT IN"
        " ('succeeded', 'superseded') OR NOT counter_updated OR NOT message_sent"
    )
    assert left.fetchone() == (0,)


def make_unreliable(chance: random.Random) -> None:
    """Bodies die with their worker now and then, and `shaky` fails now and then."""

    def maybe_crash() -> None:
        if chance.random() < 0.06:
            raise Crash

    def maybe_fail() -> None:
        if chance.random() < 0.2:
            raise ValueError("shaky")

    for name in ("first", "second", "third", "add", "double", "total", "numbers"):
        flows.behave[name] = maybe_crash
    flows.behave["shaky"] = maybe_fail


def disturb(lab: Lab, chance: random.Random, crew: list[Worker]) -> None:
    """One thing happens."""
    index = chance.randrange(len(crew))
    worker = crew[index]
    act = chance.random()
    if act < 0.55 and lab.mail:
        deliver(lab, chance, crew, index)
    elif act < 0.60 and lab.mail:
        lab.loses(chance.choice(lab.mail))
    elif act < 0.66 and lab.mail:
        lab.mail.insert(chance.randrange(len(lab.mail) + 1), chance.choice(lab.mail))  # doubled
    elif act < 0.70 and lab.mail:
        lab.mark(*chance.sample(lab.mail, chance.randint(1, len(lab.mail))))  # perhaps old ones
    elif act < 0.74 and lab.mail:
        lab.lose = True  # the next commit is made, its messages are not sent
        deliver(lab, chance, crew, index)
        lab.lose = False
    elif act < 0.80 and lab.mail:
        crash_around_the_record(lab, chance, crew, index)
    elif act < 0.90:
        lab.advance(seconds=chance.choice([1, 6, 20, 40]))
    else:
        lab.sweep(steady=chance.random() < 0.8)
    assert worker is not None
    lab.counts_on_nothing_gone()


def deliver(lab: Lab, chance: random.Random, crew: list[Worker], index: int) -> None:
    """Deliver some message, not the first; a body may take its worker with it."""
    message = lab.mail[chance.randrange(len(lab.mail))]
    lab.mail.remove(message)
    try:
        crew[index].deliver(message, redelivered=chance.random() < 0.2)
    except Crash:
        replace_dead(lab, chance, crew, index)
        lab.mail.append(message)  # the broker redelivers what was not acked
        if chance.random() < 0.5:
            lab.loses(message)


def crash_around_the_record(
    lab: Lab, chance: random.Random, crew: list[Worker], index: int
) -> None:
    """Claim, record once or twice or never, and be gone; sometimes recorded again by the ghost."""
    message = lab.mail[chance.randrange(len(lab.mail))]
    lab.mail.remove(message)
    worker = crew[index]
    for claimed in worker.claim(message, nonce=chance.getrandbits(63)):
        if claimed.address.name in NOT_PLAIN:
            continue
        attempt = attempt_of(
            worker, claimed, right_value(lab, claimed), nonce=chance.getrandbits(63)
        )
        for _ in range(chance.choice([0, 1, 2])):
            try:
                commit(worker.database, attempt, lab.settings)
            except LeaseLost:
                break
    replace_dead(lab, chance, crew, index)


def right_value(lab: Lab, claimed: Any) -> Any:
    """What the body would have returned: run it on its real arguments."""
    from orchestrator.flow import planning, reading  # noqa: PLC0415
    from orchestrator.runtime import values  # noqa: PLC0415

    address = claimed.address
    registered = lab.database.run(lab.catalogue.definition, claimed.definition_id)
    reads = reading.reads(registered.graph, address.name, address.scope)
    found = lab.database.run(values.fetch, address.execution_id, reads)
    arguments = reading.arguments(registered.graph, address.name, address.scope, found)
    node = planning.level(registered.graph, address.scope).node(address.name)
    quiet, flows.behave = flows.behave, {}
    try:
        return lab.catalogue.step(node).body(**arguments)
    finally:
        flows.behave = quiet


def replace_dead(lab: Lab, chance: random.Random, crew: list[Worker], index: int) -> None:
    ending = chance.random()
    if ending < 0.5:
        crew[index].die()
    elif ending < 0.75:
        crew[index].leave()
    else:
        crew[index].vanish()
        crew[index].database.close()
    crew[index] = lab.worker()


def finish(lab: Lab, crew: list[Worker]) -> None:
    """Everybody behaves from now on; time passes; operators retry what was condemned."""
    for _ in range(200):
        lab.drain(crew[0])
        lab.advance(seconds=700)
        lab.sweep()
        rows = lab.database.hot().execute(
            "SELECT id, status FROM orchestrator.executions WHERE status <> 'succeeded'"
        )
        open_ones = rows.fetchall()
        statuses = Counter(status for _, status in open_ones)
        if not open_ones and not lab.mail:
            lab.advance(seconds=700)
            lab.sweep()
            return
        for identity, status in open_ones:
            if status == ExecutionStatus.FAILED:
                lab.client.retry(identity)
    raise AssertionError(f"executions do not end: {statuses}")
