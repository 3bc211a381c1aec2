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
    site = open_site(database_url, file_broker_url, lost_after="1h", lost_idle_after="1h")
    victim = site.worker()
    held = [site.start(flows.gated, gate) for gate in ("one", "two")]
    for gate in ("one", "two"):
        site.reached(gate)
    masses = Masses(site)
    masses.start(15)  # both pool processes are busy: what the worker takes now, it only keeps
    folder = site.folder.parent / "broker" / "messages"
    waiting = len(list(folder.glob("*.msg")))
    wait_until(lambda: len(list(folder.glob("*.msg"))) <= waiting, what="messages it has taken")

    victim.kill9()
    site.open("one", "two")
    site.worker()

    assert site.results(held, timeout=60) == [2 + 1, 2 + 1]
    site.results(masses.handles.values(), timeout=60)
    assert masses.bodies_run_again() >= 0
    site.sound()
