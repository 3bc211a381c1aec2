"""A user's own Celery application, made a worker of flows."""

from __future__ import annotations

import os

from celery import Celery

from orchestrator.workers.app import attach

app = Celery("cinema", broker=os.environ["ORCHESTRATOR_BROKER_URL"])
app.conf.update(task_default_queue="cinema", broker_connection_retry_on_startup=True)
attach(app, os.environ.get("CINEMA_SHOWS", "tests.workers.shop").split())


@app.task
def greet(name: str) -> str:
    return f"hello {name}"
