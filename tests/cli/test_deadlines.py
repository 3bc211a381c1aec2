"""What the command line tells of an execution with a deadline, before and after it passed."""

from __future__ import annotations

from orchestrator import flow, signal
from tests.cli.conftest import Terminal
from tests.runtime.lab import Lab


@flow(deadline="1m30s")
def approved_in_time(n: int) -> str:
    return signal("approved", str)


def test_the_commands_say_when_the_deadline_is_and_that_it_has_passed(
    terminal: Terminal, lab: Lab
) -> None:
    handle = lab.start(approved_in_time, 1, key="o-1")
    lab.drain()
    shown = terminal.json("show", handle.id)
    assert shown["deadline"] is not None
    assert "deadline" in terminal("show", handle.id)

    lab.advance(seconds=91)
    lab.relay()

    why = "its deadline of 1m30s passed"
    assert why in terminal("show", handle.id)
    assert why in terminal("explain", handle.id)
    assert why in terminal("list")
    assert why in terminal("top", "--once")
    shown = terminal.json("show", handle.id)
    assert (shown["deadline"], shown["passed_deadline"]) == (None, "1m30s")
    [found] = terminal.json("list")["executions"]
    assert found["error"] == {"step": None, "kind": "DeadlinePassed", "message": why}
    for condition in ("error=DeadlinePassed", "status=failed error=KeyError,DeadlinePassed"):
        assert why in terminal("list", "--where", condition)
    for condition in ("error=KeyError", "error=DeadlinePassed step=approved"):
        assert "No execution matches." in terminal("list", "--where", condition)

    terminal("retry", handle.id)
    assert "No execution matches." in terminal("list", "--where", "error=DeadlinePassed")
    assert terminal.json("show", handle.id)["passed_deadline"] is None
    assert why not in terminal("list")
