"""Taking messages of foreign programs: each starts its execution once, or is set aside.

One transaction takes the messages of a batch into the inbox and starts what they want; only when it
is committed may the consumer acknowledge them (protocol.md 6). What can be seen to be wrong with a
message before anything is written (no JSON, no such flow, an input that does not fit) is put into
quarantine in that same transaction. What only the database refuses would roll the others back too:
then the batch is taken one by one, and the culprit set aside by itself.

`Intake.take` is total but for one case: the database does not serve. Then nothing was decided, and
the messages stay with whoever has them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from orchestrator import telemetry
from orchestrator.codec import JSON
from orchestrator.errors import Unavailable
from orchestrator.records import StepMessage
from orchestrator.runtime import requests
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.runtime.foreign import KEY_HEADER, ForeignMessage, Identity
from orchestrator.runtime.triggers import Refused, Request, Trigger
from orchestrator.settings import Settings
from orchestrator.store import inbox, quarantine
from orchestrator.store.database import (
    Connection,
    Database,
    is_cancelled,
    is_of_database,
    is_refusal,
)

log = logging.getLogger(__name__)

#: Messages taken in one transaction, and how many bytes they may have together.
BATCH, BATCH_BYTES = 50, 4 << 20
#: A statement that takes longer means that the database does not serve; large bodies get more.
_STATEMENT = timedelta(seconds=2)
_BYTES_PER_SECOND = 2 << 20
#: After so many messages of a batch that waited too long the others are left for later, too.
_SLOW_ONES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a message.

    Attributes:
        outcome: ``started``; ``found`` (its key had an execution); ``repeat`` (it was taken
            before); ``quarantined``; or ``undecided``, to be taken again a little later: it has no
            id and an equal one is in the hands of a consumer that lives, or it waited too long for
            a key that another transaction has.
    """

    outcome: str
    execution_id: UUID | None = None
    quarantine_id: int | None = None


@dataclass(slots=True)
class Batch:
    """What a transaction came to, in the order of its messages, and the step messages to send."""

    taken: list[Taken] = field(default_factory=list)
    messages: list[StepMessage] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """Who takes, as far as messages without an id are concerned; see `Intake.take`."""

    session: UUID
    silent_after: timedelta | None
    patient: bool


class Intake:
    """Takes messages for one process.

    Args:
        triggers: queues that belong to a flow; all others carry requests.
    """

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        settings: Settings,
        triggers: Iterable[Trigger] = (),
    ) -> None:
        self._database, self._catalogue, self._settings = database, catalogue, settings
        self._triggers = {trigger.queue: trigger for trigger in triggers}
        self._warned: set[str] = set()
        self._guard = threading.Lock()

    def take(
        self, batch: Sequence[ForeignMessage], *, session: UUID, patient: bool = True
    ) -> Batch:
        """Take messages; whatever can be decided about them is committed on return.

        Args:
            session: of the consumer: between two of them it lost its connection to the broker.
            patient: leave a message undecided that may be a repetition; else call it one.

        Raises:
            Unavailable, psycopg.Error: the database does not serve; nothing was decided.
        """
        self._warn_of_missing_ids(batch)
        try:
            return self._run(batch, session, patient)
        except Exception as error:
            is_slow = is_cancelled(error)
            is_served = not (is_of_database(error) or isinstance(error, Unavailable))
            is_fault = is_refusal(error) or is_served
            if not (is_fault or (is_slow and len(batch) > 1)):
                raise
            if len(batch) == 1:
                return self._set_aside(batch[0], error, session)
        return self._take_each(batch, session, patient)

    def _take_each(self, batch: Sequence[ForeignMessage], session: UUID, patient: bool) -> Batch:
        """Take a batch one by one; what waits too long, for a key that another has, comes later."""
        together, slow = Batch(), 0
        for message in batch:
            try:
                if slow >= _SLOW_ONES:
                    alone = Batch(taken=[Taken(outcome="undecided")])
                else:
                    alone = self.take([message], session=session, patient=patient)
            except Exception as error:
                if not is_cancelled(error):
                    raise
                slow += 1
                alone = Batch(taken=[Taken(outcome="undecided")])
            together.taken += alone.taken
            together.messages += alone.messages
        return together

    def forget(self, acknowledged: Sequence[ForeignMessage], *, session: UUID) -> None:
        """Forget messages without an id: the broker has their acknowledgement."""
        rows = [(m.queue, m.content, m.delivery) for m in acknowledged if not m.has_id]
        if rows:
            self._database.run(inbox.forget, session, rows)

    def _run(self, batch: Sequence[ForeignMessage], session: UUID, patient: bool) -> Batch:
        return self._database.run(
            take,
            self._catalogue,
            self._settings,
            self._triggers,
            batch,
            session=session,
            patient=patient,
        )

    def _set_aside(self, message: ForeignMessage, error: Exception, session: UUID) -> Batch:
        log.warning("a message of queue %r is refused: %s", message.queue, error)
        first_line = str(error).strip().splitlines()[:1]
        problem = f"{type(error).__name__}: {first_line[0] if first_line else 'no reason given'}"
        refused = Refused("cannot be stored", problem)
        return self._database.run(
            take,
            self._catalogue,
            self._settings,
            self._triggers,
            [message],
            session=session,
            patient=False,
            refused=refused,
        )

    def _warn_of_missing_ids(self, batch: Sequence[ForeignMessage]) -> None:
        for queue in {message.queue for message in batch if not message.has_id}:
            with self._guard:
                new = queue not in self._warned
                self._warned.add(queue)
            if new:
                telemetry.emit("message_without_id", queue=queue)


