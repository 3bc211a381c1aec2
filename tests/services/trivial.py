"""A Celery application with nothing of ours in it, to test the machinery with."""

import os
import time

from celery import Celery

app = Celery("trivial")
app.conf.update(
    broker_url=os.environ.get("ORCHESTRATOR_BROKER_URL"),
    result_backend=os.environ.get("ORCHESTRATOR_TEST_REDIS_URL"),
    imports=["pytest_celery.vendors.worker.tasks"],  # its ping
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue="trivial",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
)


@app.task(name="trivial.add")
def add(left: int, right: int) -> int:
    return left + right


@app.task(name="trivial.nap")
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"
