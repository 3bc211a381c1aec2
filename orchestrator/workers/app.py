"""The Celery application of this product, and the way to make any Celery application a worker.

    celery -A orchestrator.workers.app worker    # flows of the modules in ORCHESTRATOR_MODULES

    app = Celery("shop", broker=...)             # or: your own application
    attach(app, modules=["shop.flows"])

A `Trigger` beside the flows of a module, or in ``triggers=``, has the worker take the messages of a
queue of its own; those of the common queue are taken anyway.

Every node of every flow becomes a Celery task called ``<flow>.<step>``, with the fan-outs around it
in between, so that an operator sees in Flower what runs. They all have the same thin handler.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from celery import Celery
from celery.signals import import_modules

from orchestrator.flow.authoring import Flow
from orchestrator.runtime import bodies, queues
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.modules import flows_of, steps_of
from orchestrator.runtime.triggers import Trigger, one_per_queue, triggers_of
from orchestrator.settings import Settings
from orchestrator.workers import adopted, tasks
from orchestrator.workers.crew import Crew
from orchestrator.workers.dead_letters import DeadLetters
from orchestrator.workers.process import is_interrupt
from orchestrator.workers.queues import step_queues
from orchestrator.workers.reserved import Reserved
from orchestrator.workers.triggers import Triggers
from orchestrator.workers.worker import Worker


def attach(
    app: Celery,
    modules: Sequence[str | ModuleType],
    *,
    triggers: Sequence[Trigger] = (),
    settings: Settings | None = None,
) -> Celery:
    """Make a Celery application a worker of the flows in these modules; return it.

    Named modules are imported when Celery imports those of tasks, in the processes that need them:
    a Django project may attach in its `celery.py`, before its models can be imported.

    Args:
        modules: modules, or their names, whose module-level flows are run.
        triggers: queues whose messages start a flow, beside those that the modules hold.
        settings: read from the environment when left out.
    """
    settings = settings or Settings()
    crew = Crew(app, Catalogue(), settings)
    attached: Any = app
    attached.orchestrator = crew
    attached.Worker = app.subclass_with_self(Worker)
    attached.steps["consumer"].update({Reserved, DeadLetters})
    attached.steps["worker"].add(Triggers)
    bodies.run_tasks_with(adopted.run)
    bodies.interrupted_by(is_interrupt)

    @functools.cache  # Celery may import its modules more than once
    def load() -> None:
        for flow in flows_of(modules):
            crew.catalogue.add(flow)
        for step in steps_of(modules):
            crew.catalogue.add_step(step)
        crew.triggers = one_per_queue((*triggers, *triggers_of(modules)))
        for trigger in crew.triggers:
            if isinstance(trigger.flow, Flow):
                crew.catalogue.add(trigger.flow)
        ours = queues.queues_of(crew.catalogue.flows.values(), settings)
        attached.amqp.queues_cls = step_queues(ours.__contains__)
        tasks.register(app, crew)

    if any(isinstance(module, str) for module in modules):
        import_modules.connect(lambda **_: load(), sender=app, weak=False)
    else:
        load()
    return app


def _own() -> Celery:
    settings = Settings()
    # Importing `attach` into somebody's application must not make this one Celery's current app.
    made = Celery(
        "orchestrator", config_source="orchestrator.workers.celeryconfig", set_as_current=False
    )
    return attach(made, settings.modules, settings=settings)


app = _own()
