"""Celery's configuration of our own application: broker, queues, late acks, beat schedule.

The database is the truth and a message a hint, so nothing here tries to make messages safe beyond
what the protocol needs: late acknowledgement, quorum queues with a limit of deliveries, and no
result backend. Time limits, retries and revocation of Celery are not used: one delivery runs many
steps.
"""

from datetime import timedelta
from typing import Any

from orchestrator.settings import Settings, filesystem_transport
from orchestrator.workers import files, topology

_settings = Settings()
_on_files = _settings.broker_url.startswith("filesystem:")
_on_amqp = "amqp" in _settings.broker_url.partition("://")[0]

# The broker.
if _on_files:
    files.install()
broker_url = "filesystem://localhost" if _on_files else _settings.broker_url
broker_transport_options: dict[str, Any] = (
    filesystem_transport(_settings.broker_url) if _on_files else {}
)
broker_connection_timeout = 5
broker_connection_retry_on_startup = True
broker_connection_max_retries = None  # a broker that is away is waited for
broker_channel_error_retry = True  # a channel closed by the broker must not end the worker
broker_heartbeat = 10  # a worker that is stopped keeps its reserved messages twice as long

# Queues: declared alike here and by the publisher.
task_default_queue = _settings.queue
task_default_exchange = topology.EXCHANGE.name
task_default_exchange_type = topology.EXCHANGE.type
task_default_routing_key = _settings.queue
task_queues = (topology.step_queue(_settings.queue, is_amqp=_on_amqp),)
if _on_amqp:
    task_default_queue_type = topology.QUORUM
    task_create_missing_queue_type = topology.QUORUM
    task_create_missing_queue_exchange_type = topology.EXCHANGE.type

# Messages.
task_serializer = event_serializer = "json"
accept_content = ["json"]
enable_utc = True
timezone = "UTC"
task_ignore_result = True
task_acks_late = True
task_reject_on_worker_lost = True

# Workers.
worker_consumer = "orchestrator.workers.consumer:LeanConsumer"
worker_prefetch_multiplier = 1
worker_send_task_events = True
worker_soft_shutdown_timeout = 20.0
# A step goes on when the broker is lost: its lease and token protect it, not the delivery.
worker_cancel_long_running_tasks_on_connection_loss = False
worker_enable_prefetch_count_reduction = False
worker_proc_alive_timeout = 30.0  # a process registers itself in the database when it starts

# Beat: a mere alarm clock, so it keeps nothing and any number of them may run. What it asks for is
# worthless a moment later.
beat_scheduler = "celery.beat:Scheduler"


def _every(duty: str, interval: timedelta) -> dict[str, Any]:
    return {
        "task": f"orchestrator.{duty}",
        "schedule": interval,
        "options": {"expires": max(10.0, interval.total_seconds())},
    }


beat_schedule = {
    "wake-due": _every("wake_due", timedelta(seconds=1)),
    "redrive": _every("redrive", timedelta(seconds=10)),
    "recover": _every("recover", timedelta(seconds=30)),
    "expire": _every("expire", timedelta(hours=1)),
}
