"""Operators' acts typed at the command line: one execution, many, at a rate, with a canary."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from orchestrator import flow
from orchestrator.client import Orchestrator
from orchestrator.lifecycle import ExecutionStatus
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store.database import Database
from tests.cli.conftest import Terminal
from tests.runtime import flows
from tests.runtime.lab import Lab


def fail() -> None:
    raise ValueError("the gateway said no")


def failures(lab: Lab, count: int) -> list[Any]:
    flows.behave["second"] = fail
    handles = [lab.start(flows.chain, n, key=f"o-{n}") for n in range(count)]
    lab.drain()
    flows.behave.clear()
    flows.ran.clear()
    return handles


def status(handle: Any) -> ExecutionStatus:
    return handle.view().facts.status  # type: ignore[no-any-return]


def audit(lab: Lab) -> list[tuple[str, str]]:
    return (
        lab.database.hot()
        .execute(  # type: ignore[return-value]
            "SELECT actor, act FROM orchestrator.audit ORDER BY id"
        )
        .fetchall()
    )


@pytest.mark.req("E12")
def test_an_execution_is_paused_resumed_and_cancelled_with_its_actor(
    terminal: Terminal, lab: Lab
) -> None:
    handle = lab.start(flows.chain, 1, key="o-1")

    paused = terminal.json("pause", "o-1", "--actor", "ann")
    assert (paused["done"], paused["executions"][0]["paused"]) == (1, True)
    assert terminal.json("pause", "o-1")["unchanged"] == 1
    assert "paused already" in terminal("pause", "o-1")
    assert "resumed; it is running" in terminal("resume", "o-1", "--actor", "ann")
    assert "cancelled; it is cancelled" in terminal("cancel", "o-1", "--actor", "bob")
    assert terminal.json("cancel", "o-1")["unchanged"] == 1

    assert status(handle) is ExecutionStatus.CANCELLED
    assert audit(lab) == [("ann", "pause"), ("ann", "resume"), ("bob", "cancel")]
    lab.sound(handle)


@pytest.mark.req("E12")
def test_many_are_chosen_by_a_condition(terminal: Terminal, lab: Lab) -> None:
    handles = [lab.start(flows.chain, n, key=f"o-{n}") for n in range(3)]
    other = lab.start(flows.single, 1)

    done = terminal.json("cancel", "--where", "flow=chain status=open key=o-*", "--yes")

    assert (done["matched"], done["done"], done["refused"]) == (3, 3, 0)
    assert {one["id"] for one in done["executions"]} == {handle.id for handle in handles}
    assert status(other) is ExecutionStatus.RUNNING
    assert "nothing was done" in terminal("cancel", "--where", "flow=chain status=open")


@pytest.mark.req("E12")
def test_a_condition_is_acted_on_only_by_who_says_so_or_can_be_asked(
    terminal: Terminal, lab: Lab
) -> None:
    handles = [lab.start(flows.chain, n, key=f"o-{n}") for n in range(3)]

    for act in ("pause", "cancel"):
        sentence = terminal.refused(act, "--where", "flow=chain", code=2)
        assert sentence == f"this would {act} 3 executions: say --yes, or --dry-run to see them"
        terminal.refused(act, "--where", "flow=chain", "--json", code=2)

    assert terminal.json("cancel", "--where", "flow=chain", "--dry-run")["matched"] == 3
    assert {status(handle) for handle in handles} == {ExecutionStatus.RUNNING}
    assert audit(lab) == []
    assert terminal.json("cancel", "o-0", "o-1")["done"] == 2, "named, so meant"


@pytest.mark.req("E12")
def test_a_condition_without_a_status_means_what_the_act_is_for(
    terminal: Terminal, lab: Lab
) -> None:
    lab.start(flows.chain, 0)
    lab.drain()
    for n in range(2):
        lab.start(flows.chain, n)

    for act, count in (("pause", 2), ("pause", 0), ("resume", 2), ("cancel", 2), ("cancel", 0)):
        done = terminal.json(act, "--where", "flow=chain", "-y")
        assert (act, done["matched"], done["done"]) == (act, count, count)


@pytest.mark.req("E12")
def test_many_are_named_one_by_one(terminal: Terminal, lab: Lab) -> None:
    handles = [lab.start(flows.chain, n, key=f"o-{n}") for n in range(3)]

    terminal("pause", "o-0", "o-1", handles[2].id)

    assert all(handle.view().facts.paused for handle in handles)


@pytest.mark.req("E12")
def test_failed_executions_are_retried_by_a_condition(terminal: Terminal, lab: Lab) -> None:
    handles = failures(lab, 3)
    fine = lab.start(flows.single, 1)
    lab.drain()

    done = terminal.json("retry", "--where", "since=1h", "--yes")  # of all these, what has failed
    lab.drain()

    assert (done["matched"], done["done"]) == (3, 3)
    assert [handle.result(0) for handle in handles] == [-1, 1, 3]
    assert status(fine) is ExecutionStatus.SUCCEEDED


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(terminal: Terminal, lab: Lab) -> None:
    [handle] = failures(lab, 1)

    shown = terminal.json("retry", "--where", "status=failed", "--dry-run")
    text = terminal("retry", "o-0", "--dry-run")

    assert (shown["dry_run"], shown["matched"], shown["done"]) == (True, 1, 0)
    assert shown["executions"][0]["id"] == handle.id
    assert "retry would be tried on 1 execution." in text
    assert status(handle) is ExecutionStatus.FAILED
    assert audit(lab) == []


def test_a_rate_spreads_the_executions_over_time(terminal: Terminal, lab: Lab) -> None:
    failures(lab, 3)

    began = time.monotonic()
    terminal("retry", "--where", "status=failed", "--rate", "5/s", "--yes")

    assert time.monotonic() - began >= 0.4


def test_a_canary_that_fails_again_leaves_the_others_alone(terminal: Terminal, lab: Lab) -> None:
    handles = failures(lab, 4)
    flows.behave["second"] = fail

    with at_work(lab):
        done = terminal.run("retry", "--where", "status=failed", "--canary", "1", "--yes", "--json")

    assert done.exit_code == 1
    assert '"left_alone": 3' in done.stdout
    assert "1 of the first 1 did not succeed" in done.stdout
    assert [len(handle.view().history) for handle in handles[1:]] == [5, 5, 5], "untouched"


def test_a_canary_that_ends_well_lets_the_others_follow(terminal: Terminal, lab: Lab) -> None:
    handles = failures(lab, 3)

    with at_work(lab):
        done = terminal.json("retry", "--where", "status=failed", "--canary", "1", "--yes")
    lab.drain()

    assert (done["done"], done["canary"]) == (3, None)
    assert [handle.result(0) for handle in handles] == [-1, 1, 3]


class at_work:  # noqa: N801 - reads as a phrase
    """A worker that carries out what is sent meanwhile, in a thread."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._stop = lab, threading.Event()
        self._worker = lab.worker()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._stop.wait(0.02):
            while self._lab.mail:
                self._worker.deliver()
        self._worker.database.close()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_retry_with_another_input_is_told_in_the_audit(terminal: Terminal, lab: Lab) -> None:
    flows.behave["first"] = fail
    handle = lab.start(flows.chain, 1, key="o-1")
    lab.drain()
    flows.behave.clear()

    terminal("retry", "o-1", "--input", '{"n": 10}', "--actor", "ann")
    lab.drain()

    assert handle.result(0) == 19
    assert terminal.json("show", "o-1")["input"] == {"n": 10}
    [line] = [line for line in terminal.json("history", "o-1")["history"] if line["actor"] == "ann"]
    assert line["data"]["input"] == {"old": {"n": 1}, "new": {"n": 10}}


