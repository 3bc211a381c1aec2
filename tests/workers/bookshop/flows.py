"""Flows that use a task of the project, and steps of their own."""

from __future__ import annotations

from orchestrator import flow, step

# Loading this while the application's module is being loaded would be a circle.
from tests.workers.bookshop.celery_app import app as application
from tests.workers.bookshop.tasks import price

priced = step(price)


@step
def total(price: int, copies: int) -> str:
    return f"{application.main}: {price * copies}"


@flow
def order(title: str, copies: int) -> str:
    return total(priced(title), copies)
