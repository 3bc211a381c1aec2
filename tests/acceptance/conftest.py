"""The product as its users run it: workers and beat as processes, real services.

Intervals are short, so that a test sees in seconds what production takes a minute for; their order
is that of the defaults.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.workers import Crew

FLOWS = "tests.acceptance.flows"
QUICK = {
    "beat_interval": "500ms",
    "lease": "3s",
    "outage_guard": "2s",
    "unsent_after": "1s",
    "lost_after": "4s",
    "lost_idle_after": "8s",
    "pump_interval": "250ms",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs services and processes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.system)


@pytest.fixture
def crew(new_crew: Callable[..., Crew], database_url: str, rabbitmq_url: str) -> Crew:
    """A crew on the shared services, none started yet: workers are killed, services are not."""
    return new_crew(database_url=database_url, broker_url=rabbitmq_url, modules=FLOWS, **QUICK)


@pytest.fixture
def crew_on_private_broker(
    new_crew: Callable[..., Crew], database_url: str, private_rabbit: PrivateRabbit
) -> Crew:
    """A crew whose RabbitMQ the test may kill and wipe through ``private_rabbit``."""
    return new_crew(
        database_url=database_url, broker_url=private_rabbit.url, modules=FLOWS, **QUICK
    )


@pytest.fixture
def crew_on_private_services(
    new_crew: Callable[..., Crew],
    private_database_url: str,
    private_postgres: PrivatePostgres,
    private_rabbit: PrivateRabbit,
) -> Crew:
    """A crew of which the test may kill everything, database and broker included."""
    return new_crew(
        database_url=private_database_url, broker_url=private_rabbit.url, modules=FLOWS, **QUICK
    )
