"""Workers whose database is reached through PgBouncer, sessions shared by transaction."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from orchestrator.store.database import Database
from tests.services.processes import wait_until
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def role_settings(database_url: str) -> None:
    """What the documents say that the role needs."""
    [text] = re.findall(r"```sql\n(ALTER ROLE.*?)```", OPERATIONS.read_text("utf-8"), re.DOTALL)
    with psycopg.connect(database_url, autocommit=True) as connection:
        role, name = connection.info.user, connection.info.dbname
        text = text.replace("ROLE shop IN DATABASE shop", f'ROLE "{role}" IN DATABASE "{name}"')
        connection.execute(text)


@pytest.mark.usefixtures("role_settings")
def test_flows_run_behind_a_pooler_and_a_silent_worker_is_declared_dead(
    open_shop: OpenShop, pooled_database_url: str, tmp_path: Path
) -> None:
    shop = open_shop(
        database_url=pooled_database_url,
        transaction_pooling=True,
        silent_after="3s",
        beat_interval="1s",
        outage_guard="2s",
    )
    victim = shop.crew.worker()
    assert shop.start("chain", 1).result(timeout=20) == 5
    file = tmp_path / "go"
    handle = shop.start("waiting", str(file))
    wait_until(Path(f"{file}.1").exists)
    shop.crew.worker(name="heir")
    victim.kill9()
    file.touch()

    assert handle.result(timeout=20) == 12
    assert [row["deaths"] for row in shop.steps("wait_for")] == [1]
    dead = shop.rows("SELECT reason FROM orchestrator.workers WHERE died")
    assert dead
    assert all(row["reason"].startswith("it has not beaten for") for row in dead)


def test_a_pooler_is_noticed(pooled_database_url: str, database_url: str) -> None:
    assert Database(pooled_database_url).meets_a_pooler()
    assert not Database(database_url).meets_a_pooler()


def test_a_worker_that_was_not_told_of_the_pooler_says_so_and_does_not_start(
    open_shop: OpenShop, pooled_database_url: str
) -> None:
    shop = open_shop(database_url=pooled_database_url)

    worker = shop.crew.worker(wait=False)

    worker.wait_for_log(r"set ORCHESTRATOR_TRANSACTION_POOLING=1")
