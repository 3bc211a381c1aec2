"""Frozen records that travel between the rooms, with ``from_row`` beside the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from orchestrator.errors import InvalidInput
from orchestrator.lifecycle import ExecutionStatus, StepStatus

#: Version of the message format; a worker refuses messages of another one.
MESSAGE_VERSION = 1

_STEPS = UUID("6f7a3d52-0c57-5d0e-9d6f-0d6f1c1b2a10")


class StepAddress(NamedTuple):
    """The natural key of a step run (protocol.md 1)."""

    execution_id: UUID
    name: str
    scope: str
    run: int

    @property
    def id(self) -> UUID:
        """The idempotency key of this step run: stable over attempts, computed and never stored."""
        return uuid5(_STEPS, f"{self.execution_id}/{self.name}/{self.scope}/{self.run}")

    def __str__(self) -> str:
        where = f"{self.scope}/{self.name}" if self.scope else self.name
        return f"{where} of {self.execution_id}" + (f" (run {self.run})" if self.run else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMessage:
    """What is sent for a step run that is ready: ids only, constant size, a hint and no truth.

    Attributes:
        address: the step run.
        definition_id: row of `definitions`, so that a worker knows the graph before it claims.
        task: the Celery task's name, ``<flow>.<step>``.
        number: which message of this row it is (``dispatch``).
        queue: where it goes.
        label: what operators read beside it: the execution's key, if any.
    """

    address: StepAddress
    definition_id: int
    task: str
    number: int
    queue: str
    label: str = ""

    @property
    def id(self) -> str:
        """The message's and the Celery task's id: ``<step id>.<number>``."""
        return f"{self.address.id}.{self.number}"

    def to_args(self) -> list[Any]:
        """Return the message's body as JSON scalars, format version first."""
        address = self.address
        return [
            MESSAGE_VERSION,
            str(address.execution_id),
            address.name,
            address.scope,
            address.run,
            self.number,
            self.definition_id,
        ]

    @classmethod
    def from_args(cls, args: Sequence[Any], *, task: str, queue: str) -> StepMessage:
        """Read what `to_args` wrote.

        Raises:
            InvalidInput: another format version, or not a message of ours.
        """
        try:
            version, execution, name, scope, run, number, definition = args
            if version != MESSAGE_VERSION:
                raise InvalidInput(
                    f"message format {version!r} is not {MESSAGE_VERSION}: another release sent it"
                )
            address = StepAddress(UUID(execution), str(name), str(scope), int(run))
            return cls(
                address=address,
                definition_id=int(definition),
                task=task,
                number=int(number),
                queue=queue,
            )
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"not a step message: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A step run held under a lease by this process.

    Attributes:
        token: the fencing number of this claim.
        attempt: this is the n-th try.
        deaths: how many workers died holding it.
        wanted, live, items: tallies of a join or fan-out row; ``items`` is None until an each is
            expanded.
        dispatched_at: when the newest message was wanted; None for a step continued inline.
        until_at: of a row that was parked, when its wait is over.
        child: of a call, the child execution that it waits for.
    """

    address: StepAddress
    token: int
    attempt: int
    deaths: int
    queue: str
    definition_id: int
    key: str | None = None
    wanted: int | None = None
    live: int | None = None
    items: int | None = None
    dispatched_at: datetime | None = None
    taken_from: UUID | None = None
    until_at: datetime | None = None
    child: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """A step run that a commit made ready: to be sent, or (``inline``) held by the recorder."""

    address: StepAddress
    inline: bool
    number: int
    token: int
    attempt: int
    queue: str
    wanted: int | None
    live: int | None
    items: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The answer to a record.

    Attributes:
        kind: ``recorded``, ``settled`` (the execution ended with it), ``full`` (nothing changed:
            the full form must decide) or ``fenced`` (nothing changed: the token is old).
        ordered: step runs that this commit made ready.
        status: of the execution, once it is settled.
        posted: whether there are events for other executions to deliver.
        begun: messages of a child execution that this commit started.
    """

    kind: str
    ordered: tuple[Ordered, ...] = ()
    status: str | None = None
    posted: bool = False
    begun: tuple[StepMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start that is asked for.

    Attributes:
        execution_id: drawn once and kept over repetitions: the same id again gets the same answer.
        document: the input as JSON text, an object by parameter name.
        input_hash: what tells inputs under one key apart.
    """

    execution_id: UUID
    key: str | None
    document: str
    input_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The answer to a start: ``created`` is False when the key was there already."""

    execution_id: UUID
    created: bool
    input_hash: str
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFacts:
    """An execution's row, as read."""

    id: UUID
    definition_id: int
    flow: str
    version: str
    key: str | None
    status: ExecutionStatus
    paused: bool
    started: int
    finished: int
    failed: int
    position: int
    reruns: int
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ExecutionFacts:
        """Read a row of the executions query."""
        return cls(**{**row, "status": ExecutionStatus(row["status"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """A step run's row, as read (requirements.md E1)."""

    address: StepAddress
    status: StepStatus
    attempt: int
    token: int
    deaths: int
    dispatch: int
    sent: int
    counter_updated: bool
    message_sent: bool
    wanted: int | None
    live: int | None
    items: int | None
    next: int | None
    due_at: datetime | None
    began_at: datetime | None
    ended_at: datetime | None
    ended_no: int | None
    holder: UUID | None
    closed_by: str | None
    error: Mapping[str, Any] | None
    absorbed_by: str | None
    until_at: datetime | None
    child: UUID | None
    arrived: int | None
    total: int | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> StepFacts:
        """Read a row of the steps query."""
        rest = dict(row)
        address = StepAddress(
            rest.pop("execution_id"), rest.pop("name"), rest.pop("scope"), rest.pop("run")
        )
        return cls(address=address, **{**rest, "status": StepStatus(rest["status"])})
