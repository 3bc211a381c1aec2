"""Listing, showing, explaining: what the rows say, as a document and as text."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab


def fail() -> None:
    raise ValueError("the gateway said no")


@pytest.fixture
def shop(lab: Lab) -> dict[str, Any]:
    """One execution of each kind: succeeded, failed, waiting."""
    done = lab.start(flows.chain, 1, key="o-1")
    lab.drain()
    flows.behave["second"] = fail
    failed = lab.start(flows.chain, 2, key="o-2")
    lab.drain()
    flows.behave.clear()
    waiting = lab.start(flows.fan, 3, key="n-3")
    return {"done": done, "failed": failed, "waiting": waiting}


@pytest.mark.req("E13")
def test_executions_are_listed_by_flow_status_key_and_time(terminal: Terminal, shop: Any) -> None:
    def ids(*words: str) -> list[str]:
        return [one["id"] for one in terminal.json("list", *words)["executions"]]

    done, failed, waiting = (shop[name].id for name in ("done", "failed", "waiting"))
    assert ids() == [waiting, failed, done]
    assert ids("--flow", "chain") == [failed, done]
    assert ids("--status", "failed") == [failed]
    assert ids("--status", "failed,succeeded") == [failed, done]
    assert ids("--status", "open") == [waiting]
    assert ids("--key", "o-*") == [failed, done]
    assert ids("--where", "flow=chain status=succeeded") == [done]
    assert ids("--where", "error=ValueError step=second") == [failed]
    assert ids("--where", "error=KeyError") == []
    assert ids("--since", "1h") == [waiting, failed, done]
    assert ids("--until", "1h") == []
    assert ids("--limit", "1") == [waiting]
    assert terminal.json("list", "--limit", "1")["more"] is True


@pytest.mark.req("E13")
def test_a_listed_execution_tells_its_state_error_and_duration(
    terminal: Terminal, shop: Any
) -> None:
    [found] = terminal.json("list", "--status", "failed")["executions"]

    assert found["error"] == {
        "step": "second",
        "kind": "ValueError",
        "message": "the gateway said no",
    }
    assert (found["flow"], found["key"], found["started"], found["finished"]) == (
        "chain",
        "o-2",
        2,
        2,
    )
    assert found["seconds"] > 0
    text = terminal("list", "--status", "failed")
    assert text.splitlines()[0].split() == [
        *("id", "flow", "key", "status", "steps", "started", "took", "error")
    ]
    assert "second: ValueError: the gateway said no" in text


@pytest.mark.req("E13")
def test_executions_that_do_not_move_are_found(terminal: Terminal, lab: Lab, shop: Any) -> None:
    assert terminal.json("list", "--status", "stuck")["executions"] == []
    lab.advance(seconds=120)  # and no sweep looks

    [found] = terminal.json("list", "--where", "status=stuck")["executions"]

    assert found["id"] == shop["waiting"].id
    answer = terminal.json("explain", found["id"])["answer"]
    assert (answer["code"], answer["command"]) == ("no-sweep", "orchestrator sweep")


@pytest.mark.req("E13")
def test_an_execution_is_named_by_id_by_its_beginning_or_by_key(
    terminal: Terminal, shop: Any
) -> None:
    known = shop["failed"].id

    for name in (known, known.replace("-", ""), "o-2"):
        assert terminal.json("show", name)["id"] == known
    assert terminal.json("show", known[:-1], "--flow", "chain")["id"] == known
    assert "means several executions" in terminal.refused("show", known[:9])
    sentence = terminal.refused("show", "o-22")
    assert sentence.startswith("no execution has the id or key 'o-22'")
    assert "did you mean 'chain'?" in terminal.refused("show", "o-2", "--flow", "chian")
    assert "no execution of flow 'fan'" in terminal.refused("show", "o-2", "--flow", "fan")


def test_a_key_may_look_like_an_id(terminal: Terminal, lab: Lab) -> None:
    key = "6f7a3d52-0c57-4d0e-9d6f-0d6f1c1b2a10"
    handle = lab.start(flows.single, 1, key=key)

    assert terminal.json("show", key)["id"] == handle.id
    sentence = terminal.refused("show", key.replace("6f7a", "0000"))
    assert sentence.startswith("no execution has the id or key '0000")


def test_a_key_of_several_flows_wants_the_flow(terminal: Terminal, lab: Lab, shop: Any) -> None:
    other = lab.start(flows.single, 5, key="o-2")

    assert "name the flow with --flow" in terminal.refused("show", "o-2")
    assert terminal.json("show", "o-2", "--flow", "single")["id"] == other.id


@pytest.mark.req("E1")
def test_show_tells_steps_flags_values_and_result(terminal: Terminal, shop: Any) -> None:
    found = terminal.json("show", "o-1")

    assert (found["status"], found["input"], found["result"]) == ("succeeded", {"n": 1}, 1)
    steps = {step["step"]: step for step in found["steps"]}
    assert set(steps) == {"first", "second", "third"}
    assert all(step["counter_updated"] and step["message_sent"] for step in steps.values())
    assert steps["first"]["seconds"] >= 0
    text = terminal("show", "o-1")
    assert "status     succeeded" in text
    assert "result     1" in text


def test_show_tells_one_step_with_its_output_or_its_traceback(
    terminal: Terminal, shop: Any
) -> None:
    assert terminal.json("show", "o-1", "--step", "second")["output"] == 4
    text = terminal("show", "o-2", "--step", "second")
    assert "ValueError: the gateway said no" in text
    assert 'raise ValueError("the gateway said no")' in text
    assert "did you mean 'second'?" in terminal.refused("show", "o-2", "--step", "secnd")


def test_a_fan_out_is_summed_by_node(terminal: Terminal, lab: Lab) -> None:
    handle = lab.start(flows.tree, 3)
    lab.drain()

    found = terminal.json("show", handle.id, "--limit", "5")

    counts = {node["node"]: node["counts"] for node in found["nodes"]}
    assert counts["folder/numbers"] == {"succeeded": 3}
    assert counts["folder/double/double"] == {"succeeded": 3}
    assert len(found["steps"]) == 5
    assert "3 succeeded" in terminal("show", handle.id, "--limit", "15")


@pytest.mark.req("E13")
def test_history_tells_what_happened_in_order(terminal: Terminal, shop: Any) -> None:
    terminal("retry", "o-2", "--actor", "ann")

    lines = terminal.json("history", "o-2")["history"]

    assert [line["kind"] for line in lines] == [
        *("started", "step succeeded", "failing", "failed", "retry")
    ]
    assert lines[-1]["actor"] == "ann"
    assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)
    assert "retry" in terminal("history", "o-2")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("list", "--status", "faild"), "did you mean 'failed'?"),
        (("list", "--where", "flw=x"), "did you mean 'flow'?"),
        (("list", "--where", "failed"), "is not of the form field=value"),
        (("list", "--since", "yesterday"), "write how long ago"),
        (("lst",), "id you mean 'list'?"),
        (("retry", "--input", "{", "x"), "is not JSON"),
        (("retry", "--rate", "fast", "x"), "write 20/s"),
        (("cancel", "--where", ""), "the condition is empty"),
        (("retry",), "Name one or more executions"),
        (("retry", "x", "--where", "status=failed"), "Name one or more executions"),
    ],
)
def test_bad_usage_is_told_with_what_was_probably_meant(
    terminal: Terminal, words: tuple[str, ...], hint: str
) -> None:
    assert hint in terminal.refused(*words, code=2)


def test_an_unknown_flow_is_told_with_a_near_miss(terminal: Terminal, shop: Any) -> None:
    assert "did you mean 'chain'?" in terminal.refused("list", "--flow", "chains")


def test_what_comes_from_the_database_cannot_steer_a_terminal(terminal: Terminal, lab: Lab) -> None:
    lab.start(flows.single, 1, key="red\x1b[31m[bold]x")

    text = terminal("list")

    assert "\x1b" not in text
    assert "[31m[bold]x" in text