def take(
    connection: Connection,
    catalogue: Catalogue,
    settings: Settings,
    triggers: Mapping[str, Trigger],
    batch: Sequence[ForeignMessage],
    *,
    session: UUID,
    patient: bool,
    refused: Refused | None = None,
) -> Batch:
    """Take a batch in one transaction: inbox, starts, quarantine, wanted replies.

    The same batch again, after a commit whose answer was lost, finds it taken: every message is a
    repeat then, and the sweep sends what was not sent.

    Args:
        refused: sets the messages aside whatever they are.
    """
    result = Batch(taken=[Taken(outcome="repeat")] * len(batch))
    told: list[tuple[str, dict[str, Any]]] = []
    with connection.transaction():
        size = sum(len(message.body) for message in batch)
        within = _STATEMENT + timedelta(seconds=size / _BYTES_PER_SECOND)
        inbox.bound_statements(connection, within=within)
        # Behind a pooler a lock would stay in a session of nobody's: time has to tell there.
        silent_after = settings.silent_after if settings.transaction_pooling else None
        holder = _Holder(session=session, silent_after=silent_after, patient=patient)
        if silent_after is None and any(not message.has_id for message in batch):
            inbox.lock_session(connection, session)
        new = _take_ids(connection, batch, holder, result)
        asked = [
            (i, batch[i], _read(batch[i], identity, triggers, settings, refused))
            for i, identity in new.items()
        ]
        started: dict[inbox.Key, UUID] = {}
        # In the order of their keys, as everybody takes them: two batches cannot deadlock.
        for i, message, request in sorted(asked, key=_place):
            try:
                if isinstance(request, Refused):
                    raise request
                actor = f"queue {message.queue}"
                begun = requests.begin(
                    connection, catalogue, settings, request, message, actor=actor
                )
                result.taken[i] = Taken(outcome=begun.outcome, execution_id=begun.execution_id)
                result.messages += begun.messages
                if begun.execution_id is not None:
                    started[new[i]] = begun.execution_id
            except Refused as why:
                number = _quarantine(connection, message, triggers.get(message.queue), why)
                result.taken[i] = Taken(outcome="quarantined", quarantine_id=number)
                facts = {"queue": message.queue, "reason": why.reason, "quarantine_id": number}
                told.append(("message_quarantined", facts))
        if started:
            inbox.set_executions(connection, started)
    for event, facts in told:
        telemetry.emit(event, **facts)
    return result


