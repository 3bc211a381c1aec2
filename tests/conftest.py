"""Fixtures for every test: servers, databases, virtual hosts, workers.

Nothing here starts anything before a test asks for it. Which server a session uses, and what
happens where there is none, is told by `tests.services.discovery`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from celery import Celery
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
    RabbitMQTestBroker,
)

from tests.services import discovery, nodes, processes
from tests.services.databases import Databases
from tests.services.discovery import Missing, Server
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.redis import PrivateRedis
from tests.services.vhosts import Vhosts
from tests.services.workers import Crew, crew

pytest_plugins = ["tests.req_report"]

# A run that was started in a shell's background ignores SIGINT, and so would every program that a
# test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

T = TypeVar("T")
_NOT_RUN = "NOT RUN: no "
_used: dict[str, str] = {}  # service -> where it comes from, for the report


def obtain(find: Callable[[], T]) -> T:
    """What ``find`` gives; where it is missing the test is not run, or fails if it must run."""
    try:
        return find()
    except Missing as error:
        missing = str(error)
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(f"REQUIRE_SERVICES is set and there is no {missing}", pytrace=False)
    pytest.skip(_NOT_RUN + missing)


# PostgreSQL


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[Server]:
    server = obtain(discovery.find_postgres)
    _used["PostgreSQL"] = server.how
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_url(_postgres_server: Server) -> str:
    """A PostgreSQL server on which databases may be made; never to be killed."""
    return _postgres_server.url


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Iterator[Databases]:
    """Makes databases on the session's server."""
    made = Databases(postgres_url, migrate=_migrate)
    yield made
    made.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A fresh database at the newest migration."""
    with databases.migrated() as url:
        yield url


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A fresh database without our schema."""
    with databases.empty() as url:
        yield url


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL of the test's own, running, to be stopped and killed; its schema is empty."""
    server = obtain(discovery.private_postgres)
    yield server.start()
    server.close()


@pytest.fixture
def private_database_url(private_postgres: PrivatePostgres) -> str:
    """A migrated database on the test's own PostgreSQL."""
    _migrate(private_postgres.url)
    return private_postgres.url


@pytest.fixture
def pooled_database_url(database_url: str) -> Iterator[str]:
    """The fresh database behind a PgBouncer that shares sessions by transaction."""
    pooler = obtain(lambda: discovery.private_pooler(database_url))
    try:
        yield pooler.start().url
    finally:
        pooler.close()


def _migrate(url: str) -> None:
    from orchestrator.store.migrate import upgrade  # noqa: PLC0415 - only where it is needed

    upgrade(url)


# RabbitMQ


@pytest.fixture(scope="session")
def _rabbitmq_server() -> Iterator[Server]:
    server = obtain(discovery.find_rabbitmq)
    _used["RabbitMQ"] = server.how
    yield server
    server.close()


@pytest.fixture(scope="session")
def _vhosts(_rabbitmq_server: Server) -> Iterator[Vhosts]:
    made = obtain(lambda: Vhosts(_rabbitmq_server))
    yield made
    made.close()


@pytest.fixture
def rabbitmq_url(_vhosts: Vhosts) -> Iterator[str]:
    """A fresh virtual host on a RabbitMQ that must not be killed."""
    with _vhosts.new() as url:
        yield url


@pytest.fixture
def private_rabbit() -> Iterator[PrivateRabbit]:
    """A RabbitMQ of the test's own, running, to be stopped, killed and wiped (boots in 5 s)."""
    node = obtain(discovery.private_rabbitmq)
    yield node.start()
    node.close()


# Redis


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[Server]:
    server = obtain(discovery.find_redis)
    _used["Redis"] = server.how
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_url(_redis_server: Server) -> str:
    """A Redis server; shared, so use keys that are yours alone."""
    return _redis_server.url


@pytest.fixture
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis of the test's own, running."""
    server = obtain(discovery.private_redis)
    yield server.start()
    server.close()


# Workers


