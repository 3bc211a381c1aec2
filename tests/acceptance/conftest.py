"""The product as its users run it: workers and beat as processes, real services.

Intervals are short, so that a test sees in seconds what production takes a minute for; their order
is that of the defaults. A RabbitMQ and a PostgreSQL of our own serve the whole session: a test may
stop, kill and wipe them, and the next one finds them running, with a queue and a database of its
own.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Settings
from tests.acceptance import flows
from tests.acceptance.site import Site
from tests.conftest import _CREWS, _migrate, obtain
from tests.services import discovery
from tests.services.databases import Databases
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.vhosts import Vhosts
from tests.services.workers import Crew, crew

FLOWS = "tests.acceptance.flows"
QUICK = {
    "beat_interval": "500ms",
    "lease": "3s",
    "outage_guard": "2s",
    "unsent_after": "2s",
    "lost_after": "4s",
    "lost_idle_after": "5s",
    "pump_interval": "250ms",
}
OpenSite = Callable[..., Site]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs services and processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.system)


# Services that a test may stop, kill and wipe


@pytest.fixture(scope="session")
def _own_rabbit() -> Iterator[PrivateRabbit]:
    node = obtain(discovery.private_rabbitmq)
    yield node.start()
    node.close()


@pytest.fixture
def own_rabbit(_own_rabbit: PrivateRabbit) -> Iterator[PrivateRabbit]:
    """A RabbitMQ for tests that stop, kill and wipe it; it runs when a test begins."""
    yield _own_rabbit
    if not _own_rabbit.child.running():
        _own_rabbit.start()


@pytest.fixture(scope="session")
def _own_postgres() -> Iterator[tuple[PrivatePostgres, Databases]]:
    server = obtain(discovery.private_postgres)
    server.start()
    yield server, Databases(server.url, migrate=_migrate)
    server.close()  # its databases go with it


@pytest.fixture
def own_postgres(_own_postgres: tuple[PrivatePostgres, Databases]) -> Iterator[PrivatePostgres]:
    """A PostgreSQL for tests that stop and kill it; it runs when a test begins."""
    server, _ = _own_postgres
    yield server
    if not server.child.running():
        server.start()


@pytest.fixture
def own_database_url(
    own_postgres: PrivatePostgres, _own_postgres: tuple[PrivatePostgres, Databases]
) -> Iterator[str]:
    """A migrated database on `own_postgres`."""
    _, databases = _own_postgres
    with databases.migrated() as url:
        yield url
        if not own_postgres.child.running():
            own_postgres.start()


@pytest.fixture
def file_broker_url(tmp_path: Path) -> str:
    """A folder that serves as a broker."""
    for name in ("messages", "control", "processed"):
        (tmp_path / "broker" / name).mkdir(parents=True)
    return f"filesystem://{tmp_path}/broker"


# Installations


@pytest.fixture
def open_site(
    new_crew: Callable[..., Crew], tmp_path: Path, request: pytest.FixtureRequest
) -> OpenSite:
    """Opens sites: ``open_site(database_url, broker_url, lease="60s")``; nothing runs yet."""

    def make(database_url: str, broker_url: str, **settings: Any) -> Site:
        folder = tmp_path / "traces"
        folder.mkdir(exist_ok=True)
        values = {
            **QUICK,
            "database_url": database_url,
            "broker_url": broker_url,
            "modules": FLOWS,
            "queue": f"q{abs(hash((request.node.nodeid, str(tmp_path)))):x}",
            **settings,
        }
        for_bodies = {name: values.pop(name) for name in list(values) if name[:5] == "test_"}
        members = new_crew(**values, **for_bodies, test_folder=folder)
        made = Site(members, Settings(**values), folder)
        # of the test, not of this fixture: before any database or broker is taken away
        request.node.addfinalizer(made.close)
        return made

    return make


@pytest.fixture
def site(open_site: OpenSite, database_url: str, rabbitmq_url: str) -> Site:
    """A site on the shared services: workers are killed, services are not."""
    return open_site(database_url, rabbitmq_url)


@pytest.fixture
def site_on_own_broker(open_site: OpenSite, database_url: str, own_rabbit: PrivateRabbit) -> Site:
    """A site whose RabbitMQ the test may stop, kill and wipe through ``own_rabbit``."""
    return open_site(database_url, own_rabbit.url)


@pytest.fixture
def site_on_own_services(
    open_site: OpenSite, own_database_url: str, own_rabbit: PrivateRabbit
) -> Site:
    """A site of which the test may kill everything, database and broker included."""
    return open_site(own_database_url, own_rabbit.url)


@pytest.fixture(scope="module")
def _worked_site(
    databases: Databases, _vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("traces")
    with databases.migrated() as database, _vhosts.new() as broker:
        values = {**QUICK, "database_url": database, "broker_url": broker, "modules": FLOWS}
        variables = {f"ORCHESTRATOR_{name.upper()}": value for name, value in values.items()}
        with crew({**variables, flows.FOLDER: str(folder)}) as members:
            made = Site(members, Settings(**values), folder)  # type: ignore[arg-type]
            made.worker()
            yield made
            made.close()


@pytest.fixture
def worked_site(_worked_site: Site, request: pytest.FixtureRequest) -> Iterator[Site]:
    """An empty site with one worker (prefork), which a module's tests share: kill nothing."""
    _worked_site.empty()
    request.node.stash.setdefault(_CREWS, []).append(_worked_site.crew)
    yield _worked_site
    assert _worked_site.crew.programs[0].running(), "the worker that the tests share is gone"
