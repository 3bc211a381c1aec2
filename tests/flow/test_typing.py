"""Type checkers see a flow as the plain program it looks like, without a plugin."""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = HERE / "typing_examples.py"
MISUSE = HERE / "typing_misuse.py"


def test_mypy_strict_accepts_the_examples_and_refuses_each_misuse_by_line_and_code() -> None:
    lines = enumerate(MISUSE.read_text().splitlines(), start=1)
    pinned = {(n, m[1]) for n, line in lines if (m := re.search(r"# mypy: ([a-z-]+)$", line))}

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", str(EXAMPLES), str(MISUSE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", checked.stdout, re.MULTILINE)
    assert pinned == {(int(n), code) for file, n, code in found if Path(file).name == MISUSE.name}
    assert {MISUSE.name} == {Path(file).name for file, _, _ in found}, checked.stdout
    assert not checked.stderr
