"""A virtual host of its own for each test that speaks RabbitMQ.

Made and removed a few at a time: one call of rabbitmqctl costs a second, whatever it does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

import psutil

from tests.services.discovery import Missing, Server
from tests.services.rabbitmq import control, local_control, local_control_works

_PREFIX = "orctest"
# A worker makes some thirty queues, each with open files, and Debian's broker may open a thousand.
_BATCH = 3
_A_DAY = 24 * 3600

Change = Callable[[Sequence[str], Sequence[str]], None]  # remove these, make these


class Vhosts:
    """Makes and removes virtual hosts on one broker, all under the name of this run."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._change, self._names = _ways(server)
        self._run = f"{_PREFIX}_{int(time.time())}_{os.getpid()}"
        self._numbers = itertools.count(1)
        self._ready: list[str] = []
        here = urlsplit(server.url).hostname in {"127.0.0.1", "localhost"}
        self._used: list[str] = [name for name in self._names() if _stale(name, here=here)]

    @contextlib.contextmanager
    def new(self) -> Iterator[str]:
        """The address of an empty virtual host."""
        if not self._ready:
            self._refill()
        name = self._ready.pop(0)
        try:
            yield with_vhost(self.server.url, name)
        finally:
            self._used.append(name)

    def close(self) -> None:
        """Remove what this run made."""
        self._change([*self._used, *self._ready], [])
        self._used.clear()
        self._ready.clear()

    def _refill(self) -> None:
        names = [f"{self._run}_{next(self._numbers)}" for _ in range(_BATCH)]
        self._change(self._used, names)
        self._ready, self._used = names, []


def with_vhost(url: str, name: str) -> str:
    """The same broker address with another virtual host."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{name}").geturl()


def _ways(server: Server) -> tuple[Change, Callable[[], list[str]]]:
    """How virtual hosts are changed and listed there."""
    if evaluate := getattr(server.private, "eval", None):
        return _by_control(evaluate, "guest"), list
    parts = urlsplit(server.url)
    user = parts.username or "guest"
    if _Api(server.url).works():
        api = _Api(server.url)
        return api.change, api.names
    if parts.hostname in {"127.0.0.1", "localhost"} and local_control_works():
        return _by_control(partial(_control, "eval"), user), _listed
    raise Missing(f"virtual hosts on {parts.hostname}: neither rabbitmqctl nor management answers")


def _control(*arguments: str) -> str:
    return control([str(local_control()), "-q", *arguments])


def _listed() -> list[str]:
    return _control("list_vhosts", "--no-table-headers").split()


def _by_control(evaluate: Callable[[str], str], user: str) -> Change:
    """All changes in one call: Erlang lists over which the node's own functions run."""

    def change(remove: Sequence[str], make: Sequence[str]) -> None:
        if not remove and not make:
            return
        evaluate(
            f'[catch rabbit_vhost:delete(V, <<"tests">>) || V <- {_binaries(remove)}],'
            f'[begin rabbit_vhost:add(V, <<"tests">>),'
            f' rabbit_auth_backend_internal:set_permissions(<<"{user}">>, V,'
            f' <<".*">>, <<".*">>, <<".*">>, <<"tests">>) end || V <- {_binaries(make)}],'
            "ok."
        )

    return change


def _binaries(names: Sequence[str]) -> str:
    return "[" + ",".join(f'<<"{name}">>' for name in names) + "]"


def _stale(name: str, *, here: bool) -> bool:
    """Whether the run that made it is over: its process, if it was one of this host, or its day."""
    prefix, *rest = name.split("_")
    if prefix != _PREFIX or len(rest) != 3:
        return False
    made_at, pid = int(rest[0]), int(rest[1])
    return time.time() - made_at > _A_DAY or (here and not psutil.pid_exists(pid))


class _Api:
    """The management plugin's interface, on its usual port of the same host."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._user = parts.username or "guest"
        port = os.environ.get("ORCHESTRATOR_TEST_MANAGEMENT_PORT", "15672")
        self._base = f"http://{parts.hostname}:{port}/api"
        secret = b64encode(f"{self._user}:{parts.password or 'guest'}".encode()).decode()
        self._headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/json"}

    def works(self) -> bool:
        try:
            self._ask("GET", "/whoami")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def names(self) -> list[str]:
        return [vhost["name"] for vhost in json.loads(self._ask("GET", "/vhosts"))]

    def change(self, remove: Sequence[str], make: Sequence[str]) -> None:
        everything = json.dumps({"configure": ".*", "write": ".*", "read": ".*"}).encode()
        for name in remove:
            self._ask("DELETE", f"/vhosts/{name}")
        for name in make:
            self._ask("PUT", f"/vhosts/{name}")
            self._ask("PUT", f"/permissions/{name}/{self._user}", everything)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            self._base + path, data=body, method=method, headers=self._headers
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())
