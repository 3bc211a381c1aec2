"""Queues, sweeps, purges and the overview."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab


def fail() -> None:
    raise ValueError("the gateway said no")


def by_queue(found: Any) -> dict[str, Any]:
    return {one["queue"]: one for one in found["queues"]}


def test_queues_tell_what_waits_is_unsent_comes_later_and_runs(
    terminal: Terminal, lab: Lab
) -> None:
    lab.start(flows.chain, 1)
    sent = lab.start(flows.chain, 2)
    running = lab.start(flows.chain, 3)
    lab.mark(*[one for one in lab.mail if one.address.execution_id == sent.execution_id])
    worker = lab.worker()
    for message in [one for one in lab.mail if one.address.execution_id == running.execution_id]:
        worker.claim(message)
    flows.behave["shaky"] = fail
    lab.start(flows.retried, 4)
    worker.deliver(lab.mail.pop())

    found = by_queue(terminal.json("queue-depth"))["orchestrator"]

    assert (found["waiting"], found["unsent"], found["later"], found["running"]) == (2, 1, 1, 1)
    assert (found["overdue"], found["workers"]) == (0, 1)
    assert found["oldest"] is not None
    assert found["broker"]["messages"] is None, "that queue was never made"
    assert "orchestrator" in terminal("queue-depth")


def test_an_unknown_queue_or_sweep_is_told_with_a_near_miss(terminal: Terminal) -> None:
    assert "did you mean 'orchestrator'?" in terminal.refused("queue-depth", "orchestratr")
    assert "did you mean 'redrive'?" in terminal.refused("sweep", "redriv", code=2)


@pytest.mark.req("E13")
def test_the_overview_counts_flows_names_failures_and_the_stuck(
    terminal: Terminal, lab: Lab
) -> None:
    lab.start(flows.single, 1)
    lab.drain()
    flows.behave["second"] = fail
    failed = lab.start(flows.chain, 1)
    lab.drain()
    stuck = lab.start(flows.chain, 2)
    lab.advance(seconds=120)

    seen = terminal.json("top")

    tallies = {flow["flow"]: flow for flow in seen["flows"]}
    assert (tallies["chain"]["started"], tallies["chain"]["failed"]) == (2, 1)
    assert (tallies["single"]["succeeded"], tallies["single"]["median_s"] > 0) == (1, True)
    assert [one["id"] for one in seen["failures"]] == [failed.id]
    assert [one["id"] for one in seen["stuck"]] == [stuck.id]
    assert seen["open"] == 1
    assert {worker["functions"] > 0 for worker in seen["workers"]} == {True}
    text = terminal("top")
    assert "1 open" in text
    assert "ValueError: the gateway said no" in text


def test_purge_deletes_what_ended_long_ago_and_nothing_open(terminal: Terminal, lab: Lab) -> None:
    lab.start(flows.single, 1, key="old")
    lab.drain()
    waiting = lab.start(flows.single, 2)
    lab.advance(hours=3)

    assert terminal.json("purge")["deleted"] == 0
    assert terminal.json("purge", "--older-than", "2h", "--actor", "ann")["deleted"] == 1
    audit = lab.database.hot().execute("SELECT actor, act, detail FROM orchestrator.audit")
    assert audit.fetchall() == [("ann", "purge", {"older_than_s": 7200, "executions": 1})]
    assert [one["id"] for one in terminal.json("list")["executions"]] == [waiting.id]
    assert "is expired: only its key is left" in terminal.refused("show", "old")
    assert terminal("purge") == "0 executions deleted that ended more than 7 d ago.\n"


def test_a_sweep_by_hand_sends_what_is_unsent(terminal: Terminal, lab: Lab) -> None:
    handle = lab.start(flows.single, 1)
    lab.mail.clear()
    lab.advance(seconds=6)

    done = terminal.json("sweep", "redrive")

    assert [line["sweep"] for line in done["sweeps"]] == ["redrive"]
    assert done["sweeps"][0]["count"] == 1
    assert [message.address.execution_id for message in lab.mail] == [handle.execution_id]
    assert [line["sweep"] for line in terminal.json("sweep")["sweeps"]] == [
        *("recover", "relay", "redrive", "expire")
    ]
