"""The report: medians over the rounds, ratios, and the machine it was measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import METRICS, Metric, Sizes

#: system -> metric -> one value per round
Values = Mapping[str, Mapping[str, Sequence[float]]]

OURS, PEER = "orchestrator", "celery"


def document(values: Values, *, sizes: Sizes, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything as one JSON object."""
    return {
        "machine": machine(),
        **facts,
        "sizes": asdict(sizes),
        "rounds": {name: dict(found) for name, found in values.items()},
        "medians": {
            name: {key: median(rounds) for key, rounds in found.items()}
            for name, found in values.items()
        },
        "times_better": {
            metric.key: better
            for metric in METRICS
            if (better := times_better(metric, values)) is not None
        },
    }


def show(values: Values, *, sizes: Sizes, facts: Mapping[str, Any], console: Console) -> None:
    """Print the table and what it was measured on."""
    table = Table(title="medians (lowest to highest round)")
    for heading in ("", "unit", *values, "times better"):
        table.add_column(heading, justify="left" if heading in {"", "unit"} else "right")
    for metric in METRICS:
        cells = [_cell(found.get(metric.key, ())) for found in values.values()]
        if not any(cells):
            continue
        ratio = times_better(metric, values)
        table.add_row(
            metric.title.format(width=sizes.width),
            metric.unit,
            *cells,
            "" if ratio is None else f"{ratio:.1f}",
        )
    console.print(table)
    for name, fact in {**machine(), **facts}.items():
        text = ", ".join(f"{k} {v}" for k, v in fact.items()) if isinstance(fact, dict) else fact
        console.print(f"{name}: {text}", highlight=False)


def times_better(metric: Metric, values: Values) -> float | None:
    """Return how many times better ours is by the medians."""
    ours, theirs = (values.get(name, {}).get(metric.key) for name in (OURS, PEER))
    if not ours or not theirs:
        return None
    ratio = median(ours) / median(theirs)
    return ratio if metric.more_is_better else 1 / ratio


def machine() -> dict[str, Any]:
    """Return what the machine is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ("celery", "kombu", "psycopg", "redis")
    return {
        "cores": cores,
        "load before": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
    }


def _cell(rounds: Sequence[float]) -> str:
    if not rounds:
        return ""
    middle = _number(median(rounds))
    if len(rounds) == 1:
        return middle
    return f"{middle} ({_number(min(rounds))} - {_number(max(rounds))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
