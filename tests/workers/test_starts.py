"""Starts in callers' transactions reach a worker at once, and programs may fork."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from tests.services.workers import ROOT, environment
from tests.workers import shop as flows
from tests.workers.conftest import Shop

OpenShop = Callable[..., Shop]

#: With these no sweep and no look of a pump would find a start within the time that a test waits.
PATIENT = {"pump_interval": "60s", "unsent_after": "120s", "lost_after": "300s"}


@pytest.mark.system
def test_a_commit_of_any_kind_reaches_a_worker_without_any_sweep(open_shop: OpenShop) -> None:
    shop = open_shop(**PATIENT)
    shop.crew.worker()
    assert shop.start("chain", 1).result(timeout=30) == 5, "the worker is there"
    url = shop.settings.database_url
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    start = shop.orchestrator.start

    with psycopg.connect(url) as raw:
        handles = [start(flows.chain, 2, session=raw)]
    with Session(engine) as session, session.begin():
        handles.append(start(flows.chain, 3, session=session))
    with engine.begin() as core:
        handles.append(start(flows.chain, 4, session=core))

    assert [handle.result(timeout=20) for handle in handles] == [6, 7, 8]
    engine.dispose()


_FORKING = """
import os, sys
from orchestrator import Orchestrator
from tests.workers import shop

flows = Orchestrator.from_env(modules=["tests.workers.shop"])
parent = flows.start(shop.chain, 1)
child = os.fork()
if not child:
    mine = flows.start(shop.chain, 2)
    print(mine.id, flush=True)
    flows.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
after = flows.start("chain", 3)
print(parent.id, after.id, os.waitstatus_to_exitcode(status), flush=True)
flows.close()
"""


@pytest.mark.system
def test_a_program_that_forks_starts_in_parent_and_child(open_shop: OpenShop) -> None:
    shop = open_shop(**PATIENT)
    shop.crew.worker()
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", _FORKING],
        cwd=ROOT,
        env=environment()
        | {
            "ORCHESTRATOR_DATABASE_URL": shop.settings.database_url,
            "ORCHESTRATOR_BROKER_URL": shop.settings.broker_url,
            "PYTHONPATH": os.fspath(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    child, parent, after, status = done.stdout.split()
    assert status == "0"
    results = [shop.orchestrator.wait(one, timeout=20) for one in (parent, child, after)]
    assert results == [5, 6, 7]
    assert done.stderr == ""
