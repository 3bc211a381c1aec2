"""The worker application with a soft shutdown that waits half a second instead of twenty."""

from orchestrator.workers.app import app

app.conf.worker_soft_shutdown_timeout = 0.5
