"""Durable flows for teams that already run Celery, RabbitMQ and PostgreSQL."""
