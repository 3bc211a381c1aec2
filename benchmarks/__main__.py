"""Measure this product beside plain Celery, on the same services, taking turns.

W1 is chains of ten trivial steps: saturated (all started before two prefork processes may begin)
and alone (one after another). W2 is one step, a hundred beside each other and one that joins them.
W4 is starts of single steps while the worker waits: one by one, and many in one call.
In each round every system has the machine to itself, with a worker of its own, in alternating
order. Nothing here passes or fails: machines differ, and what counts are the ratios.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import measure, report
from benchmarks.children import WorkerGone
from benchmarks.services import Missing, services
from benchmarks.systems import PROCESSES, Peer, Product, System

_SIZES = {"full": measure.FULL, "quick": measure.QUICK, "tiny": measure.TINY}


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), help="How often each is measured (3; quick: 1).")
@click.option("--quick", is_flag=True, help="Less of everything, one round: under a minute.")
@click.option("--only", type=click.Choice(["w1", "w2", "w4"]), help="One workload.")
@click.option("--system", type=click.Choice([report.OURS, report.PEER]), help="One system.")
@click.option("--events", is_flag=True, help="Both send task events, as for Flower.")
@click.option(
    "--peer-queue",
    type=click.Choice(["quorum", "classic"]),
    default="quorum",
    show_default=True,
    help="The peer's queue; ours is always a quorum queue.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--chains", type=click.IntRange(1), help="Chains of a saturated run.")
@click.option("--size", type=click.Choice(list(_SIZES)), hidden=True)
def main(
    *,
    rounds: int | None,
    quick: bool,
    only: str | None,
    system: str | None,
    events: bool,
    peer_queue: str,
    as_json: bool,
    chains: int | None,
    size: str | None,
) -> None:
    """Run the benchmarks."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed all the same
    sizes = _SIZES[size or ("quick" if quick else "full")]
    if chains:
        sizes = replace(sizes, chains=chains)
    rounds = rounds or (1 if quick else 3)
    workloads = [only] if only else ["w1", "w2", "w4"]
    values: dict[str, dict[str, list[float]]] = {
        name: defaultdict(list) for name in (report.OURS, report.PEER) if system in {None, name}
    }
    facts: dict[str, Any] = {}
    complete = True
    folder = Path(tempfile.mkdtemp(prefix="orc-bench-"))
    try:
        with services() as made:
            facts |= {
                "services": made.versions,
                "worker": f"prefork, {PROCESSES} processes each",
                "queues": {report.OURS: "quorum", report.PEER: peer_queue},
                "task events": "sent" if events else "not sent",
            }
            systems: list[System] = []
            if report.OURS in values:
                systems.append(Product(made))
            if report.PEER in values:
                systems.append(Peer(made, peer_queue))
            for number in range(rounds):
                turn = systems if number % 2 == 0 else systems[::-1]
                for workload in workloads:
                    for one in turn:
                        console.print(
                            f"round {number + 1} of {rounds}: {workload} {one.name}",
                            highlight=False,
                        )
                        with one.worker(folder, events) as node:
                            for key, value in measure.measure(one, node, workload, sizes):
                                values[one.name][key].append(value)
            for one in systems:
                one.close()
    except (Missing, WorkerGone, measure.Slow) as error:
        console.print(f"stopped early: {error}", style="red", highlight=False)
        complete = False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        click.echo(json.dumps(report.document(values, sizes=sizes, facts=facts), indent=2))
    else:
        report.show(values, sizes=sizes, facts=facts, console=Console())
    sys.exit(0 if complete else 1)


if __name__ == "__main__":
    main()
