"""Benchmarks of the product beside plain Celery; `python -m benchmarks --help` says how."""
