"""The command line with real services and processes: Celery's sub-command, dev and demo."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.processes import Child, private_folder, remove_folder
from tests.services.workers import ROOT, Crew, environment

FLOWS = """
from orchestrator import flow, step

@step
def greet(name: str) -> str:
    return f"{word} {name}"

@flow
def greeting(name: str) -> str:
    return greet(name)

word = "hello"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = private_folder("dev")
    yield made
    remove_folder(made)


def typed(
    *words: str, path: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What `orchestrator` answers where the modules of ``path`` can be imported."""
    env = environment({f"ORCHESTRATOR_{name.upper()}": text for name, text in variables.items()})
    if path is not None:
        env["PYTHONPATH"] = f"{path}{os.pathsep}{env['PYTHONPATH']}"
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def celery(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", *words],
        env=environment({f"ORCHESTRATOR_{name.upper()}": text for name, text in variables.items()}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.system
def test_the_same_commands_stand_below_celery(database_url: str, rabbitmq_url: str) -> None:
    services = {
        "database_url": database_url,
        "broker_url": rabbitmq_url,
        "modules": "tests.acceptance.flows",
    }
    words = ("--app", "orchestrator.workers.app", "flow")

    shown = celery(*words, "--help")
    started = celery(*words, "start", "chain", "--input", "{}", "--json", **services)
    listed = celery(*words, "list", "--json", **services)
    doctor = celery(*words, "doctor", "--json", **services)
    refused = celery(*words, "show", "nothing", **services)

    assert "Read and operate durable flows" in shown.stdout
    assert " worker " not in shown.stdout, "that is Celery's own"
    assert started.returncode == 1, "its input is missing"
    assert started.stderr.count("\n") == 1
    assert json.loads(listed.stdout) == {"executions": [], "more": False}
    checks = {one["check"]: one for one in json.loads(doctor.stdout)["checks"]}
    assert checks["task_acks_late"]["verdict"] == "ok", "the application's own settings"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Error: no execution has the id or key 'nothing'")


def on_a_terminal(*words: str, keys: int | None = None, **variables: str) -> tuple[int, str]:
    """Exit code and what a person sees; ``keys`` is a signal sent after the first screen."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    env = environment({f"ORCHESTRATOR_{name.upper()}": text for name, text in variables.items()})
    env = {name: text for name, text in env.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *words],
        env={**env, "TERM": "xterm-256color"},
        cwd=ROOT,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    ) as running:
        os.close(follower)
        shown = b""
        deadline = threading.Timer(60, running.kill)
        deadline.start()
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
            if keys is not None and b"greeting" in shown:
                running.send_signal(keys)
                keys = None
        os.close(leader)
        code = running.wait(timeout=60)
        deadline.cancel()
        return code, shown.decode()


@pytest.mark.system
def test_a_person_sees_colours_and_tables_and_ends_the_overview(
    database_url: str, folder: Path
) -> None:
    (folder / "shop.py").write_text(FLOWS)
    services = {"database_url": database_url, "broker_url": f"filesystem://{folder}/broker"}
    for name in ("messages", "control", "processed"):
        (folder / "broker" / name).mkdir(parents=True)
    words = ("start", "greeting", "--input", '{"name": "ann"}', "--key", "o-1")
    started = typed(*words, path=folder, modules="shop", **services)
    assert started.returncode == 0, started.stderr

    code, listed = on_a_terminal("list", **services)
    ended, watched = on_a_terminal("top", "--every", "0.2s", keys=signal.SIGINT, **services)

    assert (code, ended) == (0, 0)
    assert "\x1b[36mrunning" in listed
    assert "\x1b[" not in typed("list", **services).stdout
    assert "1 open" in watched
    assert "\x1b[?1049h" in watched, "a screen of its own"
    assert "Traceback" not in watched


