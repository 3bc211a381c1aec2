"""What Celery knows of the flows' steps."""

from __future__ import annotations

from types import ModuleType

from celery import Celery, current_app

from orchestrator import Settings, each, flow, step
from orchestrator.workers.app import attach


@step(timeout="2h")
def render(frame: int) -> int:
    return frame


@step
def frames(count: int) -> list[int]:
    return list(range(count))


@flow
def film(count: int) -> list[int]:
    return each(frames(count), render)


def attached() -> Celery:
    module = ModuleType("films")
    module.film = film  # type: ignore[attr-defined]
    return attach(Celery("cinema", set_as_current=False), [module], settings=Settings())


def test_every_node_is_a_task_with_the_fan_outs_around_it_in_its_name() -> None:
    ours = {name for name in attached().tasks if name.startswith("film.")}

    assert ours == {"film.frames", "film.render", "film.render.render"}


def test_a_step_longer_than_a_message_may_stay_open_is_acknowledged_at_once() -> None:
    tasks = attached().tasks

    assert tasks["film.render.render"].acks_late is False
    assert tasks["film.frames"].acks_late is True
    assert tasks["film.frames"].reject_on_worker_lost is True


def test_importing_the_product_leaves_celerys_current_app_alone() -> None:
    assert current_app.main != "orchestrator"
