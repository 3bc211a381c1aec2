"""Long kills: `make chaos` takes its time, `make test` runs a slice.

CHAOS_SECONDS and CHAOS_SEED say how long and which kills; a failing run tells its seed.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.conftest import (  # noqa: F401 - fixtures of these tests too
    _own_postgres,
    _own_rabbit,
    open_site,
    own_database_url,
    own_postgres,
    own_rabbit,
    site_on_own_broker,
    site_on_own_services,
)

_LONG, _SLICE = 90, 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is chaos."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.chaos)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosTime:
    """How long, and which kills."""

    is_long: bool
    seconds: float
    seed: int


@pytest.fixture
def chaos_time(request: pytest.FixtureRequest) -> ChaosTime:
    """Long where chaos was asked for: ``pytest -m chaos``, or CHAOS_SECONDS."""
    is_long = request.config.option.markexpr == "chaos" or "CHAOS_SECONDS" in os.environ
    return ChaosTime(
        is_long=is_long,
        seconds=float(os.environ.get("CHAOS_SECONDS", _LONG if is_long else _SLICE)),
        seed=int(os.environ.get("CHAOS_SEED", time.time_ns() // 1_000_000_000)),
    )
