"""The benchmarks run, on the least that they can measure; what they measure is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.system
@pytest.mark.timeout(240)
def test_benchmarks_measure_both_systems(
    postgres_url: str, rabbitmq_url: str, redis_url: str
) -> None:
    services = {
        "ORCHESTRATOR_TEST_DATABASE_URL": postgres_url,
        "ORCHESTRATOR_TEST_BROKER_URL": rabbitmq_url,
        "ORCHESTRATOR_TEST_REDIS_URL": redis_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--size", "tiny", "--rounds", "1", "--json"],
        cwd=ROOT,
        env={**os.environ, **services},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    measured = {
        *("w1_saturated", "w1_cpu", "w1_starts", "w1_alone"),
        *("w2_alone", "w4_starts", "w4_bulk"),
    }
    assert {name: set(found) for name, found in report["medians"].items()} == {
        "orchestrator": measured,
        "celery": measured,
    }
    assert set(report["times_better"]) == measured
