"""From step runs that want a message to the messages themselves."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.records import Ordered, StepMessage
from orchestrator.runtime.catalogue import Registered, task_name
from orchestrator.store.executions import Woken
from orchestrator.store.sweeping import Attended


def of_ordered(
    registered: Registered, ordered: Iterable[Ordered | Woken], key: str | None
) -> list[StepMessage]:
    """Return the messages of step runs of one execution that a commit made ready."""
    return [
        StepMessage(
            address=row.address,
            definition_id=registered.id,
            task=task_name(registered.flow, row.address.name, row.address.scope),
            number=row.number,
            queue=row.queue,
            label=key or "",
        )
        for row in ordered
    ]


def of_attended(rows: Iterable[Attended]) -> list[StepMessage]:
    """Return the messages that a sweep wants sent."""
    return [
        StepMessage(
            address=row.address,
            definition_id=row.definition_id,
            task=task_name(row.flow, row.address.name, row.address.scope),
            number=row.number,
            queue=row.queue,
            label=row.key or "",
        )
        for row in rows
        if row.verdict == "send"
    ]
