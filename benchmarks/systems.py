"""The systems that are compared: how each starts a workload, waits for it and counts what ended."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import redis
from celery import Celery

from benchmarks import flows, peer
from benchmarks.children import Node, worker
from benchmarks.services import Services
from orchestrator.settings import Settings
from orchestrator.store.database import Connection
from orchestrator.workers import connect

PROCESSES = 2


class System(Protocol):
    """One of the systems."""

    name: str
    queue: str
    control: Celery

    def worker(self, folder: Path, events: bool) -> AbstractContextManager[Node]:
        """Run its worker."""
        ...

    def start_chain(self, number: int) -> Any:
        """Start a chain of ten; return what it is known by."""
        ...

    def start_fan(self, count: int) -> Any:
        """Start a fan-out; return what it is known by."""
        ...

    def start_single(self, number: int) -> Any:
        """Start one step; return what it is known by."""
        ...

    def start_singles(self, count: int) -> Sequence[Any]:
        """Start many of them as fast as the system can."""
        ...

    def result(self, started: Any, timeout: float) -> int:
        """Wait for a result as a caller does."""
        ...

    def ended(self, started: Sequence[Any]) -> int:
        """Return how many of these have ended, asked in one cheap question."""
        ...

    def close(self) -> None:
        """Let go of its connections."""
        ...


class Product:
    """This product."""

    name = "orchestrator"

    def __init__(self, services: Services) -> None:
        settings = Settings(database_url=services.database_url, broker_url=services.broker_url)
        self.queue = settings.queue
        self.control = Celery("benchmarks.control", broker=services.broker_url)
        self._orchestrator = connect.orchestrator(settings)
        self._env = {
            "ORCHESTRATOR_DATABASE_URL": services.database_url,
            "ORCHESTRATOR_BROKER_URL": services.broker_url,
            "ORCHESTRATOR_MODULES": flows.__name__,
        }

    def worker(self, folder: Path, events: bool) -> AbstractContextManager[Node]:
        # Its own configuration sends events; the peer's, Celery's default, does not.
        options = () if events else ("--", "worker.send_task_events=False")
        return worker(
            "orchestrator.workers.app",
            self.control,
            name=self.name,
            folder=folder,
            env=self._env,
            processes=PROCESSES,
            options=options,
        )

    def start_chain(self, number: int) -> Any:
        return self._orchestrator.start(flows.chain_of_ten, number)

    def start_fan(self, count: int) -> Any:
        return self._orchestrator.start(flows.fan, count)

    def start_single(self, number: int) -> Any:
        return self._orchestrator.start(flows.single, number)

    def start_singles(self, count: int) -> Sequence[Any]:
        return self._orchestrator.start_many(flows.single, range(count))

    def result(self, started: Any, timeout: float) -> int:
        return int(started.result(timeout))

    def ended(self, started: Sequence[Any]) -> int:
        ids = "{" + ",".join(one.id for one in started) + "}"
        return self._orchestrator.database.run(_ended, ids)

    def close(self) -> None:
        self._orchestrator.close()
        self.control.close()


def _ended(connection: Connection, ids: str) -> int:
    row = connection.execute(
        "SELECT count(*) FROM orchestrator.executions"
        " WHERE id = ANY(%s::uuid[]) AND finished_at IS NOT NULL",
        [ids],
    ).fetchone()
    return int(row[0]) if row else 0


class Peer:
    """Plain Celery: chain and chord."""

    name = "celery"
    queue = peer.QUEUE

    def __init__(self, services: Services, queue_type: str) -> None:
        told = (services.broker_url, services.redis_url, queue_type)
        peer.configure(*told)
        self.control = peer.app
        self._env = dict(zip(peer.VARIABLES, told, strict=True))
        self._redis: Any = redis.Redis.from_url(services.redis_url)

    def worker(self, folder: Path, events: bool) -> AbstractContextManager[Node]:
        return worker(
            "benchmarks.peer",
            self.control,
            name=self.name,
            folder=folder,
            env=self._env,
            processes=PROCESSES,
            options=("-E",) if events else (),
        )

    def start_chain(self, number: int) -> Any:
        return peer.chain_of_ten(number).apply_async()

    def start_fan(self, count: int) -> Any:
        return peer.fan(count).apply_async()

    def start_single(self, number: int) -> Any:
        return peer.add_one.delay(number)

    def start_singles(self, count: int) -> Sequence[Any]:
        return [peer.add_one.delay(number) for number in range(count)]  # it has no better way

    def result(self, started: Any, timeout: float) -> int:
        return int(started.get(timeout=timeout))

    def ended(self, started: Sequence[Any]) -> int:
        backend: Any = peer.app.backend
        keys = [backend.get_key_for_task(one.id) for one in started]
        return int(self._redis.exists(*keys))

    def close(self) -> None:
        # Results say goodbye to Redis when they are collected. Members of a group are kept by the
        # backend, which would be collected when Python is half gone.
        backend: Any = peer.app.backend
        for kept in list(backend._pending_results.concrete.values()):  # noqa: SLF001  # no other way
            for result in list(kept.values()) if isinstance(kept, dict) else [kept]:
                backend.remove_pending_result(result)
        gc.collect()
        self._redis.close()
        self.control.close()
