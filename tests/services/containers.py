"""The last resort for servers: containers, where an engine runs."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Mapping

from tests.services.postgres import may_create_databases
from tests.services.processes import wait_until
from tests.services.rabbitmq import speaks_amqp
from tests.services.redis import answers_ping


class Container:
    """One server in a container, its port on loopback."""

    eval: Callable[[str], str] | None = None

    def __init__(self, image: str, port: int, url: str, environment: Mapping[str, str]) -> None:
        self._container = engine().containers.run(  # type: ignore[union-attr]
            image,
            detach=True,
            remove=True,
            environment=dict(environment),
            ports={f"{port}/tcp": ("127.0.0.1", None)},
        )
        try:
            wait_until(lambda: self._published(port), timeout=30, what=f"the port of {image}")
            self.port = self._published(port)
        except BaseException:
            self.close()
            raise
        self.url = url.format(port=self.port)

    def _published(self, port: int) -> int:
        self._container.reload()
        bound = self._container.ports.get(f"{port}/tcp") or []
        return int(bound[0]["HostPort"]) if bound else 0

    def control(self, expression: str) -> str:
        """Evaluate an Erlang expression in a RabbitMQ container."""
        code, output = self._container.exec_run(["rabbitmqctl", "-q", "eval", expression])
        if code:
            raise RuntimeError(f"rabbitmqctl failed:\n{output.decode()}")
        return str(output.decode())

    def close(self) -> None:
        self._container.kill()

    def wait_answers(self, answers: Callable[[], bool]) -> Container:
        wait_until(answers, timeout=90, what=self.url)
        return self


@functools.cache
def engine():  # type: ignore[no-untyped-def]
    """The client of a container engine that answers, or None."""
    if "DOCKER_HOST" not in os.environ and not _listens("/var/run/docker.sock"):
        return None  # asked first: the client leaves a socket open where nobody answers
    import docker  # noqa: PLC0415 - slow to import and rarely needed
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        client = docker.from_env(timeout=3)
        client.ping()
    except (DockerException, OSError):
        return None
    return client


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def start_postgres() -> Container:
    server = Container(
        "postgres:17",
        5432,
        "postgresql://postgres@127.0.0.1:{port}/postgres",
        {"POSTGRES_HOST_AUTH_METHOD": "trust"},
    )
    return server.wait_answers(lambda: may_create_databases(server.url))


def start_rabbitmq() -> Container:
    server = Container("rabbitmq:4-management", 5672, "amqp://guest:guest@127.0.0.1:{port}/", {})
    server.eval = server.control
    return server.wait_answers(lambda: speaks_amqp("127.0.0.1", server.port))


def start_redis() -> Container:
    server = Container("redis:7", 6379, "redis://127.0.0.1:{port}/0", {})
    return server.wait_answers(lambda: answers_ping("127.0.0.1", server.port))
