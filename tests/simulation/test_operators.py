"""The same storm with operators in it: they pause, cancel, retry, re-run, repair, end steps."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.codec import decode, encode
from orchestrator.errors import Conflict, NotFound
from orchestrator.flow import planning, reading
from orchestrator.flow.graph import StepNode
from orchestrator.handles import Handle
from orchestrator.lifecycle import ENDED_STEP, ExecutionStatus, StepStatus
from orchestrator.runtime import attempts, operate, places, values
from tests.runtime import flows
from tests.runtime.lab import Lab, Worker
from tests.simulation.test_any_schedule import (
    EXPECTED,
    disturb,
    make_unreliable,
    replace_dead,
)

STARTS: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    **{name: (lambda n: n, result) for name, result in EXPECTED.items()},
    "spread": (lambda n: list(range(n)), lambda n: n * (n - 1)),
    "pairs": (lambda n: list(range(n)), lambda n: sum(2 * k + k - 3 for k in range(n))),
}


@pytest.mark.req("E8")
@pytest.mark.req("E10")
@pytest.mark.req("E12")
@pytest.mark.parametrize("seed", range(8))
def test_every_execution_ends_right_whatever_operators_do_meanwhile(
    open_lab: Callable[..., Lab], seed: int
) -> None:
    flows.ran.clear()
    flows.behave.clear()
    lab, chance = open_lab(), random.Random(seed)
    by_name = {flow.name: flow for flow in flows.ALL}
    handles: list[tuple[str, int, Handle[Any]]] = []
    for _ in range(8):
        name, n = chance.choice(list(STARTS)), chance.randrange(6)
        handles.append((name, n, lab.start(by_name[name], STARTS[name][0](n))))
    crew = [lab.worker() for _ in range(3)]
    make_unreliable(chance)

    for _ in range(150):
        if chance.random() < 0.35:
            operate_somehow(lab, chance, crew, chance.choice(handles)[2])
        else:
            disturb(lab, chance, crew)
        for _, _, handle in chance.sample(handles, 2):
            lab.sound(handle)
    flows.behave.clear()
    for worker in crew:
        worker.vanish()
        worker.database.close()
    finish(lab, handles)

    for name, n, handle in handles:
        lab.sound(handle)
        assert handle.result(0) == STARTS[name][1](n), name
    left = lab.database.hot().execute(
        "SELECT count(*) FROM orchestrator.steps WHERE attend_at IS NOT NULL OR status NOT IN"
        " ('succeeded', 'superseded') OR NOT counter_updated OR NOT message_sent"
    )
    assert left.fetchone() == (0,)


def operate_somehow(
    lab: Lab, chance: random.Random, crew: list[Worker], handle: Handle[Any]
) -> None:
    """An operator does something; what is refused changes nothing."""
    steps = handle.view().steps
    some = chance.choice(steps).address
    act = chance.randrange(11)
    try:
        if act == 0:
            lab.client.pause(handle.id)
        elif act in {1, 2}:
            lab.client.resume(handle.id)
        elif act == 3 and chance.random() < 0.5:
            lab.client.cancel(handle.id)
        elif act == 4:
            lab.client.retry(handle.id)
        elif act in {5, 6}:
            lab.client.retry(handle.id, from_steps=[(some.name, some.scope)])
        elif act == 7:
            lab.post(lab.database.run(operate.repair, lab.catalogue, some, lab.settings))
        elif act == 8:
            lab.client.fail(handle.id, places.text_of(some.name, some.scope))
        elif act == 9:
            complete_by_hand(lab, chance, handle)
        else:
            hand_back(lab, chance, crew)
    except (Conflict, NotFound):
        pass
    lab.sound(handle)


def complete_by_hand(lab: Lab, chance: random.Random, handle: Handle[Any]) -> None:
    """An operator does the work of a step, rightly, and says what came of it."""
    begun = {StepStatus.READY, StepStatus.RUNNING, StepStatus.FAILED}
    steps = [step.address for step in handle.view().steps if step.status in begun]
    if not steps:
        return
    some = chance.choice(steps)
    connection = lab.database.hot()
    graph = lab.catalogue.registered(connection, handle.view().facts.flow).graph
    node = planning.level(graph, some.scope).node(some.name)
    if not isinstance(node, StepNode):
        return
    found = values.fetch(
        connection, handle.execution_id, reading.reads(graph, some.name, some.scope)
    )
    given = reading.arguments(graph, some.name, some.scope, found)
    moods = dict(flows.behave)
    flows.behave.clear()
    output = lab.catalogue.step(node).body(**{name: decode(text) for name, text in given.items()})
    flows.behave.update(moods)
    lab.client.complete(handle.id, places.text_of(some.name, some.scope), output=encode(output))


def hand_back(lab: Lab, chance: random.Random, crew: list[Worker]) -> None:
    """A worker claims, cannot finish, and gives back; another takes its place."""
    if not lab.mail:
        return
    index = chance.randrange(len(crew))
    worker = crew[index]
    message = lab.mail[chance.randrange(len(lab.mail))]
    claims = worker.claim(message, nonce=chance.getrandbits(63))
    if chance.random() < 0.5:
        replace_dead(lab, chance, crew, index)
        return
    addresses = [claimed.address for claimed in claims]
    lab.database.run(attempts.hand_back, worker.id, addresses)
    worker.incarnation.end("handed back")
    crew[index] = lab.worker()


def finish(lab: Lab, handles: list[tuple[str, int, Handle[Any]]]) -> None:
    """Everybody behaves; operators resume what is paused and go on with what was cut off."""
    worker = lab.worker()
    for _ in range(60):
        lab.drain(worker)
        lab.advance(seconds=700)
        lab.sweep()
        still = 0
        for _, _, handle in handles:
            view = handle.view()
            if view.facts.status is ExecutionStatus.SUCCEEDED:
                continue
            still += 1
            if view.facts.paused:
                lab.client.resume(handle.id)
            if view.facts.status is ExecutionStatus.FAILED:
                lab.client.retry(handle.id)
            if view.facts.status is ExecutionStatus.CANCELLED:
                go_on(lab, handle)
        if not still and not lab.mail:
            lab.advance(seconds=700)
            lab.sweep()
            return
    raise AssertionError([(name, handle.view().facts.status) for name, _, handle in handles])


def go_on(lab: Lab, handle: Handle[Any]) -> None:
    """Re-run a cancelled execution from some step that has a row."""
    for step in handle.view().steps:
        if step.status in ENDED_STEP or step.status is StepStatus.CANCELLED:
            try:
                place = (step.address.name, step.address.scope)
                lab.client.retry(handle.id, from_steps=[place])
            except (Conflict, NotFound):
                continue
            return
