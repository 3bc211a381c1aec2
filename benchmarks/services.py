"""A database, a virtual host and a Redis number of our own on the services of this machine.

The services are those that ORCHESTRATOR_TEST_DATABASE_URL, _BROKER_URL and _REDIS_URL name, else
those on this host's usual ports. What is made here is gone afterwards; a virtual host that the
variable names is taken as it is.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import amqp
import psycopg
import redis
from psycopg import sql

from orchestrator.store import migrate

_MANAGEMENT_PORT = os.environ.get("ORCHESTRATOR_TEST_MANAGEMENT_PORT", "15672")
_EVERYTHING = json.dumps({"configure": ".*", "write": ".*", "read": ".*"}).encode()


class Missing(Exception):
    """A service that is not here; the text says which and what was tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """Addresses of what belongs to this run alone, and the versions behind them."""

    database_url: str
    broker_url: str
    redis_url: str
    versions: dict[str, str]


@contextlib.contextmanager
def services() -> Iterator[Services]:
    """Make a migrated database, a virtual host and an empty Redis number for a while."""
    name = f"orchestrator_bench_{os.getpid()}"
    with contextlib.ExitStack() as made:
        database_url, postgres = made.enter_context(_database(name))
        broker_url, rabbit = made.enter_context(_virtual_host(name))
        redis_url, redis_version = made.enter_context(_redis())
        versions = {"PostgreSQL": postgres, "RabbitMQ": rabbit, "Redis": redis_version}
        yield Services(
            database_url=database_url,
            broker_url=broker_url,
            redis_url=redis_url,
            versions=versions,
        )


@contextlib.contextmanager
def _database(name: str) -> Iterator[tuple[str, str]]:
    named = os.environ.get("ORCHESTRATOR_TEST_DATABASE_URL")
    users = ("postgres", _user(), "orchestrator:orchestrator")
    urls = [named] if named else [f"postgresql://{user}@127.0.0.1:5432/postgres" for user in users]
    identifier = sql.Identifier(name)
    for url in urls:
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=3) as server:
                server.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
                version = str(server.info.server_version // 10000)
        except psycopg.Error:
            continue
        break
    else:
        raise Missing("no PostgreSQL on 127.0.0.1:5432 that lets us create a database")
    own = re.sub(r"^(\w+://[^/?]*)(?:/[^?]*)?", rf"\g<1>/{name}", url)
    try:
        migrate.upgrade(own)
        yield own, version
    finally:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@contextlib.contextmanager
def _virtual_host(name: str) -> Iterator[tuple[str, str]]:
    url = os.environ.get("ORCHESTRATOR_TEST_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672/")
    version = _rabbit_version(url)
    if urlsplit(url).path not in {"", "/", "//", "/%2F"}:
        yield url, version
        return
    own = urlsplit(url)._replace(path=f"/{name}").geturl()
    user = urlsplit(url).username or "guest"
    try:
        ask = partial(_ask_management, url)
        ask("PUT", f"/vhosts/{name}")
        ask("PUT", f"/permissions/{name}/{user}", _EVERYTHING)
        remove: Callable[[], object] = partial(ask, "DELETE", f"/vhosts/{name}")
    except (urllib.error.URLError, OSError):
        _control("add_vhost", name)
        _control("set_permissions", "-p", name, user, ".*", ".*", ".*")
        remove = partial(_control, "delete_vhost", name)
    try:
        yield own, version
    finally:
        remove()


@contextlib.contextmanager
def _redis() -> Iterator[tuple[str, str]]:
    url = os.environ.get("ORCHESTRATOR_TEST_REDIS_URL", "redis://127.0.0.1:6379")
    for number in range(15, 0, -1):
        own = urlsplit(url)._replace(path=f"/{number}").geturl()
        client: redis.Redis = redis.Redis.from_url(own)
        try:
            if client.dbsize():
                continue
            version = str(client.info("server")["redis_version"])
        except redis.exceptions.RedisError as error:
            raise Missing(f"Redis at {url}: {error}") from None
        try:
            yield own, version
        finally:
            client.flushdb()
            client.close()
        return
    raise Missing(f"Redis at {url} has no empty database among 1 to 15")


def _rabbit_version(url: str) -> str:
    parts = urlsplit(url)
    try:
        with amqp.Connection(
            f"{parts.hostname}:{parts.port or 5672}",
            userid=parts.username or "guest",
            password=parts.password or "guest",
            virtual_host=parts.path[1:] or "/",
            connect_timeout=20,
        ) as connection:
            known: Any = connection
            return str(known.server_properties["version"])
    except (OSError, amqp.AMQPError) as error:
        raise Missing(f"RabbitMQ on {parts.hostname}:{parts.port or 5672}: {error}") from None


def _ask_management(url: str, method: str, path: str, body: bytes | None = None) -> bytes:
    parts = urlsplit(url)
    secret = b64encode(f"{parts.username or 'guest'}:{parts.password or 'guest'}".encode()).decode()
    request = urllib.request.Request(
        f"http://{parts.hostname}:{_MANAGEMENT_PORT}/api{path}",
        data=body,
        method=method,
        headers={"Authorization": f"Basic {secret}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def _control(*arguments: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    program = shutil.which("rabbitmqctl", path=path)
    if program is None:
        raise Missing("a virtual host needs RabbitMQ's management plugin or rabbitmqctl")
    done = subprocess.run(
        [program, "-q", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise Missing(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}".strip())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return "postgres"
