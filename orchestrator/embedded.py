"""A PostgreSQL and a broker of files for demonstrations, development and tests.

What `start` makes, and `Embedded.stop` removes::

    <folder>/start.lock      held while somebody starts or stops the services
    <folder>/holders.lock    shared by every process that uses them; the kernel lets go for the dead
    <folder>/postgres/       socket, log and data; belongs to the user the server runs as
    <folder>/broker/         messages of kombu's filesystem transport

Permissions of what was there before are never changed. Root's server runs as another user, who must
reach the folder: hence a place outside every home, and a refusal where the way is closed.

A starter that was killed leaves its server running. A folder that was named is used again, with the
server in it; folders made here that nobody holds any more are removed by the next start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from orchestrator import embedded_server
from orchestrator.embedded_server import Server
from orchestrator.errors import InvalidInput, OrchestratorError, Unavailable
from orchestrator.settings import filesystem_transport

_PREFIX = "orchestrator-"
_SOCKET_LIMIT = 103  # bytes of a socket's path: 107 on Linux, 103 on macOS


class Embedded:
    """Running services, from `start`; a context manager that stops them.

    Attributes:
        folder: where everything lies.
        database_url: the empty database ``orchestrator``, over a unix socket; no port is opened.
        broker_url: ``filesystem:///...``; see `orchestrator.settings.filesystem_transport`.
    """

    def __init__(self, folder: Path, server: Server, holder: int, *, made: bool) -> None:
        self.folder = folder
        socket_folder = quote(str(server.folder))
        self.database_url = f"postgresql://postgres@/orchestrator?host={socket_folder}&port=5432"
        self.broker_url = f"filesystem://{quote(str(folder / 'broker'))}"
        self._server = server
        self._holder = holder
        self._made = made

    @property
    def broker_transport_options(self) -> dict[str, Any]:
        """What Celery needs beside the broker's url."""
        return filesystem_transport(self.broker_url)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make another process use these services."""
        return {
            "ORCHESTRATOR_DATABASE_URL": self.database_url,
            "ORCHESTRATOR_BROKER_URL": self.broker_url,
        }

    def stop(self, *, keep: bool | None = None) -> None:
        """Stop the server, unless another process still uses it; may be called twice.

        With ``keep=False`` data and messages are removed too. By default they are kept in a
        folder that was given to `start`, and removed with one that it made.
        """
        if self._holder < 0:
            return
        with _locked(self.folder / "start.lock"):
            alone = _try_lock(self._holder)
            if alone:
                self._server.stop()
                if self._made if keep is None else not keep:
                    _remove(self.folder, made=self._made)
                elif self._made:  # kept on purpose: no later start takes it for abandoned
                    (self.folder / "holders.lock").unlink()
            os.close(self._holder)
            self._holder = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.stop()


def start(base: Path | str | None = None) -> Embedded:
    """Start the services, or join those that already run in the folder ``base``.

    Without ``base`` a fresh folder is made, which goes away with `Embedded.stop`.
    """
    embedded_server.installation()  # or a refusal, before anything is made
    folder = _fresh_folder() if base is None else _given_folder(Path(base))
    try:
        with _locked(folder / "start.lock"):
            holder = _hold(folder / "holders.lock")
            try:
                server = embedded_server.prepare(folder / "postgres")
                server.start()
                _make_broker(folder / "broker")
            except BaseException:
                if _try_lock(holder):  # nobody else uses what we leave behind
                    _stop_server(folder)
                    if base is None:
                        _remove(folder, made=True)
                os.close(holder)
                raise
    except PermissionError as error:
        raise InvalidInput(f"{error.filename} is not yours; name another folder") from error
    return Embedded(folder, server, holder, made=base is None)


# the folder


def _fresh_folder() -> Path:
    """Make a folder of our own, in the first place that allows it."""
    problem: OSError | None = None
    for place in _places():
        try:
            place.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(place)
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place)).resolve()
        except OSError as error:
            problem = error
            continue
        if os.geteuid() == 0:
            folder.chmod(0o711)  # the server's user passes through
        if _first_closed(folder) is None and _unfit(folder) is None:
            return folder
        folder.rmdir()
    raise Unavailable(f"no folder for the embedded services can be made: {problem}; name one")


def _places() -> Iterator[Path]:
    if os.geteuid() != 0:
        cache, home = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("HOME", "")
        if Path(cache).is_absolute():
            yield Path(cache) / "orchestrator"
        elif Path(home).is_absolute() and os.access(home, os.W_OK):  # never to be made
            yield Path(home) / ".cache" / "orchestrator"
    yield Path("/var/tmp")  # noqa: S108 - mkdtemp makes a name nobody can foresee
    yield Path("/tmp")  # noqa: S108


def _given_folder(base: Path) -> Path:
    """Make the folder if need be, or refuse it; what exists keeps its permissions."""
    folder = base.absolute().resolve()
    if reason := _unfit(folder):
        raise InvalidInput(f"{folder} {reason}")
    made: list[Path] = []
    try:
        for path in reversed((folder, *folder.parents)):
            if not path.exists():
                path.mkdir()
                made.append(path)
                path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be made: {error.strerror}") from error
    if closed := _first_closed(folder):
        for path in reversed(made):
            path.rmdir()
        raise InvalidInput(
            f"{closed} is closed to other users: the server, which does not run as root, could "
            "not reach its data there; name a folder outside, such as one in /var/tmp"
        )
    return folder


def _first_closed(folder: Path) -> Path | None:
    """The first folder on the way that other users cannot pass; only root needs to ask."""
    if os.geteuid() != 0:
        return None
    way = reversed((folder, *folder.parents))
    return next((path for path in way if not path.stat().st_mode & stat.S_IXOTH), None)


def _unfit(folder: Path) -> str | None:
    """Why a server cannot lie in a folder of this name."""
    if len(os.fsencode(folder / "postgres" / embedded_server.SOCKET)) > _SOCKET_LIMIT:
        return "is too long for a socket; name a folder nearer to the root"
    if set(str(folder)) & set("\"'`$\\,\n"):
        return "has quotes, commas or dollars in its name; name another folder"
    return None


def _make_broker(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    options = filesystem_transport(f"filesystem://{quote(str(folder))}")
    for name in ("data_folder_in", "control_folder", "processed_folder"):
        Path(options[name]).mkdir(exist_ok=True)


def _remove_abandoned(place: Path) -> None:
    """Stop and remove what killed starters left here: ours, and held by nobody."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # busy, or somebody else removes it
            if folder.lstat().st_uid != os.geteuid() or not (folder / "holders.lock").is_file():
                continue
            with _locked(folder / "start.lock", wait=False):
                holder = _hold(folder / "holders.lock")
                try:
                    if _try_lock(holder):
                        _stop_server(folder)
                        _remove(folder, made=True)
                finally:
                    os.close(holder)


def _stop_server(folder: Path) -> None:
    with suppress(OrchestratorError):
        embedded_server.prepare(folder / "postgres").stop()


def _remove(folder: Path, *, made: bool) -> None:
    """Remove what was made here and nothing else that somebody may have put beside it."""
    for name in ("postgres", "broker"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("holders.lock", "start.lock"):
        (folder / name).unlink(missing_ok=True)
    if made:
        with suppress(OSError):
            folder.rmdir()


# locks


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        while not _is_at(file, path):  # somebody removed it while we waited
            os.close(file)
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _hold(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _try_lock(file: int) -> bool:
    """Whether nobody else holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
