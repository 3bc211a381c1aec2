"""Celery's worker, with a shutdown that hands back what it cannot finish.

Celery's soft shutdown sleeps its whole timeout and then kills; the broker offers the messages to
others, who would find steps of a dead holder and count a death. Here the wait ends when nothing
runs any more, and what still runs is given back first: no death, no attempt, a new message.
"""

from __future__ import annotations

from celery.apps.worker import Worker as CeleryWorker

from workers.crew import crew_of


class Worker(CeleryWorker):
    """A worker that stops in good order."""

    def wait_for_soft_shutdown(self) -> bool:
        """Wait for running steps, then hand back the rest; other tasks wait as Celery lets them."""
        crew_of(self.app).drain(self.app.conf.worker_soft_shutdown_timeout)
        return True

    def on_stopped(self) -> None:
        """Leave when everything has stopped."""
        super().on_stopped()
        crew_of(self.app).leave()
