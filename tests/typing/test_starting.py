"""Starts are typed by their flows: what they take and what their handles give."""

from pathlib import Path

import pytest

from tests.typing import checkers

HERE = Path(__file__).parent / "starting"
MISUSE = HERE / "misuse.py"


@pytest.mark.req("E12")
def test_mypy_strict_infers_handles_and_refuses_each_misuse_by_line_and_code() -> None:
    found = checkers.mypy([HERE / "accepted.py", MISUSE])

    assert found == checkers.pinned(MISUSE, pyright=False)


@pytest.mark.req("E12")
def test_pyright_strict_infers_handles_and_refuses_each_misuse_by_line_and_code() -> None:
    assert checkers.pyright(HERE, files=2) == checkers.pinned(MISUSE, pyright=True)
