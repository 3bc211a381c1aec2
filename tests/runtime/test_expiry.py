"""What has ended long ago is deleted, a bounded number of rows at a time, whole families last."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import sweeps
from orchestrator.store import expiry
from tests.runtime import chosen_flows, flows
from tests.runtime.lab import Lab


def expire(lab: Lab) -> int:
    return lab.database.run(sweeps.expire_completed, lab.settings)


def left(lab: Lab, table: str, execution: UUID) -> int:
    row = (
        lab.database.hot()
        .execute(
            f"SELECT count(*) FROM orchestrator.{table} WHERE execution_id = %s",
            (execution,),
        )
        .fetchone()
    )
    assert row is not None
    return int(row[0])


def fail() -> None:
    raise ValueError("no")


@pytest.mark.req("E14")
def test_a_child_outlives_a_parent_that_can_still_be_retried(lab: Lab) -> None:
    flows.behave["after_it"] = fail  # in the parent: its child has ended by then
    handle = lab.start(chosen_flows.parent, 2)
    worker = lab.worker()
    worker.deliver()
    child = lab.row(handle, "child")["child"]
    flows.behave.clear()
    worker.deliver()  # the child
    lab.advance(days=6)
    lab.drain(worker)
    assert handle.view().facts.status is ExecutionStatus.SUCCEEDED
    lab.advance(days=2)

    assert expire(lab) == 0  # the child ended eight days ago, its parent two
    assert left(lab, "steps", child) == 2
    lab.advance(days=6)
    assert expire(lab) == 1
    assert left(lab, "events", handle.execution_id) == 0
    assert left(lab, "steps", child) == 2
    assert expire(lab) == 1
    assert left(lab, "steps", child) == 0
    assert expire(lab) == 0


def test_a_parent_stays_while_a_child_of_it_is_open(lab: Lab) -> None:
    handle = lab.start(chosen_flows.parent, 2)
    worker = lab.worker()
    worker.deliver()
    [message] = lab.mail
    worker.claim(message)
    lab.client.cancel(handle.id)
    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    lab.advance(days=8)

    assert expire(lab) == 0


def test_a_batch_is_bounded_by_its_rows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(4):
        lab.start(flows.chain, 1)
    lab.start(flows.fan, 30)
    lab.drain()
    lab.advance(days=8)
    monkeypatch.setattr(expiry, "ROWS", 20)

    batches = []
    while deleted := expire(lab):
        batches.append(deleted)

    assert batches == [2, 2, 1]
