"""A proxy between a worker and its PostgreSQL that loses the answer of one statement.

Once armed with a text, it waits for a query that carries it, lets the server finish it (in
autocommit the commit is done when the server says it is ready again), swallows the answer and
closes the connection: the worker cannot know whether it was committed.
"""

from __future__ import annotations

import selectors
import socket
import threading
from urllib.parse import urlsplit, urlunsplit

_READY = b"Z\x00\x00\x00\x05"  # PostgreSQL's ReadyForQuery; one byte of state follows


class AnswerLost:
    """See the module's text.

    Args:
        url: the database behind it; `self.url` is the same database through the proxy.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = f"{parts.username}@" if parts.username else ""
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
        self._guard = threading.Lock()
        self._wanted: bytes | None = None
        self.lost = threading.Event()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_answer_to(self, text: str) -> None:
        """Lose the answer of the next query that carries this text."""
        self._wanted = text.encode()
        self.lost.clear()

    def close(self) -> None:
        self._closed = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        doomed, answer = False, b""
        with client, selectors.DefaultSelector() as selector:
            try:
                server = socket.create_connection(self._server)
            except OSError:
                return
            with server:
                selector.register(client, selectors.EVENT_READ)
                selector.register(server, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        try:
                            chunk = key.fileobj.recv(65536)
                            if not chunk:
                                return
                            if key.fileobj is client:
                                doomed = doomed or self._matches(chunk)
                                server.sendall(chunk)
                            elif not doomed:
                                client.sendall(chunk)
                            else:
                                answer += chunk
                                if answer[-6:-1] == _READY:
                                    self.lost.set()
                                    return
                        except OSError:
                            return

    def _matches(self, chunk: bytes) -> bool:
        with self._guard:
            if self._wanted is None or self._wanted not in chunk:
                return False
            self._wanted = None
            return True
