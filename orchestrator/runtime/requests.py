"""What a message asks to be started, checked against the flows there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import Conflict, DefinitionError, InvalidInput
from orchestrator.flow import functions
from orchestrator.records import StepMessage
from orchestrator.runtime import start
from orchestrator.runtime.catalogue import Catalogue, Registered
from orchestrator.runtime.foreign import ForeignMessage
from orchestrator.runtime.triggers import Refused, Request, Trigger, read_request
from orchestrator.settings import Settings
from orchestrator.store import definitions, inbox, replies
from orchestrator.store.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a request came to.

    Attributes:
        outcome: ``started``; ``found`` (its key had an execution); ``repeat`` (that execution has
            expired).
        messages: to be sent once the transaction is committed.
    """

    outcome: str
    execution_id: UUID | None
    messages: list[StepMessage]


def read(message: ForeignMessage, trigger: Trigger | None, settings: Settings) -> Request | Refused:
    """Return what a message wants started, or why that cannot be."""
    if len(message.body) > settings.max_input_bytes:
        return Refused(
            "too large",
            f"the body has {len(message.body)} bytes, at most {settings.max_input_bytes} are"
            " allowed; store it elsewhere and send where it is",
        )
    try:
        return read_request(message.body) if trigger is None else trigger.read(message)
    except Refused as refused:
        return refused


def begin(
    connection: Connection,
    catalogue: Catalogue,
    settings: Settings,
    request: Request,
    message: ForeignMessage,
    *,
    actor: str,
) -> Begun:
    """Start what a request wants, in the caller's transaction, and want the reply.

    Raises:
        Refused: no such flow or version, an input that does not fit, a key of other work.
    """
    registered, document = resolve(connection, catalogue, request)
    try:
        started, messages = start.start(
            connection,
            registered,
            document,
            settings,
            execution_id=message.delivery,
            key=request.key,
            actor=actor,
        )
    except InvalidInput as error:
        raise Refused("invalid input", str(error)) from error
    except Conflict as error:
        wanted = start.wanted(registered, document, settings, key=request.key)
        if wanted.input_hash == inbox.expired_key(connection, registered.flow, request.key or ""):
            return Begun(outcome="repeat", execution_id=None, messages=[])
        raise Refused("key conflict", str(error)) from error
    if message.reply_to:
        replies.want(
            connection, started.execution_id, message.reply_to, message.correlation_id or ""
        )
    outcome = "started" if started.created else "found"
    return Begun(outcome=outcome, execution_id=started.execution_id, messages=messages)


def resolve(
    connection: Connection, catalogue: Catalogue, request: Request
) -> tuple[Registered, dict[str, JSON]]:
    """Return the definition that a request names and its checked input.

    This process's own flow is the first choice and checks the input against its annotations. A flow
    that is only stored, because another service has its code or because an older version is asked
    for, is started all the same: its parameters are checked by name, and its steps check the types
    when they read them. Leaving such a message to somebody else would have it circle for ever.

    Raises:
        Refused: no such flow or version, or an input that does not fit.
    """
    flow = catalogue.flows.get(request.flow)
    try:
        if flow is not None and request.version in {None, flow.definition.version}:
            document = flow.validate_document(request.document)
            return catalogue.registered(connection, request.flow), document
        number = definitions.find_by_name(connection, request.flow, request.version)
        if number is None:
            raise _unknown(connection, catalogue, request)
        registered = catalogue.definition(connection, number)
        return registered, _checked(registered, request.document)
    except InvalidInput as error:
        raise Refused("invalid input", str(error)) from error
    except DefinitionError as error:
        raise Refused("unknown version", str(error)) from error


def _unknown(connection: Connection, catalogue: Catalogue, request: Request) -> Refused:
    versions = definitions.versions(connection, request.flow)
    if versions:
        return Refused(
            "unknown version",
            f"flow {request.flow!r} has no version {request.version!r}; "
            f"there are {', '.join(versions)}",
        )
    hint = functions.near_miss(request.flow, catalogue.flows)
    return Refused("unknown flow", f"there is no flow {request.flow!r}{hint}")


def _checked(registered: Registered, document: Mapping[str, JSON]) -> dict[str, JSON]:
    definition = registered.definition
    for name in document:
        if name not in definition.graph.params:
            raise InvalidInput(f"flow {registered.flow!r}: there is no parameter {name!r}")
    for name in definition.graph.params:
        if name not in document and name not in definition.defaults:
            raise InvalidInput(f"flow {registered.flow!r}: the parameter {name!r} is missing")
    encoded = codec.encode(dict(document), where=f"the input of flow {registered.flow!r}")
    assert isinstance(encoded, dict)  # noqa: S101  # of a dict with names of parameters
    return {**definition.defaults, **encoded}
