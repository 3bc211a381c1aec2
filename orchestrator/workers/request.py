"""Celery's request, told about the death of the process that ran it before the broker is.

When a pool process dies, the pool reports it here and Celery requeues the message. Another worker
may have it a millisecond later, so the incarnation of the dead must have ended by then: only then
does the other find the step orphaned and count one death, with its signal.
"""

from __future__ import annotations

from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request as CeleryRequest

from orchestrator.workers.crew import crew_of


class Request(CeleryRequest):
    """Ends the incarnation of a lost process before its message goes back to the broker."""

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> Any:
        """Handle a task that failed, or whose process is gone."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        pid: Any = self.worker_pid
        if isinstance(error, WorkerLostError | SystemExit) and pid is not None:
            crew_of(self.app).bury(pid, error)
        return super().on_failure(
            exc_info, send_failed_event=send_failed_event, return_ok=return_ok
        )
