"""pytest-celery's `celery_setup`, without a container engine."""

import pytest
from celery.result import AsyncResult
from pytest_celery import CeleryTestSetup


@pytest.mark.system
def test_setup_runs_a_task(celery_setup: CeleryTestSetup) -> None:
    assert celery_setup.ready(ping=True, control=True)

    added: AsyncResult = celery_setup.app.send_task("trivial.add", [2, 3])

    assert added.get(timeout=20) == 5
    celery_setup.worker.assert_log_exists("trivial.add")


@pytest.mark.system
def test_setup_survives_a_killed_worker(celery_setup: CeleryTestSetup) -> None:
    celery_setup.worker.kill()
    added: AsyncResult = celery_setup.app.send_task("trivial.add", [2, 3])

    celery_setup.worker.restart()

    assert added.get(timeout=20) == 5
