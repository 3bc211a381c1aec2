"""The Celery application of this product, and the way to make any Celery application a worker.

    celery -A workers.app worker                 # flows of the modules in ORCHESTRATOR_MODULES

    app = Celery("shop", broker=...)             # or: your own application
    attach(app, modules=["shop.flows"])

Every node of every flow becomes a Celery task called ``<flow>.<step>``, with the fan-outs around it
in between, so that an operator sees in Flower what runs. They all have the same thin handler.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

from celery import Celery

from orchestrator.flow.authoring import Flow
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.settings import Settings
from workers import tasks
from workers.crew import Crew
from workers.dead_letters import DeadLetters
from workers.queues import step_queues
from workers.reserved import Reserved
from workers.worker import Worker


def attach(
    app: Celery, modules: Sequence[str | ModuleType], *, settings: Settings | None = None
) -> Celery:
    """Make a Celery application a worker of the flows in these modules; return it.

    Args:
        modules: modules, or their names, whose module-level flows are run.
        settings: read from the environment when left out.
    """
    settings = settings or Settings()
    catalogue = Catalogue(flows_of(modules))
    ours = {settings.queue, settings.long_queue, *_queues_of(catalogue)}
    crew = Crew(app, catalogue, settings)
    attached: Any = app
    attached.orchestrator = crew
    attached.Worker = app.subclass_with_self(Worker)
    attached.steps["consumer"].update({Reserved, DeadLetters})
    attached.amqp.queues_cls = step_queues(ours.__contains__)
    tasks.register(app, crew)
    return app


def flows_of(modules: Iterable[str | ModuleType]) -> Iterator[Flow[..., Any]]:
    """Yield the flows that these modules hold under names of their own, each once."""
    seen: set[int] = set()
    for module in modules:
        loaded = importlib.import_module(module) if isinstance(module, str) else module
        for value in vars(loaded).values():
            if isinstance(value, Flow) and id(value) not in seen:
                seen.add(id(value))
                yield value


def _queues_of(catalogue: Catalogue) -> Iterator[str]:
    for flow in catalogue.flows.values():
        for options in flow.definition.options.values():
            if options.queue is not None:
                yield options.queue


def _own() -> Celery:
    settings = Settings()
    # Importing `attach` into somebody's application must not make this one Celery's current app.
    made = Celery("orchestrator", config_source="celeryconfig", set_as_current=False)
    return attach(made, settings.modules, settings=settings)


app = _own()