def _take_ids(
    connection: Connection,
    batch: Sequence[ForeignMessage],
    holder: _Holder,
    result: Batch,
) -> dict[int, Identity]:
    """Insert the batch into the inbox; return by its index which message is new, as what."""
    wanted: dict[Identity, int] = {}
    clashing: list[int] = []
    for i, message in enumerate(batch):
        first = wanted.setdefault(message.identity, i)
        if batch[first].content != message.content:
            clashing.append(i)
    held: dict[inbox.Key, UUID] = {}
    if any(identity.kind == "none" for identity in wanted):
        for identity, i in list(wanted.items()):
            if identity.kind != "none":
                continue
            known = _look_for_first(connection, batch[i], holder)
            if known is None:
                held[identity] = batch[i].delivery
            else:
                del wanted[identity]
                result.taken[i] = known
    rows = [(identity, batch[i].content) for identity, i in wanted.items()]
    fresh = inbox.insert(connection, rows, held=held, holder=holder.session) if rows else set()
    new = {i: identity for identity, i in wanted.items() if identity in fresh}
    there = [identity for identity in wanted if identity not in fresh]
    if there:
        stored = inbox.contents(connection, there)
        # One that is not there any more has expired between the two statements: a repeat, as well.
        clashing += [
            wanted[one]
            for one in there
            if stored.get(one, "") not in {"", batch[wanted[one]].content}
        ]
    others = {batch[i].used_twice(): i for i in clashing}
    if others:
        rows = [(identity, batch[i].content) for identity, i in others.items()]
        for key in inbox.insert(connection, rows, held={}, holder=None):
            identity = Identity(*key)
            new[others[identity]] = identity
    return dict(sorted(new.items()))


def _look_for_first(
    connection: Connection, message: ForeignMessage, holder: _Holder
) -> Taken | None:
    """Return what is known of a message without an id; None when it is a new one.

    Only a redelivered message can have been taken before. It was if an equal one was taken and not
    acknowledged by a consumer whose session is over. As long as that session lives nothing is
    sure: it may be about to acknowledge its own message, or be gone in a moment.
    """
    known = inbox.of_delivery(connection, message.queue, message.content, message.delivery)
    if known is not None:
        return Taken(outcome="repeat")
    if not message.redelivered and message.dead is None:
        return None
    others = inbox.held(
        connection,
        message.queue,
        message.content,
        session=holder.session,
        silent_after=holder.silent_after,
    )
    if not others:
        return None
    free = next((one for one in others if one.free), None if holder.patient else others[0])
    if free is None:
        return Taken(outcome="undecided")
    inbox.hold(connection, free.key, session=holder.session, delivery=message.delivery)
    return Taken(outcome="repeat")


def _read(
    message: ForeignMessage,
    identity: Identity,
    triggers: Mapping[str, Trigger],
    settings: Settings,
    refused: Refused | None,
) -> Request | Refused:
    """Return what a message wants started, or why it is set aside; touches no database."""
    if refused is not None:
        return refused
    if message.dead is not None:
        return Refused(
            "not taken",
            f"the broker gave up delivering it ({message.dead}): look whether it ends the process"
            " that reads it, then release it",
        )
    if identity.kind == "other":
        return Refused(
            "id used twice",
            f"the id {message.message_id or message.headers.get(KEY_HEADER)!r} was taken with"
            " another body: give every message its own",
        )
    return requests.read(message, triggers.get(message.queue), settings)


def _place(one: tuple[int, ForeignMessage, Request | Refused]) -> tuple[str, str, int]:
    i, _, request = one
    return ("", "", i) if isinstance(request, Refused) else (request.flow, request.key or "", i)


def _quarantine(
    connection: Connection, message: ForeignMessage, trigger: Trigger | None, why: Refused
) -> int:
    detail: dict[str, JSON] = {"problem": why.problem}
    if trigger is not None:
        detail["trigger"] = trigger.to_json()
    return quarantine.set_message_aside(
        connection,
        queue=message.queue,
        reason=why.reason,
        detail=detail,
        properties=message.properties(),
        body=message.body,
    )
