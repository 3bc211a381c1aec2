"""The application of the product with a shorter soft shutdown."""

from orchestrator.workers.app import app

app.conf.worker_soft_shutdown_timeout = 2.0
