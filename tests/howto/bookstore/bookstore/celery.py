import os

from celery import Celery

from orchestrator.workers.app import attach

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bookstore.settings")

app = Celery("bookstore")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
attach(app, modules=["orders.flows"])