def test_a_retry_from_a_step_runs_it_and_what_follows(terminal: Terminal, lab: Lab) -> None:
    lab.start(flows.chain, 1, key="o-1")
    lab.drain()
    flows.ran.clear()

    terminal("retry", "o-1", "--from", "second")
    lab.drain()

    assert [name for name, _ in flows.ran] == ["second", "third"]


def test_steps_are_completed_skipped_and_failed_by_hand(terminal: Terminal, lab: Lab) -> None:
    first, second = failures(lab, 2)

    assert "second was completed" in terminal("complete", "o-0", "second", "--output", "40")
    document = terminal.json("skip", "o-1", "second", "--output", "5", "--actor", "ann")
    lab.drain()
    assert (document["act"], document["steps"], document["id"]) == ("skip", ["second"], second.id)
    assert (first.result(0), second.result(0)) == (37, 2)

    lab.start(flows.chain, 9, key="o-9")
    assert "is failed" in terminal("fail", "o-9", "first", "--reason", "void")
    assert terminal.json("list", "--where", "error=FailedByHand")["executions"][0]["key"] == "o-9"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("retry", "done"), "only a failed one is retried"),
        (("retry", "done", "--from", "secnd"), "has no step 'secnd', did you mean 'second'?"),
        (("cancel", "done"), "it cannot be cancelled any more"),
        (("pause", "done"), "only a running one pauses"),
        (("complete", "done", "second", "--output", "1"), "nobody can complete a step of it"),
        (("fail", "done", "second"), "only a step of a running one"),
        (("retry", "nothing"), "`orchestrator list` shows what there is"),
        (("retry", "done", "--from", "a[0]"), "is no step"),
    ],
)
def test_what_did_not_happen_is_told_in_one_sentence(
    terminal: Terminal, lab: Lab, words: tuple[str, ...], sentence: str
) -> None:
    lab.start(flows.chain, 1, key="done")
    lab.drain()

    assert sentence in terminal.refused(*words)


