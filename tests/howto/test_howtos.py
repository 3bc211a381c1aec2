"""The how-tos are these projects, and they run: a web application, a broker, a worker."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from tests.services.workers import ROOT, Crew, environment

HERE = Path(__file__).parent
FASTAPI, DJANGO = ROOT / "docs" / "how-to-fastapi.md", ROOT / "docs" / "how-to-django.md"
TESTING, BAKERY = ROOT / "docs" / "how-to-test.md", HERE / "bakery"
ADOPTING, ADOPTED = ROOT / "docs" / "how-to-adopt.md", HERE / "adopted"


@pytest.mark.parametrize(
    ("document", "project"),
    [(FASTAPI, HERE), (DJANGO, HERE / "bookstore"), (TESTING, BAKERY), (ADOPTING, ADOPTED)],
)
def test_what_a_howto_shows_is_what_runs_here(document: Path, project: Path) -> None:
    shown = re.findall(
        r"^```python\n# (\S+\.py)\n(.*?)^```", document.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )

    assert len(shown) >= 2
    for name, text in shown:
        assert (project / name).read_text("utf-8") == text, name


@pytest.fixture
def variables(database_url: str, rabbitmq_url: str) -> dict[str, str]:
    return {
        "ORCHESTRATOR_DATABASE_URL": database_url,
        "ORCHESTRATOR_BROKER_URL": rabbitmq_url,
        "COFFEE_DATABASE_URL": database_url.replace("postgresql:", "postgresql+psycopg:"),
    }


@pytest.fixture
def coffee(
    variables: dict[str, str], new_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The FastAPI application, with a worker."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(HERE)
    crew = new_crew(
        database_url=variables["ORCHESTRATOR_DATABASE_URL"],
        broker_url=variables["ORCHESTRATOR_BROKER_URL"],
        modules="coffee.flows",
    )
    crew.worker(env={"PYTHONPATH": f"{HERE}:{ROOT}"})
    yield importlib.import_module("coffee.web")
    for module in [name for name in sys.modules if name.partition(".")[0] == "coffee"]:
        del sys.modules[module]


@pytest.mark.system
@pytest.mark.req("E12")
def test_a_fastapi_endpoint_starts_a_flow_in_its_transaction(
    coffee: Any, variables: dict[str, str]
) -> None:
    order = {"id": "o-1", "kilos": 5, "address": "the harbour"}
    with TestClient(coffee.app) as client:
        placed = client.post("/orders", json=order)
        assert placed.status_code == 202
        answer = coffee.flows.wait(placed.json()["execution"], 30)
        assert answer == "5 kg roasted, posted to the harbour"
        assert client.post("/orders", json=order).json() == placed.json()
        assert client.get("/orders/o-1").json() == {"status": "succeeded", "steps": "2 of 2"}
        assert client.get("/orders/o-2").status_code == 404

        refused = client.post("/orders", json={**order, "kilos": 6})
        assert refused.status_code == 409
        assert "key 'o-1' of flow 'deliver'" in refused.json()["detail"]
        too_much = client.post("/orders", json={**order, "id": "o-3", "kilos": 1_000})
        assert too_much.status_code == 422

    with psycopg.connect(variables["ORCHESTRATOR_DATABASE_URL"]) as connection:
        orders = connection.execute("SELECT id FROM orders").fetchall()
        executions = connection.execute("SELECT key FROM orchestrator.keys").fetchall()
    assert orders == executions == [("o-1",)]


_VISITOR = """
import json, django
django.setup()
from django.test import Client
client = Client()
placed = client.post("/orders/", {"title": "Emma"})
assert placed.status_code == 202, placed.content
try:
    client.post("/orders/", {"title": ""})
except ValueError:
    pass
from orders.views import flows
told = {**placed.json(), "result": flows.wait(placed.json()["execution"], 30)}
told["look"] = client.get(f"/orders/{told['order']}/").json()
flows.close()
print(json.dumps(told))
"""


@pytest.mark.system
@pytest.mark.req("E12")
def test_a_django_project_starts_a_flow_with_its_model(
    variables: dict[str, str], new_crew: Callable[..., Crew]
) -> None:
    project = HERE / "bookstore"
    variables = {
        **variables,
        "PYTHONPATH": f"{project}:{ROOT}",
        "DJANGO_SETTINGS_MODULE": "bookstore.settings",
    }

    def python(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command],
            cwd=project,
            env=environment() | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=90,
        ).stdout

    python("manage.py", "migrate", "--verbosity", "0")
    crew = new_crew(
        database_url=variables["ORCHESTRATOR_DATABASE_URL"],
        broker_url=variables["ORCHESTRATOR_BROKER_URL"],
    )
    crew.worker(app="bookstore", queues=["bookstore", "orchestrator"], env=variables)

    told = json.loads(python("-c", _VISITOR))

    assert told["result"] == f"order {told['order']} is packed (0 retries)"
    assert told["look"] == {"status": "succeeded", "order": "packed"}
    with psycopg.connect(variables["ORCHESTRATOR_DATABASE_URL"]) as connection:
        orders = connection.execute("SELECT title, status FROM orders_order").fetchall()
        keys = connection.execute("SELECT key FROM orchestrator.keys").fetchall()
    assert orders == [("Emma", "packed")]
    assert keys == [(f"order-{told['order']}",)]


_BUYER = """
from shop.orders import buy, flows
from shop.tasks import invoice
invoice.delay("o-2")
print(flows.wait(buy("o-1"), 30))
flows.close()
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("workers", "settings"),
    [
        ([["legacy"], ["orchestrator"]], {}),
        ([["legacy", "orchestrator"]], {}),
        ([["legacy"]], {"ORCHESTRATOR_QUEUE": "legacy"}),
    ],
    ids=["workers of their own", "one worker", "one queue"],
)
def test_an_application_runs_its_tasks_and_adopts_one(
    workers: list[list[str]],
    settings: dict[str, str],
    variables: dict[str, str],
    new_crew: Callable[..., Crew],
) -> None:
    variables = {**variables, **settings, "PYTHONPATH": f"{ADOPTED}:{ROOT}"}
    crew = new_crew()
    first, *_ = [
        crew.worker(app="shop.celery", queues=queues, env=variables, concurrency=1, wait=False)
        for queues in workers
    ]

    told = subprocess.run(
        [sys.executable, "-c", _BUYER],
        env=environment(variables),
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    ).stdout

    assert told == "invoice of o-1 posted to the buyer of o-1\n"
    first.wait_for_log(r"shop\.tasks\.invoice.*succeeded.*invoice of o-2")


@pytest.mark.system
def test_a_project_tests_its_flows_with_services_of_its_own() -> None:
    alone = ("--rootdir", ".", "--confcutdir", ".", "-c", "/dev/null", "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *alone],
        cwd=BAKERY,
        env={**environment(), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 passed" in ran.stdout
