"""Which servers a test session uses.

In this order: named by a variable, found on this machine's usual port, started from installed
binaries (for PostgreSQL also those of the `embedded` extra), started as a container. What cannot
be had is `Missing`: its tests are NOT RUN, said loudly, or fail where REQUIRE_SERVICES=1 is set.

    ORCHESTRATOR_TEST_DATABASE_URL, _BROKER_URL, _REDIS_URL   name a server
    ORCHESTRATOR_TEST_IGNORE_LOCAL=1                          look at no usual port
    ORCHESTRATOR_TEST_IGNORE_INSTALLED=1                      nor at installed binaries
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.services import containers, pgbouncer, postgres, rabbitmq, redis
from tests.services.pgbouncer import PrivatePooler
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.redis import PrivateRedis


class Private(Protocol):
    """A server of ours."""

    url: str

    def close(self) -> None: ...


class Missing(Exception):
    """A service that cannot be had here; the text says what was tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """A server that the tests of this session share.

    Attributes:
        url: its address.
        how: where it comes from, for the header of the report.
        private: the server as ours, when this session started it.
    """

    url: str
    how: str
    private: Private | None = None

    def close(self) -> None:
        if self.private is not None:
            self.private.close()


def find_postgres() -> Server:
    """A PostgreSQL server on which we may create databases."""
    if url := os.environ.get("ORCHESTRATOR_TEST_DATABASE_URL"):
        return Server(url=url, how="named by ORCHESTRATOR_TEST_DATABASE_URL")
    if _local_allowed():
        for user in ("postgres", _user(), "orchestrator:orchestrator"):
            url = f"postgresql://{user}@127.0.0.1:5432/postgres"
            if postgres.may_create_databases(url):
                return Server(url=url, how="found on port 5432")
    if _installed_allowed() and (binaries := postgres.installed_binaries()):
        return _ours(PrivatePostgres(binaries).start, "started from installed binaries")
    if binaries := postgres.bundled_binaries():
        return _ours(PrivatePostgres(binaries).start, "started from the embedded extra")
    if containers.engine():
        return _ours(containers.start_postgres, "started as a container")
    raise Missing("PostgreSQL: none named, found, installed or embedded, and no container engine")


def find_rabbitmq() -> Server:
    """A RabbitMQ broker."""
    if url := os.environ.get("ORCHESTRATOR_TEST_BROKER_URL"):
        return Server(url=url, how="named by ORCHESTRATOR_TEST_BROKER_URL")
    if (
        _local_allowed()
        and rabbitmq.speaks_amqp("127.0.0.1", 5672)
        and rabbitmq.local_control_works()
    ):
        return Server(url="amqp://guest:guest@127.0.0.1:5672/", how="found on port 5672")
    if _installed_allowed() and rabbitmq.can_be_started():
        return _ours(PrivateRabbit().start, "started from the installed server")
    if containers.engine():
        return _ours(containers.start_rabbitmq, "started as a container")
    raise Missing("RabbitMQ: none named, found or installed, and no container engine")


def find_redis() -> Server:
    """A Redis server."""
    if url := os.environ.get("ORCHESTRATOR_TEST_REDIS_URL"):
        return Server(url=url, how="named by ORCHESTRATOR_TEST_REDIS_URL")
    if _local_allowed() and redis.answers_ping("127.0.0.1", 6379):
        return Server(url="redis://127.0.0.1:6379/0", how="found on port 6379")
    if _installed_allowed() and redis.can_be_started():
        return _ours(PrivateRedis().start, "started from the installed server")
    if containers.engine():
        return _ours(containers.start_redis, "started as a container")
    raise Missing("Redis: none named, found or installed, and no container engine")


def private_postgres() -> PrivatePostgres:
    """A PostgreSQL that a test may kill; not started yet."""
    binaries = (postgres.installed_binaries() if _installed_allowed() else None) or (
        postgres.bundled_binaries()
    )
    if binaries is None:
        raise Missing("PostgreSQL that may be killed: no server installed or embedded")
    return PrivatePostgres(binaries)


def private_rabbitmq() -> PrivateRabbit:
    """A RabbitMQ that a test may kill; not started yet."""
    if not (_installed_allowed() and rabbitmq.can_be_started()):
        raise Missing("RabbitMQ that may be killed: no server installed")
    return PrivateRabbit()


def private_redis() -> PrivateRedis:
    """A Redis that a test may kill; not started yet."""
    if not (_installed_allowed() and redis.can_be_started()):
        raise Missing("Redis that may be killed: no server installed")
    return PrivateRedis()


def private_pooler(database_url: str) -> PrivatePooler:
    """A PgBouncer before a database; not started yet."""
    if not (_installed_allowed() and pgbouncer.installed()):
        raise Missing("PgBouncer: none installed")
    return PrivatePooler(database_url)


def _ours(start: Callable[[], Private], how: str) -> Server:
    private = start()
    return Server(url=private.url, how=how, private=private)


def _local_allowed() -> bool:
    return not os.environ.get("ORCHESTRATOR_TEST_IGNORE_LOCAL")


def _installed_allowed() -> bool:
    return not os.environ.get("ORCHESTRATOR_TEST_IGNORE_INSTALLED")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return "postgres"
