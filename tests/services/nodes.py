"""Our servers and workers in the shape that pytest-celery expects of its containers.

The plugin's nodes wrap any object that looks like a container, so `celery_setup` works without a
container engine: `tests/conftest.py` overrides the four fixtures below it. With
ORCHESTRATOR_TEST_SERVICES=docker the plugin's own containers are used.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from celery import Celery
from pytest_celery import CeleryTestSetup

from tests.services.processes import Child
from tests.services.workers import WorkerProcess

QUEUE = "trivial"


def containers_wanted() -> bool:
    """Whether the plugin is to use its own containers."""
    return os.environ.get("ORCHESTRATOR_TEST_SERVICES") == "docker"


class PrivateServer(Protocol):
    """A server that may be killed."""

    url: str

    @property
    def child(self) -> Child: ...
    def kill9(self) -> None: ...
    def restart(self) -> None: ...
    def log(self) -> str: ...


class LocalServer:
    """A broker or result backend; only a private one may be killed."""

    def __init__(self, url: str, *, private: PrivateServer | None = None) -> None:
        parts = urlsplit(url)
        self._private = private
        self.name = self.id = f"local-{parts.port}"
        self.celeryconfig = {
            "url": url,
            "host_url": url,
            "hostname": parts.hostname,
            "port": parts.port,
            "vhost": parts.path.lstrip("/") or "/",
        }

    @property
    def status(self) -> str:
        return "running" if self._private is None or self._private.child.running() else "exited"

    def ready(self) -> bool:
        return self.status == "running"

    def logs(self) -> str:
        return "" if self._private is None else self._private.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:  # noqa: ARG002 - its shape
        self._mine().kill9()

    def restart(self, timeout: float | None = None) -> None:  # noqa: ARG002 - its shape
        self._mine().restart()

    def reload(self) -> None:
        """Nothing to look up again: the state is asked for each time."""

    def teardown(self) -> None:
        """The fixture that started it ends it."""

    def _mine(self) -> PrivateServer:
        if self._private is None:
            pytest.fail("a shared server is never killed: mark the test with `chaos`")
        return self._private


class LocalWorker:
    """A worker process."""

    def __init__(self, worker: WorkerProcess, *, queue: str) -> None:
        self._worker = worker
        self._queue = queue
        self.name = self.id = worker.name
        self.celeryconfig: dict[str, Any] = {}

    @property
    def status(self) -> str:
        return "running" if self._worker.running() else "exited"

    def version(self) -> str:
        return "local"

    def log_level(self) -> str:
        return "INFO"

    def worker_name(self) -> str:
        return self.name

    def worker_queue(self) -> str:
        return self._queue

    def ready(self) -> bool:
        self._worker.wait_ready()
        return True

    def logs(self) -> str:
        return self._worker.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        if signal in {"SIGKILL", 9}:
            self._worker.kill9()
        else:
            self._worker.stop()

    def restart(self, timeout: float | None = None) -> None:  # noqa: ARG002 - its shape
        if self._worker.running():
            self._worker.stop()
        self._worker.start()

    def reload(self) -> None:
        """Nothing to look up again: the state is asked for each time."""

    def teardown(self) -> None:
        """The crew ends it."""


class LocalSetup(CeleryTestSetup):
    """The plugin's setup, its application speaking to the queues as our workers declare them."""

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.update(
            task_default_queue=QUEUE,
            task_default_queue_type="quorum",
            task_default_exchange_type="topic",
        )

    def teardown(self) -> None:
        """Close what the application opened: warnings are errors, also about sockets."""
        self.app.backend.result_consumer.stop()
        self.app.backend.client.close()
        self.app.close()
        super().teardown()