@pytest.fixture
def new_crew(request: pytest.FixtureRequest) -> Iterator[Callable[..., Crew]]:
    """Makes crews: ``new_crew(database_url=..., broker_url=...)``, ended with the test.

    Further keywords become ORCHESTRATOR_* variables: ``lease="5s"`` is ORCHESTRATOR_LEASE.
    """
    open_crews = []

    def make(**settings: object) -> Crew:
        env = {f"ORCHESTRATOR_{name.upper()}": str(value) for name, value in settings.items()}
        manager = crew(env)
        open_crews.append(manager)
        members = manager.__enter__()
        request.node.stash.setdefault(_CREWS, []).append(members)
        return members

    yield make
    for manager in reversed(open_crews):
        manager.__exit__(None, None, None)


_CREWS = pytest.StashKey[list[Crew]]()


# pytest-celery: `celery_setup` on our own servers and processes


@pytest.fixture
def celery_broker_cluster(request: pytest.FixtureRequest) -> Iterator[CeleryBrokerCluster]:
    """The shared broker in a fresh virtual host; a private one for a test marked ``chaos``."""
    if nodes.containers_wanted():
        node = request.getfixturevalue("celery_rabbitmq_broker")
    elif request.node.get_closest_marker("chaos"):
        private = request.getfixturevalue("private_rabbit")
        node = RabbitMQTestBroker(nodes.LocalServer(private.url, private=private))
    else:
        node = RabbitMQTestBroker(nodes.LocalServer(request.getfixturevalue("rabbitmq_url")))
    cluster = CeleryBrokerCluster(node)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(request: pytest.FixtureRequest) -> Iterator[CeleryBackendCluster]:
    """The shared Redis."""
    if nodes.containers_wanted():
        node = request.getfixturevalue("celery_redis_backend")
    else:
        node = CeleryTestBackend(nodes.LocalServer(request.getfixturevalue("redis_url")))
    cluster = CeleryBackendCluster(node)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_worker_cluster(
    request: pytest.FixtureRequest,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_backend_cluster: CeleryBackendCluster,
    celery_setup_app: Celery,
) -> Iterator[CeleryWorkerCluster]:
    """One worker process with the trivial application."""
    if nodes.containers_wanted():
        node = request.getfixturevalue("celery_setup_worker")
    else:
        members = request.getfixturevalue("new_crew")(
            broker_url=celery_broker_cluster[0].config()["url"],
            test_redis_url=celery_backend_cluster[0].config()["url"],
        )
        worker = members.worker(app="tests.services.trivial")
        node = CeleryTestWorker(nodes.LocalWorker(worker, queue=nodes.QUEUE), app=celery_setup_app)
    cluster = CeleryWorkerCluster(node)
    yield cluster
    cluster.teardown()


@pytest.fixture
def celery_setup_cls() -> type[CeleryTestSetup]:
    """A setup whose application knows the queue of the trivial application."""
    return CeleryTestSetup if nodes.containers_wanted() else nodes.LocalSetup


# The run as a whole


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failing test shows how the logs of its workers end."""
    report = yield
    if report.failed:
        for members in item.stash.get(_CREWS, []):
            report.sections.append(("worker logs", members.logs()))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing that a test started outlives the session.

    One of several processes hands over which servers it used.
    """
    processes.end_everything()
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["used"] = dict(_used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """In the process that started the others: take that over."""
    _used.update(getattr(node, "workeroutput", {}).get("used", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers were used, and loudly what could not be had."""
    for service, how in sorted(_used.items()):
        terminalreporter.write_line(f"{service}: {how}")
    not_run: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if _NOT_RUN in reason:
            missing = reason.split(_NOT_RUN, 1)[1]
            not_run[missing] = not_run.get(missing, 0) + 1
    if not_run:
        terminalreporter.section("NOT RUN", red=True, bold=True)
        for missing, count in sorted(not_run.items()):
            terminalreporter.write_line(f"{count} tests were not run: there is no {missing}")
