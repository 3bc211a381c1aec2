"""A team's Celery tasks as they were before they knew of flows, and flows that adopted them."""

from __future__ import annotations

import os
import warnings
from typing import Any

from celery import Celery, Task
from celery.exceptions import CDeprecationWarning

from orchestrator import flow, step, this_step

app = Celery(
    "warehouse",
    broker=os.environ.get("ORCHESTRATOR_BROKER_URL", "memory://"),
    set_as_current=False,
)
app.conf.update(task_default_queue="warehouse", broker_connection_retry_on_startup=True)

#: What happened, in order: (what, details).
told: list[tuple[Any, ...]] = []
#: What the bodies raise, first come first served.
raises: list[BaseException] = []


class Flaky(Exception):
    pass


class Fatal(Flaky):
    pass


def _maybe_raise() -> None:
    if raises:
        raise raises.pop(0)


class Noted(Task):  # type: ignore[type-arg]  # as its authors wrote it
    """A base class with all hooks."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        told.append(("before_start", task_id, args, kwargs))

    def on_success(self, retval: Any, *_: Any) -> None:
        told.append(("on_success", retval))

    def on_retry(self, exc: Any, *rest: Any) -> None:
        told.append(("on_retry", type(exc).__name__, type(rest[-1]).__name__))

    def on_failure(self, exc: Any, *rest: Any) -> None:
        told.append(("on_failure", type(exc).__name__, type(rest[-1]).__name__))

    def after_return(self, status: str, *_: Any) -> None:
        told.append(("after_return", status))


@app.task
def reserve(sku: str, count: int = 1) -> str:
    return f"{count} {sku}"


@app.task(bind=True, base=Noted, max_retries=2, default_retry_delay=7)
def pack(self: Any, sku: str) -> dict[str, Any]:
    try:
        _maybe_raise()
    except Flaky as error:
        raise self.retry(exc=error) from error
    request = self.request
    return {
        "id": request.id,
        "retries": request.retries,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "delivery_info": request.delivery_info,
        "root_id": request.root_id,
        "called_directly": request.called_directly,
        "hostname": bool(request.hostname),
        "key": this_step().id,
    }


@app.task(
    base=Noted,
    autoretry_for=(Flaky,),
    dont_autoretry_for=(Fatal,),
    retry_backoff=3,
    retry_backoff_max=5,
    retry_jitter=False,
    max_retries=4,
)
def weigh(sku: str) -> int:
    _maybe_raise()
    return len(sku)


@app.task(bind=True, autoretry_for=(Flaky,), retry_kwargs={"max_retries": 1, "countdown": 2})
def label(self: Any, sku: str) -> str:
    _maybe_raise()
    return f"{sku}/{self.request.retries}"


@app.task(bind=True)
def wander(self: Any, sku: str) -> None:
    raise self.retry(args=[f"another {sku}"], countdown=1)


@app.task(bind=True)
def later(self: Any, sku: str) -> str:
    if self.request.retries == 0:
        raise self.retry(countdown=90)
    return sku


class Contextual(Task):  # type: ignore[type-arg]  # as its authors wrote it
    """Like those that open an application's context around every task."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        told.append(("entered", self.request.id is not None))
        return self.run(*args, **kwargs)


@app.task(base=Contextual)
def inside(sku: str) -> str:
    _maybe_raise()
    return sku


class Ship(Task):  # type: ignore[type-arg]  # as its authors wrote it
    """A task as a class."""

    name = "warehouse.ship"

    def run(self, sku: str) -> str:
        return f"{sku} shipped by {self.name}"


@app.task(queue="heavy", time_limit=30, soft_time_limit=20, shared=False)
def lift(sku: str) -> str:
    return sku


with warnings.catch_warnings():
    # Celery would rather have routes; many teams have not got round to them.
    warnings.simplefilter("ignore", CDeprecationWarning)
    adopted_lift = step(lift)
ship = app.register_task(Ship())

adopted_reserve = step(reserve)
adopted_pack = step(pack)
adopted_weigh = step(weigh)
adopted_label = step(label)


@flow
def reserving(sku: str) -> str:
    return adopted_reserve(sku, count=2)


@flow
def packing(sku: str) -> dict[str, Any]:
    return adopted_pack(sku)


@flow
def weighing(sku: str) -> int:
    return adopted_weigh(sku)


@flow
def labelling(sku: str) -> str:
    return adopted_label(sku)


@flow
def lifting(sku: str) -> str:
    return adopted_lift(sku)


@flow
def wandering(sku: str) -> None:
    return step(wander)(sku)


@flow
def waiting(sku: str) -> str:
    return step(later)(sku)


@flow
def entering(sku: str) -> str:
    return step(inside)(sku)


@flow
def shipping(sku: str) -> str:
    return step(ship)(sku)


FLOWS = (
    reserving,
    packing,
    weighing,
    labelling,
    lifting,
    wandering,
    waiting,
    entering,
    shipping,
)
