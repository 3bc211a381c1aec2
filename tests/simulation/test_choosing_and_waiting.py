"""Flows that choose, wait and call end right under any schedule.

As in `test_any_schedule`, a seed decides what happens to messages and workers; here signals come at
any time too, doubled and late, workers die between a commit and what it wants sent or delivered,
and executions have children.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import Conflict
from orchestrator.handles import Handle
from orchestrator.records import StepMessage
from tests.runtime import chosen_flows, flows
from tests.runtime.chosen_flows import Approval, Order
from tests.runtime.lab import Crash, Lab, Worker, check_sound
from tests.simulation.test_any_schedule import replace_dead


def is_one_of(*values: Any) -> Callable[[Any], bool]:
    return lambda found: found in values


def two_texts(n: int) -> Callable[[Any], bool]:
    texts = {f"small {n}", f"large {n}", f"risky {n}"}
    return lambda found: len(set(found)) == 2 and set(found) <= texts


def size(n: int) -> str:
    return f"large {n * 50}" if n * 50 > 100 else f"small {n * 50}"


#: By flow: its input for n, and whether a result is right.
EXPECTED: dict[str, tuple[Callable[[int], Any], Callable[[int], Callable[[Any], bool]]]] = {
    "branch": (lambda n: Order(n * 50, []), lambda n: is_one_of(size(n))),
    "optional": (
        lambda n: Order(n * 50, []),
        lambda n: is_one_of(
            [f"large {n * 50}", f"noted large {n * 50}"] if n > 2 else [None, "noted None"]
        ),
    ),
    "nested": (
        lambda n: Order(50, [7] * n),
        lambda n: is_one_of(["large 50", "small 50" if n else None]),
    ),
    "excused": (
        lambda n: n,
        lambda n: is_one_of(f"noted risky {n}", "noted excused ValueError: shaky"),
    ),
    "race": (lambda n: n, lambda n: is_one_of(f"small {n}", f"large {n}")),
    "tolerant": (lambda n: n * 2, lambda n: is_one_of(sum(range(0, n * 2, 2)) * 10)),
    "tolerant_items": (
        lambda n: n,
        lambda n: is_one_of(sum(k * 10 + 1 for k in range(0, n, 2))),
    ),
    "approved": (lambda n: n, lambda n: is_one_of(f"small {n}", f"large {n}")),
    "patient": (lambda n: n, lambda n: is_one_of("noted None", f"noted large {n}")),
    "rested": (lambda n: n, lambda n: is_one_of(f"small {n}")),
    "parent": (lambda n: n * 2, lambda n: is_one_of(n * 20 + 2)),
    "grandparent": (lambda n: n * 2, lambda n: is_one_of(n * 20 + 3)),
}
WITH_SIGNALS = {"approved", "patient"}


@pytest.mark.req("E8")
@pytest.mark.req("E10")
@pytest.mark.parametrize("seed", range(8))
def test_choices_waits_and_children_end_right_whatever_happens(
    open_lab: Callable[..., Lab], seed: int
) -> None:
    flows.ran.clear()
    flows.behave.clear()
    lab, chance = open_lab(), random.Random(seed)
    by_name = {flow.name: flow for flow in chosen_flows.ALL}
    handles: list[tuple[str, int, Handle[Any]]] = []
    for name in chance.sample(list(EXPECTED), 8):
        n = chance.randrange(5)
        handles.append((name, n, lab.start(by_name[name], EXPECTED[name][0](n))))
    crew = [_unreliable(lab.worker(), chance) for _ in range(3)]
    _make_bodies_unreliable(chance)

    for _ in range(100):
        _disturb(lab, chance, crew, handles)
        for _, _, handle in chance.sample(handles, 2):
            lab.sound(handle)
    flows.behave.clear()
    _finish(lab, handles)

    for name, n, handle in handles:
        assert EXPECTED[name][1](n)(handle.result(0)), (name, n, handle.result(0))
    connection = lab.database.hot()
    for (identity,) in connection.execute("SELECT id FROM orchestrator.executions").fetchall():
        check_sound(connection, identity)
    left = connection.execute(
        "SELECT count(*) FROM orchestrator.steps WHERE attend_at IS NOT NULL OR status IN"
        " ('ready', 'running', 'waiting') OR NOT counter_updated OR NOT message_sent"
    )
    assert left.fetchone() == (0,)
    untold = "SELECT count(*) FROM orchestrator.events WHERE taken_at IS NULL AND kind <> 'signal'"
    assert connection.execute(untold).fetchone() == (0,)


def _unreliable(worker: Worker, chance: random.Random) -> Worker:
    """A worker that may die between a commit and what the commit wants sent."""

    def publish(messages: Sequence[StepMessage]) -> None:
        if chance.random() < 0.05:
            raise Crash
        worker.lab.post(messages)

    worker.delivery = replace(worker.delivery, publish=publish)
    return worker


def _make_bodies_unreliable(chance: random.Random) -> None:
    def maybe_crash() -> None:
        if chance.random() < 0.06:
            raise Crash

    def maybe_fail() -> None:
        if chance.random() < 0.4:
            raise ValueError("shaky")

    for name in ("price", "small", "large", "note", "fail_if_odd", "after_it", "items_of"):
        flows.behave[name] = maybe_crash
    flows.behave["risky"] = maybe_fail


def _disturb(
    lab: Lab, chance: random.Random, crew: list[Worker], handles: list[tuple[str, int, Handle[Any]]]
) -> None:
    """One thing happens."""
    index, act = chance.randrange(len(crew)), chance.random()
    if act < 0.60 and lab.mail:
        message = lab.mail[chance.randrange(len(lab.mail))]
        lab.mail.remove(message)
        try:
            _carry_out(chance, crew[index], message)
        except Crash:
            _replace(lab, chance, crew, index)
            if chance.random() < 0.5:
                lab.mail.append(message)  # the broker redelivers what was not acked
    elif act < 0.65 and lab.mail:
        del lab.mail[chance.randrange(len(lab.mail))]  # lost
    elif act < 0.70 and lab.mail:
        lab.mail.insert(chance.randrange(len(lab.mail) + 1), chance.choice(lab.mail))  # doubled
    elif act < 0.75 and lab.mail:
        lab.mark(chance.choice(lab.mail))
    elif act < 0.82:
        name, n, handle = chance.choice(handles)
        if name in WITH_SIGNALS:
            for _ in range(chance.choice([1, 2])):  # the sender may try again
                _send(lab, handle, ok=n % 2 == 0)
    elif act < 0.86:
        lab.relay()
    elif act < 0.93:
        lab.advance(seconds=chance.choice([1, 6, 20, 40]))
    else:
        lab.sweep(steady=chance.random() < 0.8)


def _carry_out(chance: random.Random, worker: Worker, message: StepMessage) -> None:
    if chance.random() < 0.05:
        worker.claim(message, nonce=chance.getrandbits(63))
        raise Crash
    worker.deliver(message, redelivered=chance.random() < 0.2)


def _replace(lab: Lab, chance: random.Random, crew: list[Worker], index: int) -> None:
    replace_dead(lab, chance, crew, index)
    crew[index] = _unreliable(crew[index], chance)


def _send(lab: Lab, handle: Handle[Any], *, ok: bool) -> None:
    try:
        lab.send(handle, "manager_ok", Approval(ok=ok), key="only")
    except Conflict:
        assert handle.facts().finished_at is not None


def _finish(lab: Lab, handles: list[tuple[str, int, Handle[Any]]]) -> None:
    """Everybody behaves from now on; signals come; days pass."""
    for name, n, handle in handles:
        if name == "patient":
            _send(lab, handle, ok=n % 2 == 0)
    worker = lab.worker()
    for _ in range(120):
        lab.relay()
        lab.drain(worker)
        lab.advance(hours=2)
        lab.sweep()
        rows = lab.database.hot().execute(
            "SELECT id, status FROM orchestrator.executions WHERE status <> 'succeeded'"
        )
        open_ones = rows.fetchall()
        if not open_ones and not lab.mail:
            lab.relay()
            lab.advance(hours=2)
            lab.sweep()
            return
        for identity, status in open_ones:
            if status == "failed":
                lab.client.retry(identity)
    raise AssertionError(f"executions do not end: {open_ones}")