def test_what_is_refused_among_many_is_counted_and_named(terminal: Terminal, lab: Lab) -> None:
    failures(lab, 2)
    done = lab.start(flows.single, 1, key="fine")
    lab.drain()

    ran = terminal.run("retry", "o-0", "o-1", "fine")

    assert ran.exit_code == 1
    assert "2 of 3 executions retried, 1 refused." in ran.stdout
    assert f"{done.id}: execution" in ran.stdout


def test_an_execution_is_started_by_its_flows_name(terminal: Terminal, lab: Lab) -> None:
    first = terminal.json("start", "chain", "--input", '{"n": 1}', "--key", "o-1")
    again = terminal.json("start", "chain", "--input", '{"n": 1}', "--key", "o-1")
    lab.drain()

    assert (first["created"], again["created"], first["id"] == again["id"]) == (True, False, True)
    assert terminal.json("show", "o-1")["result"] == 1
    assert "was there already" in terminal("start", "chain", "--input", '{"n": 1}', "--key", "o-1")


def test_a_start_may_wait_for_the_result(terminal: Terminal, lab: Lab) -> None:
    given = ("start", "chain", "--input", '{"n": 1}', "--key", "o-1")
    impatient = terminal.run(*given, "--wait", "0s")
    lab.drain()

    assert impatient.exit_code == 1
    assert "it goes on" in impatient.stderr
    assert terminal(*given, "--wait", "10s").splitlines()[1:] == ["1"]
    waited = terminal.json(*given, "--wait", "10s")
    assert (waited["status"], waited["result"], waited["created"]) == ("succeeded", 1, False)


