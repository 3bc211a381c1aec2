"""docs/writing-flows.md: its blocks are one module, its refusal and its drawing are true."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator import DefinitionError, Flow
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "writing-flows.md"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that the page's blocks are."""
    (tmp_path / "writing_flows.py").write_text("\n\n".join(blocks(PAGE)), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("writing_flows")
    sys.modules.pop("writing_flows")


def test_the_page_on_writing_flows_is_one_module(page: ModuleType) -> None:
    recorded = {name for name, value in vars(page).items() if isinstance(value, Flow)}

    assert len(recorded) == 14
    assert len(blocks(PAGE)) == 16


def test_the_page_shows_the_refusal_of_a_mistaken_flow(page: ModuleType, tmp_path: Path) -> None:
    [mistaken], [told] = blocks(PAGE, "py"), blocks(PAGE, "text")
    (tmp_path / "mistaken.py").write_text(mistaken, "utf-8")

    with pytest.raises(DefinitionError) as refused:
        importlib.import_module("mistaken")

    assert str(refused.value).replace(f"{tmp_path}/", "") == told.strip()


def test_the_page_shows_the_drawing_of_a_flow(page: ModuleType) -> None:
    [drawn] = blocks(PAGE, "mermaid")

    assert page.checkout.mermaid() == drawn
