"""Deleting by hand what has ended long ago."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.runtime import sweeps
from orchestrator.runtime.search import check_text
from orchestrator.settings import Settings
from orchestrator.store import acts
from orchestrator.store.database import Database


def purge(database: Database, settings: Settings, older_than: timedelta, *, actor: str) -> int:
    """Delete executions that ended longer ago, batch by batch; return how many.

    Open ones are never deleted, and keys stay as tombstones. The audit says who did it.
    """
    check_text(actor, "the actor")
    deleted = 0
    asked = settings.model_copy(update={"keep": older_than})
    while (batch := database.run(sweeps.expire_completed, asked)) > 0:
        deleted += batch
    if deleted:
        detail = {"older_than_s": older_than.total_seconds(), "executions": deleted}
        database.run(acts.note, "purge", actor, detail)
    return deleted