def test_the_history_tells_who_started_an_execution(terminal: Terminal, lab: Lab) -> None:
    terminal.json("start", "chain", "--input", '{"n": 1}', "--key", "o-1", "--actor", "ann")

    started, *_ = terminal.json("history", "o-1")["history"]

    assert (started["kind"], started["actor"]) == ("started", "ann")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("start", "chian", "--input", "{}"), "did you mean 'chain'?"),
        (("start", "chain", "--input", "{}"), "the parameter 'n' is missing"),
        (("start", "chain", "--input", '{"n": "x"}'), "parameter 'n'"),
        (("start", "chain", "--input", '{"m": 1, "n": 1}'), "no parameter 'm'"),
        (("start", "chain", "--input", "[1]"), "expected an object"),
        (("start", "chain", "--input", "[]"), "expected an object"),
        (("start", "chain", "--input", '{"n": 2}', "--key", "o-1"), "another input"),
        (("start", "chain", "--input", '{"n": 1}', "--version", "7"), "leave --version out"),
    ],
)
def test_a_start_that_is_refused_says_why_and_stores_nothing(
    terminal: Terminal, lab: Lab, words: tuple[str, ...], sentence: str
) -> None:
    lab.start(flows.chain, 1, key="o-1")

    assert sentence in terminal.refused(*words)
    assert len(terminal.json("list")["executions"]) == 1


def test_two_operators_at_once_do_it_once(terminal: Terminal, lab: Lab) -> None:
    [handle] = failures(lab, 1)
    others = [Database(lab.url), Database(lab.url)]
    results = []

    def act(database: Database) -> None:
        mine = Lab(database, lab.settings, lab.catalogue, lab.url)
        results.append(Terminal(mine).run("retry", "o-0").exit_code)
        lab.mail.extend(mine.mail)

    threads = [threading.Thread(target=act, args=(database,)) for database in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in others:
        database.close()

    assert sorted(results) == [0, 1]
    lab.drain()
    assert handle.result(0) == -1
    lab.sound(handle)


def test_a_step_whose_value_must_not_be_none_is_skipped_only_with_an_output(
    terminal: Terminal, lab: Lab
) -> None:
    [handle] = failures(lab, 1)

    assert terminal.refused("skip", "o-0", "second") == (
        "step 'second' cannot be skipped with null: its value goes to 'n' of step 'third', which "
        "does not admit None; give what stands for it with --output"
    )
    assert audit(lab) == []
    terminal("skip", "o-0", "second", "--output", "40")
    lab.drain()
    assert handle.result(0) == 37
    last = lab.start(flows.single, 1, key="o-1")
    terminal("skip", "o-1", "first")
    assert status(last) is ExecutionStatus.SUCCEEDED, "no step is given it"


def test_a_value_that_could_not_be_checked_is_told_of(terminal: Terminal, lab: Lab) -> None:
    failures(lab, 2)
    client = Orchestrator(
        lab.database, lab.settings, Catalogue(), publish=lab.post, collect=lambda _seconds: []
    )

    def without_code(*words: object) -> Any:
        return terminal.run(*words, desk=terminal.desk(catalogue=Catalogue(), orchestrator=client))

    told = without_code("retry", "o-0", "--input", '{"n": 8}')
    document = without_code("complete", "o-1", "second", "--output", "5", "--json")

    assert told.stderr == "Note: the input was not checked: name the module with -A\n"
    assert (told.exit_code, document.stderr) == (0, "")
    assert json.loads(document.stdout)["checked"] is False
    lab.drain()
    assert terminal.json("retry", "o-0", "--from", "first", "--input", '{"n": 9}')["checked"]


def test_a_dry_run_shows_the_new_input_without_secrets(terminal: Terminal, lab: Lab) -> None:
    @flow
    def paying(order: str, password: str) -> int:
        return flows.first(1)

    lab.catalogue.add(paying)
    handle = lab.start(paying, "o", "s3cret", key="o-1")
    words = ("retry", "o-1", "--from", "first", "--input", '{"order": "p"}', "--dry-run")

    text, document = terminal(*words), terminal.json(*words)

    assert 'The input of o-1 would be {"order": "p", "password": "***"}.' in text
    assert document["executions"][0]["input"] == {"order": "p", "password": "***"}
    assert (document["checked"], "s3cret" in text) == (True, False)
    assert "no parameter 'ordr'" in terminal.refused(*words[:5], '{"ordr": 1}', "--dry-run")
    assert handle.view().facts.reruns == 0
