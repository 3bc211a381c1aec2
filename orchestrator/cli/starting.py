"""``start`` and ``send``: begin an execution, and tell a running one something."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import click

from orchestrator import codec
from orchestrator.cli import output
from orchestrator.cli.desk import Desk, by_operator, common, of_flow, pass_desk
from orchestrator.cli.documents import of_facts
from orchestrator.cli.parameters import Duration, Json
from orchestrator.errors import InvalidInput
from orchestrator.handles import Handle
from orchestrator.masking import masked
from orchestrator.runtime import edits, queries


@click.command()
@click.argument("name")
@click.option(
    "--input", "document", type=Json(), help="The input as JSON by parameter name, or @file."
)
@click.option("--key", help="Your own id of this work; the same key again is the same execution.")
@click.option("--version", help="Refuse if the modules hold another version of the flow.")
@click.option(
    "--wait",
    "patience",
    type=Duration(),
    help="Wait so long for the end and print the result, too: 30s, 5m, 2h.",
)
@by_operator
@common
@pass_desk
def start(
    desk: Desk,
    *,
    name: str,
    document: Any,
    key: str | None,
    version: str | None,
    patience: timedelta | None,
    actor: str,
    as_json: bool,
) -> None:
    """Start an execution of the flow NAME; print its id and whether it is new.

    With --wait it exits 1 when the execution fails, or has not ended by then; it goes on.
    """
    flow = desk.flow(name)
    if version is not None and version != flow.definition.version:
        raise InvalidInput(
            f"the modules hold version {flow.definition.version!r} of flow {name!r}, not "
            f"{version!r}: deploy that one, or leave --version out"
        )
    edits.refuse_masked(document, desk.settings, "the input")
    given = {} if document is None else document
    handle = desk.orchestrator.start_document(flow, given, key=key, actor=actor)
    if not as_json:
        output.say(f"{handle.id}  {'new' if handle.created else 'was there already'}")
    ended = {} if patience is None else _ended(desk, handle, patience)
    if as_json:
        output.document(
            {
                "id": handle.execution_id,
                "flow": name,
                "version": flow.definition.version,
                "key": key,
                "created": handle.created,
                **ended,
            }
        )
    elif ended:
        output.say(json.dumps(codec.plain(ended["result"]), ensure_ascii=False))


def _ended(desk: Desk, handle: Handle[Any], patience: timedelta) -> dict[str, Any]:
    handle.result(patience)
    facts = handle.facts()
    result = desk.database.run(queries.result, desk.catalogue, facts)
    return {"status": facts.status, "result": masked(result, desk.settings.masked)}


@click.command()
@click.argument("execution")
@click.argument("event")
@of_flow
@click.option("--data", type=Json(), help="What the event carries, as JSON or @file.")
@click.option("--key", help="Your own id of this event; the same key again is the same event.")
@by_operator
@common
@pass_desk
def send(
    desk: Desk,
    *,
    execution: str,
    event: str,
    flow: str | None,
    data: Any,
    key: str | None,
    actor: str,
    as_json: bool,
) -> None:
    """Send an event to an execution that waits for it, or will."""
    known = desk.execution(execution, flow)
    edits.refuse_masked(data, desk.settings, f"the data of {event}")
    desk.orchestrator.send(known, event, data, key=key, from_json=True, actor=actor)
    if as_json:
        facts = queries.facts(desk.database, known)
        output.document({"act": "send", "event": event, "key": key, **of_facts(facts)})
        return
    output.say(f"{event} was sent to {known}.")
