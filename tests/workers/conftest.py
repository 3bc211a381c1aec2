"""A shop: a crew of workers with the flows of `shop`, and the Orchestrator of its customers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from orchestrator.client import Orchestrator
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.settings import Settings
from orchestrator.workers import connect
from tests.services.workers import Crew
from tests.workers import shop as flows

MODULE = "tests.workers.shop"


class Shop:
    """A crew, and what its customers and operators see."""

    def __init__(self, crew: Crew, settings: Settings) -> None:
        self.crew = crew
        self.settings = settings
        self.database = connect.database(settings)
        self.sender = connect.sender(connect.broker(settings), self.database)
        self.orchestrator = Orchestrator(
            self.database,
            settings,
            Catalogue(),
            publish=self.sender.publish,
            collect=self.sender.collect,
        )
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.settings.database_url, autocommit=True, row_factory=dict_row)

    def reconnect(self) -> None:
        """After the database was away."""
        self._connection.close()
        self._connection = self._connect()

    def start(self, flow: str, *args: Any, key: str | None = None) -> Any:
        return self.orchestrator.start(getattr(flows, flow), *args, key=key)

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        return self._connection.execute(query, parameters).fetchall()

    def steps(self, name: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM orchestrator.steps WHERE name = %s", name)

    def incarnations(self) -> dict[int, dict[str, Any]]:
        """The living and the dead by their process ids."""
        found = self.rows("SELECT * FROM orchestrator.workers ORDER BY id")
        return {row["pid"]: row for row in found}

    def close(self) -> None:
        self.sender.close()
        self.database.close()
        self._connection.close()


@pytest.fixture
def file_broker(tmp_path: Path) -> str:
    """The address of a folder that serves as a broker."""
    for name in ("messages", "control", "processed"):
        (tmp_path / "broker" / name).mkdir(parents=True)
    return f"filesystem://{tmp_path}/broker"


@pytest.fixture
def open_shop(
    new_crew: Callable[..., Crew], database_url: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Shop]]:
    """Opens shops: ``open_shop("rabbitmq", lease="2s")``; no worker is started yet."""
    shops = []

    def make(broker: str = "rabbitmq", **settings: Any) -> Shop:
        name = {"rabbitmq": "rabbitmq_url", "files": "file_broker"}.get(broker)
        url = broker if name is None else request.getfixturevalue(name)
        values = {"database_url": database_url, "broker_url": url, "modules": MODULE, **settings}
        made = Shop(new_crew(**values), Settings(**values))
        shops.append(made)
        return made

    yield make
    for made in shops:
        made.close()
