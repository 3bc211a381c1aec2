"""What Celery reads by `config_from_object`, as Django projects have it."""

import os

BOOKS_BROKER_URL = os.environ.get("ORCHESTRATOR_BROKER_URL", "memory://")
BOOKS_TASK_DEFAULT_QUEUE = "books"
BOOKS_BROKER_CONNECTION_RETRY_ON_STARTUP = True
