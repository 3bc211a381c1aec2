"""The lab fixture."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.runtime import chosen_flows, flows, hard_flows
from tests.runtime.lab import Lab


@pytest.fixture
def open_lab(database_url: str) -> Iterator[Callable[..., Lab]]:
    """Opens labs on one fresh database: ``open_lab(lease="5s")``."""
    labs: list[Lab] = []

    def make(**settings: Any) -> Lab:
        every = [*flows.ALL, *chosen_flows.ALL, *hard_flows.ALL]
        labs.append(Lab.open(database_url, every, **settings))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def lab(open_lab: Callable[..., Lab]) -> Lab:
    """A lab with the default settings."""
    flows.ran.clear()
    flows.behave.clear()
    return open_lab()
