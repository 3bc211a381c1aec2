"""The application as it is run from a checkout: ``celery -A workers.app worker``."""

from orchestrator.workers.app import app, attach

__all__ = ["app", "attach"]
