"""docs/how-to-trigger.md, as a reader follows it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import NotFound, Orchestrator
from tests.services.foreign import foreign
from tests.services.processes import wait_until
from tests.services.workers import Crew
from tests.test_docs import ROOT, blocks


@pytest.mark.system
@pytest.mark.req("E12")
def test_flows_are_started_by_messages_as_the_page_says(
    new_crew: Callable[..., Crew],
    database_url: str,
    rabbitmq_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published, written, repaired = blocks(ROOT / "docs" / "how-to-trigger.md")
    (tmp_path / "of_how_to_trigger.py").write_text(written, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database_url)
    monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", rabbitmq_url)
    crew = new_crew(database_url=database_url, broker_url=rabbitmq_url, modules="of_how_to_trigger")
    crew.worker(env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    flows = Orchestrator.from_env(["of_how_to_trigger"])

    def result(key: str) -> Any:
        def is_there() -> bool:
            with contextlib.suppress(NotFound):
                return bool(flows.find("checkout", key))
            return False

        wait_until(is_there)
        return flows.wait(("checkout", key), 30)

    names: dict[str, Any] = {"BROKER_URL": rabbitmq_url, "flows": flows}
    try:
        with foreign(rabbitmq_url) as program:
            wait_until(lambda: program.consumers("orchestrator.triggers") == 1)
            exec(published, names)
            names["connection"].close()
            assert result("o-1") == "order o-1 confirmed"

            program.publish({"id": "o-3"}, queue="shop.orders")
            assert result("o-3") == "order o-3 confirmed"

            program.publish({"flow": "chekout", "input": {}})
            wait_until(flows.quarantined)
            exec(repaired, names)
            assert names["handle"].result(30) == "order o-2 confirmed"
            assert flows.quarantined() == []
    finally:
        flows.close()
        flows._publish.__self__.close()  # type: ignore[attr-defined]  # the broker's connection
        sys.modules.pop("of_how_to_trigger", None)
        importlib.invalidate_caches()
