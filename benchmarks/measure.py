"""The measurements: each on one system whose worker runs, and each bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.children import Node
from benchmarks.systems import System

#: How often a saturated run asks how far it is, in seconds.
_LOOK = 0.05


class Slow(Exception):
    """Something did not end within its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        chains: started before the worker may take the first of them.
        alone: chains that run one after another.
        fans: fan-outs that run one after another.
        width: steps beside each other in a fan-out.
        starts: single steps started one by one; ten times as many in bulk.
        bound: seconds that one measurement may take.
    """

    chains: int = 300
    alone: int = 30
    fans: int = 12
    width: int = 100
    starts: int = 500
    bound: float = 120.0


FULL = Sizes()
QUICK = Sizes(chains=60, alone=10, fans=3, starts=100, bound=60.0)
TINY = Sizes(chains=4, alone=2, fans=1, width=5, starts=3, bound=60.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Something that is measured.

    Attributes:
        key: its name in JSON.
        workload: w1, w2 or w4.
        title: what the table says.
        more_is_better: a rate; otherwise a time.
    """

    key: str
    workload: str
    title: str
    unit: str
    more_is_better: bool


METRICS = (
    Metric(
        key="w1_saturated",
        workload="w1",
        title="W1 chains of 10, saturated",
        unit="steps/s",
        more_is_better=True,
    ),
    Metric(
        key="w1_cpu",
        workload="w1",
        title="W1 CPU of the worker per step",
        unit="ms",
        more_is_better=False,
    ),
    Metric(
        key="w1_starts",
        workload="w1",
        title="W1 starts, one client",
        unit="starts/s",
        more_is_better=True,
    ),
    Metric(
        key="w1_alone",
        workload="w1",
        title="W1 one chain of 10, p50",
        unit="ms",
        more_is_better=False,
    ),
    Metric(
        key="w2_alone",
        workload="w2",
        title="W2 1 -> {width} -> join, p50",
        unit="ms",
        more_is_better=False,
    ),
    Metric(
        key="w4_starts",
        workload="w4",
        title="W4 single steps started one by one",
        unit="starts/s",
        more_is_better=True,
    ),
    Metric(
        key="w4_bulk",
        workload="w4",
        title="W4 single steps started in bulk",
        unit="starts/s",
        more_is_better=True,
    ),
)


def measure(system: System, node: Node, workload: str, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Warm up, measure a workload; yields (metric, value)."""
    if workload == "w1":
        _warm_up(system, lambda: system.start_chain(0), 10)
        starts, steps, cpu = _saturated(system, node, sizes)
        yield "w1_starts", starts
        yield "w1_saturated", steps
        yield "w1_cpu", cpu
        yield "w1_alone", _alone(system, lambda: system.start_chain(0), sizes.alone, 10, sizes)
    elif workload == "w4":
        _warm_up(system, lambda: system.start_single(0), 1)
        yield from _starts(system, node, sizes)
    else:
        expected = sizes.width * (sizes.width - 1)
        _warm_up(system, lambda: system.start_fan(sizes.width), expected)
        yield (
            "w2_alone",
            _alone(system, lambda: system.start_fan(sizes.width), sizes.fans, expected, sizes),
        )


def _warm_up(system: System, start: Callable[[], Any], expected: int) -> None:
    """Every process of the pool should have worked: connections, plans, imports."""
    for started in [start() for _ in range(20 if expected <= 10 else 2)]:
        _check(system.result(started, 60), expected)


def _saturated(system: System, node: Node, sizes: Sizes) -> tuple[float, float, float]:
    """Start all, then let the worker begin; return starts/s, steps/s and its CPU ms per step."""
    control = system.control.control
    control.cancel_consumer(system.queue, destination=[node.name], reply=True, timeout=10)
    began = time.perf_counter()
    started = [system.start_chain(0) for _ in range(sizes.chains)]
    starts = sizes.chains / (time.perf_counter() - began)
    time.sleep(0.3)  # confirms arrive
    control.add_consumer(system.queue, destination=[node.name])
    began, used = time.perf_counter(), node.cpu_seconds()
    while (ended := system.ended(started)) < sizes.chains:
        if time.perf_counter() - began > sizes.bound:
            break
        time.sleep(_LOOK)
    seconds, used = time.perf_counter() - began, node.cpu_seconds() - used
    if not ended:
        raise Slow(f"none of {sizes.chains} chains of {system.name} ended in {seconds:.0f} s")
    for one in started if ended == sizes.chains else ():
        _check(system.result(one, 10), 10)
    return starts, ended * 10 / seconds, used * 1000 / (ended * 10)


def _starts(system: System, node: Node, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """Start while the worker waits: one by one, then ten times as many at once."""
    control = system.control.control
    control.cancel_consumer(system.queue, destination=[node.name], reply=True, timeout=10)
    began = time.perf_counter()
    started = [system.start_single(0) for _ in range(sizes.starts)]
    yield "w4_starts", sizes.starts / (time.perf_counter() - began)
    began = time.perf_counter()
    started += system.start_singles(10 * sizes.starts)
    yield "w4_bulk", 10 * sizes.starts / (time.perf_counter() - began)
    control.add_consumer(system.queue, destination=[node.name])
    until = time.perf_counter() + sizes.bound
    while (ended := system.ended(started)) < len(started):
        if time.perf_counter() > until:
            raise Slow(f"{ended} of {len(started)} steps of {system.name} ended in their time")
        time.sleep(_LOOK)
    for one in started[: min(10, sizes.starts)]:
        _check(system.result(one, 10), 1)


def _alone(
    system: System, start: Callable[[], Any], count: int, expected: int, sizes: Sizes
) -> float:
    """Run one after another; return the median from the call of start to the result, in ms."""
    taken: list[float] = []
    until = time.perf_counter() + sizes.bound
    while len(taken) < count and time.perf_counter() < until:
        began = time.perf_counter()
        result = system.result(start(), sizes.bound)
        taken.append((time.perf_counter() - began) * 1000)
        _check(result, expected)
    return median(taken)


def _check(result: int, expected: int) -> None:
    if result != expected:
        raise AssertionError(f"the result is {result} instead of {expected}")
