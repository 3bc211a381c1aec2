"""Redis servers of our own, from an installed server."""

from __future__ import annotations

import os
import shutil
import socket

from tests.services.processes import Child, free_port, private_folder, remove_folder


def can_be_started() -> bool:
    """Whether this machine has a Redis server."""
    return shutil.which("redis-server") is not None


class PrivateRedis:
    """A server of the test's own that keeps nothing: a restart is a wipe."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("no Redis server is installed on this machine")
        self._program = program
        self.folder = private_folder("redis")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._child: Child | None = None

    def start(self) -> PrivateRedis:
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.folder, "save": ""}
        self._child = Child(
            "private Redis",
            [self._program, *(str(part) for k, v in options.items() for part in (f"--{k}", v))],
            log_file=self.folder / "log",
            env={"PATH": os.defpath, "HOME": str(self.folder)},
            cwd=self.folder,
        )
        self._child.wait_for(self.answers, timeout=20, what="the first answer")
        return self

    def answers(self) -> bool:
        """Whether it answers a ping now."""
        return answers_ping("127.0.0.1", self.port)

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this Redis has not been started")
        return self._child

    def stop(self) -> None:
        self.child.kill9()

    def kill9(self) -> None:
        self.child.kill9()

    def restart(self) -> None:
        """Start it again, empty."""
        if self.child.running():
            self.stop()
        self.start()

    def log(self) -> str:
        return self.child.log()

    def close(self) -> None:
        """End it and remove its folder."""
        if self._child is not None and self._child.running():
            self._child.kill9()
        remove_folder(self.folder)


def answers_ping(host: str, port: int) -> bool:
    """Whether a Redis server answers there."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(2)
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
    except OSError:
        return False
