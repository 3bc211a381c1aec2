"""The project's own tasks, as they always were."""

from __future__ import annotations

from celery import shared_task


@shared_task
def price(title: str) -> int:
    return len(title)
