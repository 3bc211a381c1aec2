"""How step runs had ended that an act opens again: rows forget it, so the act's line keeps it.

History is a view over the journal and over rows that have ended. A row that is opened again is no
line of it any more; what the operator saw before acting is told under the act.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.records import StepFacts
from orchestrator.runtime import places

#: So many are told one by one; of the others, how many there are.
_TOLD = 100
#: So much of an error's message is kept.
_MESSAGE = 500


def told(ended: Sequence[StepFacts]) -> dict[str, Any]:
    """Return what the line of an act says of step runs that had ended and that it opens again."""
    if not ended:
        return {}
    ordered = sorted(ended, key=lambda row: (row.ended_no or 0, row.address))
    found: dict[str, Any] = {"reopened": [_line(row) for row in ordered[:_TOLD]]}
    if len(ordered) > _TOLD:
        found["reopened_more"] = len(ordered) - _TOLD
    return found


def _line(row: StepFacts) -> dict[str, Any]:
    line: dict[str, Any] = {
        "step": places.text_of(row.address.name, row.address.scope),
        "was": str(row.status),
        "at": None if row.ended_at is None else row.ended_at.isoformat(),
        "attempt": row.attempt,
    }
    if row.deaths:
        line["deaths"] = row.deaths
    if row.error is not None:
        message = str(row.error.get("message") or "")
        line["error"] = {"kind": row.error.get("kind"), "message": message[:_MESSAGE]}
    return line
