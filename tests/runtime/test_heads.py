"""Every running row is in view: attended to itself, or behind a head that is (decision 008)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime import attempts
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.outcomes import Expanded
from tests.runtime import flows
from tests.runtime.lab import Lab
from tests.runtime.test_attacks import patiently
from tests.runtime.test_crash_table import attempt_of


def begun_by_the_expander(lab: Lab, handle: Any, worker: Any, items: list[int]) -> Any:
    """An each at the top that its worker has expanded, going on with item 0 inline."""
    [each_row] = worker.claim(lab.mail.popleft())
    expanded = replace(attempt_of(worker, each_row, nonce=99), outcome=Expanded(items))
    answer = commit(worker.database, expanded, lab.settings)
    assert [row.address.scope for row in answer.ordered if row.inline] == ["double[0]"]
    lab.post([])
    return answer


@pytest.mark.parametrize("how", ["die", "vanish"])
def test_an_item_behind_the_each_that_its_worker_expanded_is_found_when_that_worker_is_gone(
    lab: Lab, how: str
) -> None:
    handle = lab.start(flows.spread, [1, 2, 3])
    worker = lab.worker()
    begun_by_the_expander(lab, handle, worker, [1, 2, 3])
    getattr(worker, how)()

    patiently(lab)

    assert handle.result(0) == 12
    lab.sound(handle)


def test_an_each_that_waits_for_its_items_asks_for_no_message(lab: Lab) -> None:
    handle = lab.start(flows.spread, [1, 2])
    worker = lab.worker()
    begun_by_the_expander(lab, handle, worker, [1, 2])
    item = lab.address(handle, "double", "double[0]")

    for _ in range(4):
        lab.advance(seconds=20)
        lab.database.run(attempts.renew, [(item, 1)], lab.settings)
        lab.sweep()

    sent = [message for message in lab.mail if message.address.scope == ""]
    assert sent == []


def test_a_cancel_keeps_an_eye_on_what_runs_behind_a_head_that_it_closes(lab: Lab) -> None:
    handle = lab.start(flows.spread, [1, 2, 3])
    worker = lab.worker()
    begun_by_the_expander(lab, handle, worker, [1, 2, 3])
    lab.client.cancel(handle.id)
    worker.vanish()

    patiently(lab)

    assert handle.view().facts.status is ExecutionStatus.CANCELLED
    lab.sound(handle)


def test_a_rerun_keeps_an_eye_on_what_runs_behind_a_head_that_it_supersedes(lab: Lab) -> None:
    handle = lab.start(flows.spread, [1, 2, 3])
    worker = lab.worker()
    commit(
        worker.database,
        replace(
            attempt_of(worker, worker.claim(lab.mail.popleft())[0]),
            outcome=Expanded([1, 2, 3]),
            may_continue=lambda _name, _scope: False,
        ),
        lab.settings,
    )
    lab.advance(seconds=6)
    lab.sweep()
    first = next(m for m in lab.mail if m.address.scope == "double[0]")
    [claimed] = worker.claim(first, nonce=5)
    answer = commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)
    assert [row.address.scope for row in answer.ordered if row.inline] == ["double[2]"]
    lab.client.retry(handle.id, from_steps=[("double", "double[0]")])
    worker.vanish()

    patiently(lab)

    assert handle.result(0) == 12
    lab.sound(handle)


def test_a_head_stays_while_the_row_behind_it_is_being_recorded(lab: Lab) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    answer = commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)
    [behind] = [row for row in answer.ordered if row.inline]
    lab.advance(seconds=31)
    connection = worker.database.hot()
    with connection.transaction():  # the record of `second`, not committed yet
        commit(
            worker.database,
            replace(
                attempt_of(worker, replace(claimed, address=behind.address, token=1), 4),
                head=claimed.address,
            ),
            lab.settings,
        )
        lab.sweep()
    worker.vanish()

    patiently(lab)

    assert handle.result(0) == 1
    lab.sound(handle)


def test_a_late_worker_whose_head_was_relieved_leaves_an_eye_on_what_it_goes_on_with(
    lab: Lab,
) -> None:
    handle = lab.start(flows.chain, 1)
    worker = lab.worker()
    [claimed] = worker.claim(lab.mail.popleft())
    answer = commit(worker.database, attempt_of(worker, claimed, 2), lab.settings)
    [behind] = [row for row in answer.ordered if row.inline]
    lab.advance(seconds=31)
    lab.sweep()  # `second` is stranded and looked at by itself from now on
    again = replace(claimed, address=behind.address, token=behind.token)
    lab.database.run(attempts.renew, [(again.address, again.token)], lab.settings)

    late = replace(attempt_of(worker, again, 4), head=claimed.address)
    answer = commit(worker.database, late, lab.settings)
    assert [row.address.name for row in answer.ordered if row.inline] == ["third"]
    worker.vanish()
    lab.mail.clear()
    patiently(lab)

    assert handle.result(0) == 1
    lab.sound(handle)


def test_an_item_goes_on_in_view_though_a_rerun_superseded_the_head_of_its_segment(
    lab: Lab,
) -> None:
    handle = lab.start(flows.spread, [1, 2, 3, 4])
    worker = lab.worker()
    begun_by_the_expander(lab, handle, worker, [1, 2, 3, 4])
    lab.advance(seconds=6)
    lab.sweep()
    second = next(m for m in lab.mail if m.address.scope == "double[1]")
    [claimed] = worker.claim(second, nonce=5)
    answer = commit(worker.database, attempt_of(worker, claimed, 4), lab.settings)
    [behind] = [row for row in answer.ordered if row.inline]
    lab.client.retry(handle.id, from_steps=[("double", "double[1]")])
    again = replace(claimed, address=behind.address, token=behind.token)
    late = replace(attempt_of(worker, again, 6), head=claimed.address)
    answer = commit(worker.database, late, lab.settings)
    assert [row.address.scope for row in answer.ordered if row.inline] == ["double[3]"]
    worker.vanish()
    lab.mail.clear()
    patiently(lab)

    assert handle.result(0) == 20
    lab.sound(handle)
