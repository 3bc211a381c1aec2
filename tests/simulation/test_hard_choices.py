"""Waits, merges, items and calls that meet each other end right under any schedule.

The disturbances are those of `test_choosing_and_waiting`, and an operator who cancels nobody but
pauses, resumes and retries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.handles import Handle
from orchestrator.runtime.places import text_of
from tests.runtime import chosen_flows, flows, hard_flows
from tests.runtime.lab import Crash, Lab, check_sound
from tests.simulation.test_choosing_and_waiting import _disturb, _unreliable, is_one_of

#: By flow: the signal it waits for, and whether a result is right.
EXPECTED: dict[str, tuple[str | None, Callable[[int], Callable[[Any], bool]]]] = {
    "signal_or_large": ("go", lambda n: is_one_of("x", f"large {n}")),
    "call_or_large": (None, lambda n: is_one_of(n * 10 + 1, f"large {n}")),
    "waiting_items": (
        "number",
        lambda n: is_one_of(sum(5 + k * 10 for k in range(0, n, 2))),
    ),
    "calling_items": (None, lambda n: is_one_of(sum(k * 20 + 1 for k in range(0, n, 2)))),
    "items_or_large": (
        None,
        lambda n: is_one_of([k * 10 + 1 for k in range(n)], f"large {n}"),
    ),
    "merge_of_merges": (None, lambda n: is_one_of(f"small {n}", f"risky {n}", f"large {n}")),
    "fired_or_failed": (None, lambda n: is_one_of(f"noted risky {n}", f"noted large {n}")),
    "handled_loser": (
        None,
        lambda n: is_one_of(f"risky {n}", f"large {n}", "excused ValueError: shaky"),
    ),
    "beside_child": (None, lambda n: is_one_of(n * 10 + 1 + n * 100)),
    "branched_items": (None, lambda n: lambda found: found in range(0, 110 * (n + 1) ** 2, 110)),
    "picky": (None, lambda n: is_one_of(sum(k * 110 for k in range(n)))),
    "two_waits": (
        "go",
        lambda n: is_one_of(["x", "x"], [f"large {n}", "x"]),
    ),
}
#: Flows that end only when odd items do not fail, and those whose child fails with an odd number.
CURED, EVEN = {"items_or_large", "picky"}, {"call_or_large", "beside_child"}


@pytest.mark.req("E8")
@pytest.mark.req("E10")
@pytest.mark.parametrize("seed", range(8))
def test_what_meets_ends_right_whatever_happens(open_lab: Callable[..., Lab], seed: int) -> None:
    flows.ran.clear()
    flows.behave.clear()
    lab, chance = open_lab(), random.Random(seed)
    by_name = {flow.name: flow for flow in hard_flows.ALL}
    cured = chance.random() < 0.5
    if cured:
        flows.behave["cured"] = lambda: None
    names = [name for name in EXPECTED if (name in CURED) == cured or name not in CURED]
    handles: list[tuple[str, int, Handle[Any]]] = []
    for name in chance.sample(names, 8):
        n = 2 * chance.randrange(4) if name in EVEN else chance.randrange(5)
        handles.append((name, n, lab.start(by_name[name], n)))
    crew = [_unreliable(lab.worker(), chance) for _ in range(3)]
    _make_bodies_unreliable(chance)
    for _ in range(100):
        _disturb(lab, chance, crew, handles)
        _operate(lab, chance, handles)
        for _, _, handle in chance.sample(handles, 2):
            lab.sound(handle)
    for name in [name for name in flows.behave if name != "cured"]:
        del flows.behave[name]
    _finish(lab, handles)

    for name, n, handle in handles:
        right = EXPECTED[name][1](n)
        if cured and name in {"waiting_items", "calling_items", "branched_items"}:
            continue  # odd items may have been lost before or not
        assert right(handle.result(0)), (name, n, handle.result(0))
    connection = lab.database.hot()
    for (identity,) in connection.execute("SELECT id FROM orchestrator.executions").fetchall():
        check_sound(connection, identity)
    left = connection.execute(
        "SELECT count(*) FROM orchestrator.steps WHERE attend_at IS NOT NULL OR status IN"
        " ('ready', 'running', 'waiting') OR NOT counter_updated OR NOT message_sent"
    )
    assert left.fetchone() == (0,)


def _make_bodies_unreliable(chance: random.Random) -> None:
    def maybe_crash() -> None:
        if chance.random() < 0.06:
            raise Crash

    def maybe_fail() -> None:
        if chance.random() < 0.4:
            raise ValueError("shaky")

    for name in ("small", "large", "note", "fail_if_odd", "after_it", "items_of", "total"):
        flows.behave[name] = maybe_crash
    flows.behave["risky"] = flows.behave["other"] = maybe_fail


def _operate(lab: Lab, chance: random.Random, handles: list[tuple[str, int, Handle[Any]]]) -> None:
    name, _, handle = chance.choice(handles)
    act = chance.random()
    try:
        if act < 0.05:
            lab.client.pause(handle.id)
        elif act < 0.15:
            lab.client.resume(handle.id)
        elif act < 0.2:
            lab.client.retry(handle.id)
        elif act < 0.3:
            _send(lab, name, handle, key=chance.choice("abc"))
    except Conflict:
        pass


def _send(lab: Lab, name: str, handle: Handle[Any], *, key: str | None) -> None:
    signal = EXPECTED[name][0] if name in EXPECTED else None
    if signal is not None:
        lab.send(handle, signal, 5 if signal == "number" else "x", key=key)


def _finish(lab: Lab, handles: list[tuple[str, int, Handle[Any]]]) -> None:
    worker = lab.worker()
    for round_ in range(100):
        lab.relay()
        lab.drain(worker)
        lab.advance(minutes=20)
        lab.sweep()
        open_ones = [
            (name, handle, handle.facts())
            for name, _, handle in handles
            if handle.facts().status != "succeeded"
        ]
        if not open_ones and not lab.mail:
            for _ in range(3):
                lab.relay()
                lab.drain(worker)
                lab.advance(hours=2)
                lab.sweep()
            return
        for name, handle, facts in open_ones:
            lab.client.resume(handle.id)
            if facts.status == "failed":
                lab.client.retry(handle.id)
            elif round_ > 5:
                try:
                    _send(lab, name, handle, key=f"late {round_}")
                except Conflict:
                    assert handle.facts().finished_at is not None
    raise AssertionError(f"executions do not end: {[(n, f.status) for n, _, f in open_ones]}")


@pytest.mark.req("E8")
@pytest.mark.parametrize("seed", range(8))
def test_what_meets_stays_sound_whatever_operators_do(
    open_lab: Callable[..., Lab], seed: int
) -> None:
    flows.ran.clear()
    flows.behave.clear()
    lab, chance = open_lab(), random.Random(seed)
    by_name = {flow.name: flow for flow in [*chosen_flows.ALL, *hard_flows.ALL]}
    names = chance.sample([*EXPECTED, "excused", "grandparent", "two_of_three", "tolerant"], 6)
    handles: list[tuple[str, int, Handle[Any]]] = []
    for name in names:
        n = 2 * chance.randrange(3)
        handles.append((name, n, lab.start(by_name[name], n)))
    crew = [_unreliable(lab.worker(), chance) for _ in range(3)]
    _make_bodies_unreliable(chance)
    for _ in range(120):
        _disturb(lab, chance, crew, handles)
        _act_by_hand(lab, chance, handles)
        for _, _, handle in handles:
            lab.sound(handle)
    flows.behave.clear()
    flows.behave["cured"] = lambda: None
    _finish(lab, handles)
    connection = lab.database.hot()
    for (identity,) in connection.execute("SELECT id FROM orchestrator.executions").fetchall():
        check_sound(connection, identity)


def _act_by_hand(
    lab: Lab, chance: random.Random, handles: list[tuple[str, int, Handle[Any]]]
) -> None:
    name, _, handle = chance.choice(handles)
    act = chance.random()
    step = chance.choice(handle.view().steps).address
    place = text_of(step.name, step.scope)
    output = _output(step.name)
    try:
        if act < 0.05:
            lab.client.retry(handle.id, from_steps=[(step.name, step.scope)])
        elif act < 0.10:
            lab.client.complete(handle.id, place, output=output)
        elif act < 0.13:
            lab.client.fail(handle.id, place)
        elif act < 0.16:
            lab.client.skip(handle.id, place, output=output)
        elif act < 0.2:
            lab.client.retry(handle.id)
        elif act < 0.22:
            lab.client.pause(handle.id)
        elif act < 0.3:
            lab.client.resume(handle.id)
        elif act < 0.36:
            _send(lab, name, handle, key=None)
        elif act < 0.38:
            children = [s.child for s in handle.view().steps if s.child is not None]
            if children:
                lab.client.cancel(chance.choice(children))
    except (Conflict, NotFound, InvalidInput):
        pass


def _output(step: str) -> Any:
    """What an operator gives for the result of a step."""
    if step == "items_of":
        return [2, 4]
    if step.endswith("_item"):
        return []
    is_text = step.startswith(("go", "large", "small", "risky", "first_of", "note", "excuse"))
    return "x" if is_text else ["x", "y"] if step == "first_n" else 3
