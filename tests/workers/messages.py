"""Step messages for the tests of the workers."""

from __future__ import annotations

import uuid

from orchestrator.records import StepAddress, StepMessage


def message(*, queue: str = "steps", number: int = 1, label: str = "order-1") -> StepMessage:
    return StepMessage(
        address=StepAddress(uuid.uuid4(), "charge", "folder[3]", 0),
        definition_id=7,
        task="shop.folder.charge",
        number=number,
        queue=queue,
        label=label,
    )
