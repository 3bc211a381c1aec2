"""kombu's ``filesystem://`` transport with whole files only.

kombu creates a message's file under its final name and fills it afterwards: a consumer that lists
the folder in between takes an empty file and its worker dies of it; the tables of bindings have the
same gap. Here every file is written beside its place and renamed into it, and a message is taken by
a rename within its folder, so that it is either not there or whole, and one consumer has it. One
listing of the folder serves all queues of a channel, because a folder with thousands of waiting
messages is slow to list.

``install()`` puts this class behind the ``filesystem`` scheme for every program that loads
celeryconfig.
"""

from __future__ import annotations

import fcntl
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps, loads

#: A folder is listed again for a queue without known messages at most this often, in seconds.
LISTING_INTERVAL = 0.01


class Channel(filesystem.Channel):
    """A channel whose files appear and disappear in one rename each, in folders that it makes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for folder in {self.data_folder_in, self.data_folder_out, self.control_folder}:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._waiting: dict[str, deque[str]] = defaultdict(deque)
        self._listed_at = 0.0

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # as its base
        """Put a message into a queue."""
        name = f"{time.time_ns() // 1000:020d}_{uuid.uuid4().hex}.{queue}.msg"
        _write_whole(Path(self.data_folder_out) / name, dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's
        """Take the oldest message of a queue, or raise Empty."""
        folder = Path(self.data_folder_in)
        waiting = self._waiting[queue]
        if not waiting and time.monotonic() - self._listed_at >= LISTING_INTERVAL:
            self._list(folder)
            waiting = self._waiting[queue]
        while waiting:
            name = waiting.popleft()
            taken = folder / f"{name}.taken"
            try:
                (folder / name).rename(taken)
            except FileNotFoundError:
                continue  # another consumer was faster
            payload = taken.read_text(encoding="utf-8")
            taken.unlink()
            return loads(payload)
        raise Empty

    def _list(self, folder: Path) -> None:
        self._listed_at = time.monotonic()
        self._waiting.clear()
        for name in sorted(path.name for path in folder.iterdir()):
            _, _, queue = name.partition(".")
            if queue.endswith(".msg"):
                self._waiting[queue.removesuffix(".msg")].append(name)

    def get_table(self, exchange: str) -> list[filesystem.exchange_queue_t]:  # type: ignore[override]  # as its base
        """Return the bindings of an exchange."""
        try:
            text = self._table_file(exchange).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [filesystem.exchange_queue_t(*binding) for binding in loads(text)]

    def _table_file(self, exchange: str) -> Path:
        checked: Any = super()
        path: Path = checked._exchange_file(exchange)  # noqa: SLF001 - checks the name
        return path

    def _queue_bind(
        self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None
    ) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._locked_control():
            table = self.get_table(exchange)
            if binding not in table:
                _write_whole(self._table_file(exchange), dumps([binding, *table]))

    def _delete(
        self, queue: str, exchange: str, routing_key: str, pattern: str, *_: Any, **__: Any
    ) -> None:
        binding = filesystem.exchange_queue_t(routing_key or "", pattern or "", queue or "")
        with self._locked_control():
            table = self.get_table(exchange)
            if binding in table:
                left = [other for other in table if other != binding]
                _write_whole(self._table_file(exchange), dumps(left))
        self._purge(queue)

    @contextmanager
    def _locked_control(self) -> Iterator[None]:
        self.control_folder.mkdir(exist_ok=True)
        with (self.control_folder / "bindings.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class Transport(filesystem.Transport):
    """kombu's filesystem transport on our channel."""

    Channel = Channel


def install() -> None:
    """Let ``filesystem://`` mean this transport in this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"


def _write_whole(path: Path, text: str) -> None:
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.rename(path)
