"""Placeholder for the pytest-celery nodes."""
