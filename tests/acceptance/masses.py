"""Many executions at once, and what their bodies may have done when everything has ended."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orchestrator import Handle
from tests.acceptance import flows
from tests.acceptance.site import Site

#: How often each body runs in one execution when nothing goes wrong.
_CALLS = {
    "mixed": Counter(numbers=1, square=3, total=1, add_apart=1, plus=1),
    "hops": Counter(add_apart=4),
    "line": Counter(add=4),
}


class Masses:
    """Executions of three shapes, started by number; the number is the key."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.handles: dict[int, Handle[Any]] = {}

    def start(self, count: int) -> None:
        """Start ``count`` more."""
        for number in range(len(self.handles), len(self.handles) + count):
            flow = (flows.mixed, flows.hops, flows.line)[number % 3]
            self.handles[number] = self._site.start(flow, number, key=f"n{number}")
        self._site.orchestrator.flush()

    def check_results(self, *, timeout: float) -> None:
        """All end by themselves, with the right results, and the law holds."""
        self.check_results_only(timeout=timeout)
        self._site.sound()

    def check_results_only(self, *, timeout: float) -> None:
        """All of these end by themselves, with the right results; others may be open."""
        results = self._site.results(self.handles.values(), timeout=timeout)
        assert results == [
            5 + number + 1 if number % 3 == 0 else number + 4 for number in self.handles
        ]
        stored = self._site.rows(
            "SELECT count(*) AS n FROM orchestrator.execution_state WHERE key IS NOT NULL"
        )
        assert stored[0]["n"] == len(self.handles), "an execution was started twice, or never"

    def bodies_run_again(self) -> int:
        """How many calls of bodies were repetitions; fails if one is missing."""
        expected: Counter[str] = Counter()
        for number in self.handles:
            expected += _CALLS[("mixed", "hops", "line")[number % 3]]
        ours = {handle.id for handle in self.handles.values()}
        calls = [call for call in self._site.ran() if call.execution in ours]
        keys = {call.key: call.body for call in calls}
        assert Counter(keys.values()) == expected, "a step never ran, or ran under two keys"
        return len(calls) - len(keys)
