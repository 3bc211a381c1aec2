"""The documents say what is: generated parts are fresh, links lead somewhere, examples run."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator import ExecutionFailed
from tests.services.workers import Crew
from tools import generate_docs

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str = "python") -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_generated_parts_are_what_the_code_says(path: Path) -> None:
    text = path.read_text("utf-8")

    assert generate_docs.generated(text) == text, "run python tools/generate_docs.py"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


OpenShop = Callable[[str], dict[str, Any]]


@pytest.fixture
def open_shop(
    new_crew: Callable[..., Crew],
    database_url: str,
    rabbitmq_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OpenShop]:
    """Writes a document's flow into a module of its own, with a worker; returns its names."""
    names: dict[str, Any] = {}

    def write(flow: str) -> dict[str, Any]:
        (tmp_path / "of_a_document.py").write_text(flow, "utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database_url)
        monkeypatch.setenv("ORCHESTRATOR_BROKER_URL", rabbitmq_url)
        crew = new_crew(database_url=database_url, broker_url=rabbitmq_url, modules="of_a_document")
        crew.worker(env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
        names.update(vars(importlib.import_module("of_a_document")))
        return names

    yield write
    sys.modules.pop("of_a_document", None)
    if "flows" in names:
        names["flows"].close()


def test_the_readmes_flow_runs_and_is_operated_as_the_docs_say(open_shop: OpenShop) -> None:
    written, started = blocks(ROOT / "README.md")
    [operated] = blocks(ROOT / "docs" / "operations.md")
    names = open_shop(written)

    exec(started, names)
    answer = names["handle"].result(timeout=60)
    exec(operated.replace("flows.retry(execution) ", "() "), names)  # it has not failed

    assert answer.endswith(": tea reserved, cup reserved")
    assert names["flows"].wait(names["execution"], 60) == answer


def test_the_queries_of_operations_are_answered(database_url: str) -> None:
    text = "".join(blocks(ROOT / "docs" / "operations.md", "sql"))
    queries = re.findall(r"^SELECT.*?;$", text, re.DOTALL | re.MULTILINE)

    assert len(queries) == 8
    with psycopg.connect(database_url) as connection:
        for query in queries:
            connection.execute(query.replace("'...'", f"'{UUID(int=0)}'")).fetchall()


def test_the_tutorial_runs_as_it_is_written(
    open_shop: OpenShop, capsys: pytest.CaptureFixture[str]
) -> None:
    written, started, failed, retried, shown = blocks(ROOT / "docs" / "tutorial.md")
    assert shown in (ROOT / "examples" / "purchase" / "flows.py").read_text("utf-8")
    names = open_shop(written)

    for block in (started, failed, retried):
        exec(block, names)

    told = capsys.readouterr().out
    assert told.startswith("12\n")
    assert "step read[1]/read" in told
    assert "ValueError: invalid literal for int()" in told
    with pytest.raises(ExecutionFailed):
        names["handle"].result(timeout=60)
    assert names["handle"].view().facts.failed == 1
