"""The command line, as a process: what it prints, where, and how it exits."""

import json
import subprocess
import sys

import pytest

from tests.services.workers import ROOT, environment


def orchestrator(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env=environment({f"ORCHESTRATOR_{name.upper()}": text for name, text in variables.items()}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("words", [(), ("worker",)])
def test_every_command_has_help(words):
    shown = orchestrator(*words, "--help")

    assert shown.returncode == 0
    assert shown.stdout.startswith(f"Usage: {' '.join(('orchestrator', *words))} ")
    assert shown.stderr == ""


def test_a_misspelt_command_is_bad_usage_with_a_hint():
    refused = orchestrator("wroker")

    assert refused.returncode == 2
    assert "Did you mean" in refused.stderr
    assert "'worker'" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (("db", "status"), {"databse_url": "x"}, "did you mean ORCHESTRATOR_DATABASE_URL?"),
        (("db", "status"), {"database_url": "mysql://here/x"}, "is no PostgreSQL address"),
        (("worker",), {}, "ORCHESTRATOR_MODULES=shop.flows"),
        (("worker",), {"modules": "examples,shop.flows"}, "there is no module shop on the"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(words, variables, sentence):
    refused = orchestrator(*words, **variables)

    assert refused.returncode == 1
    assert sentence in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


def test_a_database_that_is_away_is_named_without_its_password():
    url = "postgresql://someone:secret@127.0.0.1:1/nowhere"

    refused = orchestrator("db", "upgrade", "--json", database_url=url)

    assert refused.returncode == 1
    assert "someone:***@127.0.0.1:1/nowhere" in refused.stderr
    assert "secret" not in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("words", [("list",), ("show", "o-1"), ("cancel", "o-1"), ("top",)])
def test_a_database_that_is_away_is_no_traceback_for_any_command(words):
    refused = orchestrator(*words, database_url="postgresql://127.0.0.1:1/nowhere")

    assert refused.returncode == 1
    assert "the database postgresql://127.0.0.1:1/nowhere did not serve" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""


@pytest.mark.parametrize("words", [("list",), ("show", "o-1"), ("retry", "o-1"), ("purge",)])
def test_a_database_without_our_schema_is_told_to_be_migrated(words, empty_database_url):
    refused = orchestrator(*words, database_url=empty_database_url)

    assert refused.returncode == 1
    assert "run `orchestrator db upgrade`" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_an_act_is_done_though_the_broker_is_away(database_url):
    services = {"database_url": database_url, "broker_url": "amqp://127.0.0.1:1//"}
    modules = {"modules": "tests.runtime.flows"}
    words = ("start", "chain", "--input", '{"n": 1}', "--key", "o-1", "--json")
    started = orchestrator(*words, **services, **modules)

    cancelled = orchestrator("cancel", "o-1", "--json", **services)
    depth = orchestrator("queue-depth", "--json", **services)

    assert json.loads(started.stdout)["created"] is True
    assert json.loads(cancelled.stdout)["executions"][0]["status"] == "cancelled"
    assert depth.returncode == 1, "half of the answer is missing"
    assert "cannot be reached" in json.loads(depth.stdout)["broker_problem"]
    assert started.stderr.startswith("Note: the broker has not confirmed what was sent")
    assert (cancelled.stderr, depth.stderr) == ("", "")


def test_upgrade_brings_an_empty_database_up_to_date_and_then_has_nothing_to_do(empty_database_url):
    before = json.loads(
        orchestrator("db", "status", "--json", database_url=empty_database_url).stdout
    )
    first = json.loads(
        orchestrator("db", "upgrade", "--json", database_url=empty_database_url).stdout
    )
    again = orchestrator("db", "upgrade", database_url=empty_database_url)
    after = orchestrator("db", "status", database_url=empty_database_url)

    assert before["current"] is None
    assert not before["up_to_date"]
    assert before["pending"] == first["ran"] != []
    assert first["up_to_date"]
    assert (first["current"], first["pending"]) == (first["newest"], [])
    assert again.stdout == f"The schema is at {first['newest']} already: nothing to do.\n"
    assert after.stdout.endswith(f"schema    {first['newest']} (up to date)\n")
    assert (again.returncode, after.returncode) == (0, 0)
