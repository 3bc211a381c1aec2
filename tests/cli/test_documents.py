"""The keys of the documents that commands print: programs read them, so they do not change.

A key may be added; one that is here is promised.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab

EXECUTION = {
    *("id", "flow", "version", "key", "status", "paused", "started", "finished", "failed"),
    *("reruns", "created_at", "finished_at"),
}
STEP = {
    *("step", "run", "id", "status", "queue", "attempt", "deaths", "counter_updated"),
    *("message_sent", "began_at", "ended_at", "seconds", "due_at", "closed_by", "error"),
}
ANSWER = {"code", "step", "why", "next", "command", "until"}
ACT = {
    *("act", "dry_run", "matched", "done", "unchanged", "refused", "left_alone", "canary"),
    "executions",
}


@pytest.mark.parametrize(
    ("words", "keys", "inner", "inner_keys"),
    [
        (("list",), {"executions", "more"}, "executions", {*EXECUTION, "seconds", "error"}),
        (
            ("show", "o-1"),
            {*EXECUTION, "seconds", "input", "result", "nodes", "steps"},
            "steps",
            STEP,
        ),
        (
            ("show", "o-1", "--step", "second"),
            {*STEP, "execution", "output", "progress", "worker", "earlier"},
            None,
            set(),
        ),
        (
            ("history", "o-1"),
            {*EXECUTION, "history"},
            "history",
            {"position", "at", "kind", "step", "run", "actor", "data"},
        ),
        (("explain", "o-1"), {*EXECUTION, "answer", "steps", "more"}, "steps", ANSWER),
        (("diagram", "o-1"), {"name", "title", "format", "states", "text"}, None, set()),
        (("retry", "o-1", "--dry-run"), ACT, "executions", {*EXECUTION, "done", "reason"}),
        (("retry", "o-1"), ACT, "executions", {*EXECUTION, "done", "reason"}),
        (("complete", "o-1", "second", "--output", "1"), {*EXECUTION, "act", "steps"}, None, set()),
        (
            ("queue-depth",),
            {"queues", "broker_problem"},
            "queues",
            {
                *("queue", "waiting", "unsent", "later", "running", "oldest", "overdue"),
                *("workers", "broker"),
            },
        ),
        (
            ("top",),
            {
                *("at", "window_s", "open", "quarantined", "flows", "queues", "workers"),
                *("failures", "stuck"),
            },
            "flows",
            {"flow", "started", "open", "succeeded", "failed", "cancelled", "median_s"},
        ),
        (("sweep",), {"sweeps"}, "sweeps", {"sweep", "count", "seconds"}),
        (("purge",), {"deleted", "older_than_s"}, None, set()),
        (
            ("doctor",),
            {"healthy", "problems", "warnings", "checks"},
            "checks",
            {"check", "verdict", "found", "fix"},
        ),
        (("quarantine", "list"), {"quarantine", "more"}, None, set()),
    ],
)
def test_the_keys_of_documents_are_promised(
    terminal: Terminal,
    lab: Lab,
    *,
    words: tuple[str, ...],
    keys: set[str],
    inner: str | None,
    inner_keys: set[str],
) -> None:
    def fail() -> None:
        raise ValueError("no")

    flows.behave["second"] = fail
    lab.start(flows.chain, 1, key="o-1")
    lab.drain()
    flows.behave.clear()

    found: Any = terminal.json(*words)

    assert set(found) >= keys
    if inner is not None:
        assert found[inner], "there is one to look at"
        assert all(set(one) >= inner_keys for one in found[inner])
