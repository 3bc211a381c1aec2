"""The application: nothing of the project may be imported while this module is."""

from __future__ import annotations

from celery import Celery

from orchestrator.workers.app import attach

app = Celery("bookshop")
app.config_from_object("tests.workers.bookshop.settings", namespace="BOOKS")
app.autodiscover_tasks(["tests.workers.bookshop"])
attach(app, modules=["tests.workers.bookshop.flows"])
