"""RabbitMQ nodes of our own, from an installed server.

A node is called by the script in the package's library folder: the wrapper in the sbin folder
changes the user and drops the environment. It gets an epmd of its own too, so that neither epmd
nor node outlives the test run or is seen by a RabbitMQ of the machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.services.processes import Child, free_port, private_folder, remove_folder, wait_until

_CONTROL_TIMEOUT = 60


def server_script() -> Path | None:
    """The node's start script of the installed RabbitMQ."""
    places = [
        Path("/usr/lib/rabbitmq/bin"),
        *sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"), reverse=True),
        *sorted(Path("/opt").glob("rabbitmq*/sbin"), reverse=True),
    ]
    scripts = [place / "rabbitmq-server" for place in places]
    return next((script for script in scripts if script.exists()), None)


def can_be_started() -> bool:
    """Whether this machine has what a node needs."""
    return server_script() is not None and shutil.which("epmd") is not None


class PrivateRabbit:
    """A node of the test's own: it may be stopped, killed, restarted and wiped at will."""

    def __init__(self) -> None:
        script = server_script()
        epmd = shutil.which("epmd")
        if script is None or epmd is None:
            raise FileNotFoundError("no RabbitMQ server is installed on this machine")
        self._script = script
        self._epmd_program = epmd
        self.folder = private_folder("mq")
        self.port = free_port()
        self._node = f"orc{self.port}@localhost"
        self._distribution_port = free_port()
        self._epmd_port = free_port()
        self._epmd: Child | None = None
        self._child: Child | None = None
        self.url = self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """The address of one virtual host of this node."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> PrivateRabbit:
        """Start the node with the data it has, and wait until it takes connections."""
        if self._epmd is None or not self._epmd.running():
            self._start_epmd()
        self._child = Child(
            "private RabbitMQ",
            [self._script],
            log_file=self.folder / "output",
            env=self._environment(),
            cwd=self.folder,
        )
        self._child.wait_for(self.answers, timeout=90, what="the first answer")
        return self

    def answers(self) -> bool:
        """Whether it speaks AMQP now."""
        return speaks_amqp("127.0.0.1", self.port)

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("this RabbitMQ has not been started")
        return self._child

    def stop(self) -> None:
        """Stop the node as an operator does."""
        self.eval("rabbit:stop_and_halt().", check=False)
        self.child.wait(60)

    def kill9(self) -> None:
        """SIGKILL for the node, as a machine that loses its power."""
        self.settle()
        self.child.kill9()

    def settle(self) -> None:
        """Have the node write down what it needs to come back with its newest queues.

        What it knows of a quorum queue's elections is in a table that it writes every few seconds.
        Killed before that, it never finds a leader for the new queue, and consuming from it hangs:
        the broker's fault, and not what is tested. The node must not be frozen.
        """
        self.eval("[dets:sync(Table) || Table <- dets:all()].", check=False)

    def restart(self) -> None:
        """Stop if it runs, and start again with its data."""
        if self.child.running():
            self.stop()
        self.start()

    def wipe(self) -> None:
        """Forget everything: queues, messages, virtual hosts. The node runs again afterwards."""
        if self._child is not None and self._child.running():
            self.child.kill9()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def eval(self, expression: str, *, check: bool = True) -> str:
        """Evaluate an Erlang expression in the node."""
        return control(
            [str(self._script.with_name("rabbitmqctl")), "-n", self._node, "eval", expression],
            env=self._environment(),
            check=check,
        )

    def log(self) -> str:
        return self.child.log()

    def close(self) -> None:
        """End it and remove its folder."""
        for child in (self._child, self._epmd):
            if child is not None and child.running():
                child.kill9()
        remove_folder(self.folder)

    def _start_epmd(self) -> None:
        self._epmd = Child(
            "private epmd",
            [self._epmd_program, "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            log_file=self.folder / "epmd",
            env=self._environment(),
            cwd=self.folder,
        )

        def listens() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self._epmd_port), timeout=1).close()
            except OSError:
                return False
            return True

        wait_until(listens, timeout=20, what="epmd")

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(folder),  # the cookie is made there
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_LOGS": "-",
            # One scheduler: several nodes share two cores here. Distribution on loopback only.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }


def speaks_amqp(host: str, port: int) -> bool:
    """Whether a broker answers the protocol header, which it does only when it is up."""
    try:
        with socket.create_connection((host, port), timeout=2) as connection:
            connection.settimeout(5)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False


def control(command: list[str], *, env: dict[str, str] | None = None, check: bool = True) -> str:
    """Run rabbitmqctl; a failure carries what it said."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=env,
        timeout=_CONTROL_TIMEOUT,
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def local_control() -> str | None:
    """The rabbitmqctl of this machine's own broker; it is often outside a plain user's PATH."""
    return shutil.which(
        "rabbitmqctl", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )


def local_control_works() -> bool:
    """Whether rabbitmqctl may be used on this machine's broker."""
    program = local_control()
    if program is None:
        return False
    try:
        return "ok" in control([program, "-q", "eval", "ok."])
    except (RuntimeError, OSError):
        return False