@pytest.mark.system
@pytest.mark.req("E12")
@pytest.mark.req("E13")
def test_an_operator_finds_explains_edits_and_retries_what_failed(
    database_url: str, rabbitmq_url: str, new_crew: Callable[..., Crew]
) -> None:
    services = {"database_url": database_url, "broker_url": rabbitmq_url}
    crew = new_crew(**services, modules="tests.cli.shop", unsent_after="60s")  # no sweep helps
    worker = crew.worker(concurrency=1)

    def told(*words: str, **more: str) -> Any:
        done = typed(*words, "--json", **services, **more)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return json.loads(done.stdout)

    def status() -> str:
        found: str = told("show", "o-1")["status"]
        return found

    document = '{"order": "tea", "shelf": "empty"}'
    words = ("start", "purchase", "--input", document, "--key", "o-1")
    assert told(*words, modules="tests.cli.shop")["created"]
    worker.child.wait_for(lambda: status() == "failed", timeout=60, what="it failed")
    paid = told("show", "o-1", "--step", "charge")["output"]

    [found] = told("list", "--status", "failed")["executions"]
    answer = told("explain", "o-1")["answer"]
    told("retry", "o-1", "--input", '{"shelf": "third"}', "--actor", "ann")
    worker.child.wait_for(lambda: status() == "succeeded", timeout=30, what="it succeeded")

    assert found["error"]["message"] == "the shelf is empty"
    assert "the shelf is empty" in answer["why"]
    assert told("show", "o-1")["result"] == [paid, "third"], "charged once, under the same key"
    queues = {one["queue"]: one for one in told("queue-depth")["queues"]}
    assert queues["orchestrator"]["workers"] == 1
    assert queues["orchestrator"]["broker"]["consumers"] == 1


@pytest.mark.system
@pytest.mark.timeout(300)
def test_dev_runs_a_module_and_starts_its_workers_anew_when_it_changes(folder: Path) -> None:
    module = folder / "shop.py"
    module.write_text(FLOWS)
    running = Child(
        "dev",
        [sys.executable, "-m", "orchestrator.cli", "dev", "-A", "shop", "--concurrency", "1"],
        log_file=folder / "dev.log",
        env={**environment(), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        cwd=folder,
    )

    def start(key: str) -> str:
        words = ("start", "greeting", "--input", '{"name": "ann"}', "--key", key, "--json")
        done = typed(*words, path=folder, modules="shop", **services)
        assert done.returncode == 0, done.stderr
        identity: str = json.loads(done.stdout)["id"]
        return identity

    def result(identity: str) -> object:
        shown = typed("show", identity, "--json", **services)
        return json.loads(shown.stdout)["result"]

    running.wait_for(lambda: running.log().count(" ready.") == 1, timeout=120, what="ready")
    exported = dict(re.findall(r"export ORCHESTRATOR_(\w+)='?([^'\n]+)'?", running.log()))
    services = {name.lower(): exported[name] for name in ("DATABASE_URL", "BROKER_URL")}
    first = start("one")
    running.wait_for(lambda: result(first) == "hello ann", timeout=60, what="it ended")

    module.write_text(FLOWS.replace('"hello"', '"goodbye"'))
    running.wait_for(lambda: "shop.py has changed" in running.log(), timeout=30, what="seen")
    running.wait_for(lambda: running.log().count(" ready.") == 2, timeout=120, what="ready again")
    second = start("two")
    running.wait_for(lambda: result(second) == "goodbye ann", timeout=60, what="it ended")

    running.signal(signal.SIGINT)
    assert running.wait(timeout=60) == 128 + signal.SIGINT
    assert "Traceback" not in running.log()
    told = typed("db", "status", database_url=services["database_url"])
    assert told.returncode == 1, "the services are gone"


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_demo_proves_that_nothing_is_lost(folder: Path) -> None:
    running = Child(
        "demo",
        [
            *(sys.executable, "-m", "orchestrator.cli"),
            *("demo", "--executions", "4", "--kill"),
        ],
        log_file=folder / "demo.log",
        env={**environment(), "TMPDIR": str(folder)},
        cwd=ROOT,
    )

    code = running.wait(timeout=280)
    shown = running.log()

    assert code == 0, shown
    assert "4 of 4 done, 0 lost, 0 counted twice" in shown
    assert "with SIGKILL" in shown


def test_dev_without_a_flow_says_what_to_name(folder: Path) -> None:
    (folder / "empty.py").write_text("")

    nothing = typed("dev")
    empty = typed("dev", "-A", "empty", path=folder)
    missing = typed("dev", "-A", "shopp.flows")

    assert "as in -A shop.flows" in nothing.stderr
    assert "hold no flow" in empty.stderr
    assert "there is no module shopp on the Python path" in missing.stderr
    for told in (nothing, empty, missing):
        assert (told.returncode, told.stderr.count("\n")) == (1, 1)
