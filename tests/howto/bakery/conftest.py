import os
import subprocess
from collections.abc import Iterator

import pytest

from orchestrator import Orchestrator, embedded

os.environ["COOLING"] = "0.1s"  # before anything imports the flows


@pytest.fixture(scope="session")
def flows() -> Iterator[Orchestrator]:
    """A PostgreSQL, a broker and a worker of our own; a few seconds, once per run."""
    with embedded.start() as services:
        os.environ |= {**services.environment, "ORCHESTRATOR_MODULES": "bakery"}
        subprocess.run(["orchestrator", "db", "upgrade"], check=True)
        worker = subprocess.Popen(["orchestrator", "worker", "--concurrency", "2"])
        started = Orchestrator.from_env()
        yield started
        started.close()
        worker.terminate()
        worker.wait()
