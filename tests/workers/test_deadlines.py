"""A deadline with real workers: the pump finds it, and the body that runs is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import ExecutionFailed
from tests.workers.conftest import Shop


@pytest.mark.parametrize("broker", ["rabbitmq", "files"])
def test_an_execution_fails_by_its_deadline_while_a_step_runs_and_another_waits(
    open_shop: Callable[..., Shop], broker: str, tmp_path: Path
) -> None:
    shop = open_shop(broker, lease="2s", beat_interval="1s")
    shop.crew.worker()

    handle = shop.start("hurried", str(tmp_path / "file"))

    with pytest.raises(ExecutionFailed, match="its deadline of 2s passed"):
        handle.result(timeout=30)
    (stopped,) = shop.steps("stop_when_asked")
    assert stopped["cancel_asked"]
    assert stopped["status"] == "succeeded"  # it returned when it was asked: that is kept
