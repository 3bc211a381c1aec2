"""A TCP connection that a test may cut, or in which it may let what one side says vanish."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit, urlunsplit


class Tunnel:
    """Passes bytes between clients and one server.

    Args:
        url: the address behind it; `self.url` is the same through the tunnel.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5672)
        self._listener = socket.create_server(("127.0.0.1", 0))
        who = f"{parts.username}:{parts.password}@" if parts.username else ""
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{who}127.0.0.1:{port}"))
        self._sockets: list[socket.socket] = []
        self.mute = False  # what clients say is lost
        self.opened = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections; new ones may be made."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self.opened += 1
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                said = (source, target, source is client)
                threading.Thread(target=self._pass, args=said, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, of_client: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if not (of_client and self.mute):
                    target.sendall(chunk)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        source.close()
