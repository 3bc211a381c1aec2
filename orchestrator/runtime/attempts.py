"""What others do to an attempt: renew its lease, end it for its timeout, hand it back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from uuid import UUID

from orchestrator import telemetry
from orchestrator.errors import LeaseLost, TimedOut
from orchestrator.records import Claimed, StepAddress, StepMessage
from orchestrator.runtime import bodies, record
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.delivery import commit
from orchestrator.runtime.messages import of_ordered
from orchestrator.settings import Settings
from orchestrator.store import incarnations, moves
from orchestrator.store.database import Connection, Database


def renew(
    connection: Connection, running: Sequence[tuple[StepAddress, int]], settings: Settings
) -> dict[StepAddress, bool]:
    """Lengthen the leases of exactly these (step run, token) pairs.

    Returns:
        Those still held, each with whether it is asked to stop; one that is missing has lost its
        lease.
    """
    in_lock_order = sorted(running)
    return dict(moves.renew(connection, in_lock_order, lease=settings.lease))


def time_out(
    database: Database, catalogue: Catalogue, settings: Settings, claimed: Claimed, holder: UUID
) -> list[StepMessage] | None:
    """End an attempt that exceeded its timeout, under its token; the caller stops its process.

    Returns:
        Messages to send, or None when the attempt was recorded meanwhile: leave its process alone.
    """
    registered = database.run(catalogue.definition, claimed.definition_id)
    options = registered.options(claimed.address.name, claimed.address.scope)
    failed = database.run(moves.failed_attempts, claimed.address) if claimed.attempt > 1 else 0
    error = TimedOut(f"the attempt took longer than {options.timeout}")
    attempt = record.Attempt(
        claimed=claimed,
        registered=registered,
        catalogue=catalogue,
        outcome=bodies.classify(error, claimed.attempt, options, failed=failed),
        head=claimed.address,
        holder=holder,
        nonce=secrets.randbits(63),
        may_continue=lambda _name, _scope: False,
    )
    try:
        answer = commit(database, attempt, settings)
    except LeaseLost:
        return None
    telemetry.emit(
        "step_timed_out",
        execution_id=claimed.address.execution_id,
        flow=registered.flow,
        step=claimed.address.name,
        scope=claimed.address.scope,
        run=claimed.address.run,
        attempt=claimed.attempt,
        timeout_s=options.timeout.total_seconds(),
    )
    return [*of_ordered(registered, answer.ordered, claimed.key), *answer.begun]


def hand_back(connection: Connection, incarnation: UUID, running: Sequence[StepAddress]) -> int:
    """Give back step runs that a stopping worker will not finish: no death, no attempt spent."""
    return incarnations.hand_back(connection, incarnation, running)
