"""The file broker: the main path, and what a killed worker had taken."""

from __future__ import annotations

import pytest

from tests.acceptance import flows
from tests.acceptance.conftest import OpenSite
from tests.acceptance.masses import Masses
from tests.services.processes import wait_until


def test_masses_end_on_the_file_broker(
    open_site: OpenSite, database_url: str, file_broker_url: str
) -> None:
    site = open_site(database_url, file_broker_url)
    site.worker()
    site.worker(pool="threads")
    masses = Masses(site)
    masses.start(45)

    masses.check_results(timeout=60)
    assert masses.bodies_run_again() == 0


@pytest.mark.chaos
def test_killed_worker_takes_messages_with_it_and_nothing_is_lost(
    open_site: OpenSite, database_url: str, file_broker_url: str
) -> None:
    never = {"unsent_after": "1h", "lost_after": "1h", "lost_idle_after": "1h"}
    site = open_site(database_url, file_broker_url, **never)
    victim = site.worker()
    running = site.start(flows.gated, "gate")
    busy = site.reached("gate")
    for process in victim.children():
        if process.pid != busy:
            process.suspend()  # what the worker takes from now on nobody claims
    masses = Masses(site)
    masses.start(15)
    messages = site.folder.parent / "broker" / "messages"
    wait_until(lambda: len(list(messages.glob("*.msg"))) == 15 + 5 - 1, what="one to be taken")

    victim.kill9()
    site.open("gate")
    site.worker()

    assert site.result(running, timeout=60) == 2 + 1
    masses.check_results(timeout=60)
    assert masses.bodies_run_again() == 0
