import os

from celery import Celery

from orchestrator.workers.app import attach

app = Celery("shop", broker=os.environ["ORCHESTRATOR_BROKER_URL"], include=["shop.tasks"])
app.conf.task_default_queue = "legacy"
attach(app, modules=["shop.flows"])
