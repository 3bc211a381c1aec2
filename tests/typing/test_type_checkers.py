"""Type checkers see a flow as the plain program it looks like, without a plugin.

What must be accepted is accepted by mypy strict and by pyright strict (as basedpyright, which comes
from the package index with its own Node). Of what must be refused, every line says which codes.
"""

from pathlib import Path

import pytest

from tests.test_docs import blocks
from tests.typing import checkers

HERE = Path(__file__).parent
MISUSE = HERE / "misuse.py"
ACCEPTED = [HERE / "accepted.py", checkers.ROOT / "examples" / "first_flows.py"]


@pytest.mark.req("E6")
def test_mypy_strict_accepts_the_examples_and_refuses_each_misuse_by_line_and_code(
    tmp_path: Path,
) -> None:
    page = tmp_path / "writing_flows.py"
    page.write_text("\n\n".join(blocks(checkers.ROOT / "docs" / "writing-flows.md")), "utf-8")

    found = checkers.mypy([*ACCEPTED, page, MISUSE])

    assert found == checkers.pinned(MISUSE, pyright=False)


@pytest.mark.req("E6")
def test_pyright_strict_accepts_the_examples_and_refuses_each_misuse_by_line_and_code() -> None:
    found = checkers.pyright(HERE, files=len(ACCEPTED) + 1)

    assert found == checkers.pinned(MISUSE, pyright=True)
