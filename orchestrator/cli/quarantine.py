"""``quarantine``: messages that could not be taken, and steps that killed their workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from orchestrator.cli import output
from orchestrator.cli.desk import (
    Desk,
    by_operator,
    common,
    pass_desk,
    secrets_unless,
    unmasking,
)
from orchestrator.cli.named import Named
from orchestrator.errors import OrchestratorError
from orchestrator.masking import MASK, masked, masked_text
from orchestrator.runtime import edits, places
from orchestrator.runtime import quarantine as runtime
from orchestrator.runtime.foreign import body_text
from orchestrator.store.quarantine import SetAside

_BODY = 4000
_CELL = 80
_WITHHELD = "(the body is no JSON and names what is secret: --unmasked shows it)"
_numbers = click.argument("numbers", nargs=-1, required=True, type=int, metavar="NUMBER...")


@click.group(cls=Named)
def quarantine() -> None:
    """Look at what was set aside, repair it, release or drop it."""


@quarantine.command("list")
@click.option("--queue", help="Only messages of this queue.")
@click.option("--reason", help="Only what was set aside for this reason.")
@click.option("--all", "every", is_flag=True, help="Also what was released or dropped.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@common
@pass_desk
def list_(
    desk: Desk, *, queue: str | None, reason: str | None, every: bool, limit: int, as_json: bool
) -> None:
    """List what waits in quarantine, the newest first."""
    found = desk.database.run(
        runtime.listed, every=every, queue=queue, reason=reason, limit=limit + 1
    )
    more = len(found) > limit
    found = found[:limit]
    if as_json:
        output.document({"quarantine": [_of(one) for one in found], "more": more})
        return
    if not found:
        output.say("Nothing waits in quarantine.")
        return
    output.table(
        ["no", "at", "what", "reason", "problem", "state"],
        [
            [
                one.id,
                one.at,
                _what(one),
                one.reason,
                output.shortened(_problem(one), _CELL),
                _state(one),
            ]
            for one in found
        ],
        right=["no"],
    )
    if more:
        output.say(f"There are more than {limit}; --limit shows more of them.", "dim")


@quarantine.command()
@click.argument("number", type=int)
@unmasking
@common
@pass_desk
def show(desk: Desk, *, number: int, unmasked: bool, as_json: bool) -> None:
    """Show one with its headers and its body.

    Values of fields that are secret by their name (the setting `masked`) are shown as ***; a body
    that is no JSON is withheld if it names one.
    """
    kept = desk.database.run(runtime.show, number)
    secret = secrets_unless(unmasked, desk)
    found = replace(
        kept, detail=_masked_detail(kept.detail, secret), properties=masked(kept.properties, secret)
    )
    body = None if found.body is None else _masked_body(found.body, secret)
    if as_json:
        output.document(
            {**_of(found), "detail": found.detail, "properties": found.properties, "body": body}
        )
        return
    output.pairs(
        {
            "number": found.id,
            "at": output.moment(found.at),
            "what": _what(found),
            "reason": found.reason,
            "problem": _problem(found),
            "state": _state(found),
            "execution": found.execution_id,
            "properties": None if found.properties is None else json.dumps(found.properties),
            "size": None if found.size is None else f"{found.size:,} bytes",
        }
    )
    if body is not None:
        output.say("")
        output.say(output.shortened(body, _BODY) if body != MASK else _WITHHELD)
    if found != kept or body not in {None, MASK, body_text(kept.body or b"")}:
        output.say(f"{MASK} stands for what is secret by its name; --unmasked shows it.", "dim")


@quarantine.command()
@_numbers
@click.option("--body", help="The repaired body of a message: text, or @file.")
@by_operator
@common
@pass_desk
def release(
    desk: Desk, *, numbers: Sequence[int], body: str | None, actor: str, as_json: bool
) -> None:
    """Take messages now, repaired if need be; retry the executions of steps.

    A message starts what it asks for, once, and is answered as if it had just come.
    """
    if body is not None and len(numbers) > 1:
        raise click.UsageError("--body repairs one message: name one number.")
    repaired = None if body is None else _read(body)
    if repaired is not None:
        edits.refuse_masked(_read_json(repaired), desk.settings, "the body", "quarantine show")

    def act(number: int) -> dict[str, Any]:
        found = desk.database.run(runtime.show, number)
        if found.queue is None and found.execution_id is not None:
            desk.orchestrator.retry(found.execution_id, actor=actor)
            return {"execution": found.execution_id, "started": False}
        handle = desk.orchestrator.release(number, body=repaired, actor=actor)
        return {"execution": handle.execution_id, "started": handle.created}

    _each(numbers, "release", act, as_json=as_json)


@quarantine.command()
@_numbers
@by_operator
@common
@pass_desk
def drop(desk: Desk, *, numbers: Sequence[int], actor: str, as_json: bool) -> None:
    """Give messages up: what they asked for will not be done."""

    def act(number: int) -> dict[str, Any]:
        return {"dropped": desk.orchestrator.drop(number, actor=actor)}

    _each(numbers, "drop", act, as_json=as_json)


def _each(numbers: Sequence[int], act: str, carry_out: Any, *, as_json: bool) -> None:
    """Do it to each; one that is refused keeps none of the others from it."""
    done: list[dict[str, Any]] = []
    for number in dict.fromkeys(numbers):
        try:
            done.append({"number": number, "reason": None, **carry_out(number)})
        except OrchestratorError as error:
            if len(numbers) == 1 and not as_json:
                raise
            done.append({"number": number, "reason": " ".join(str(error).split())})
    if as_json:
        output.document({"act": act, "messages": done})
    else:
        for line in done:
            output.say(f"{line['number']}: {_told(line)}")
    if any(line["reason"] is not None for line in done):
        click.get_current_context().exit(1)


def _told(line: dict[str, Any]) -> str:
    if line["reason"] is not None:
        return str(line["reason"])
    if "dropped" in line:
        return "dropped" if line["dropped"] else "dropped already"
    return f"{'started' if line['started'] else 'belongs to'} execution {line['execution']}"


def _read(body: str) -> bytes:
    if not body.startswith("@"):
        return body.encode()
    try:
        return Path(body[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{body[1:]} cannot be read: {error.strerror}") from error


def _read_json(body: bytes) -> Any:
    """Return what a body says; one that is no JSON says nothing here, and is refused later."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _masked_body(body: bytes, secret: Sequence[str]) -> str:
    """Return a body for people's eyes; one that is no text cannot be looked through for secrets."""
    text = body_text(body)
    is_text = text.encode() == body
    return masked_text(text, secret) if is_text or not secret else MASK


def _masked_detail(detail: Mapping[str, Any], secret: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = masked(detail, secret)
    if isinstance(shown.get("repaired"), str):  # the body with which it was released
        shown["repaired"] = masked_text(shown["repaired"], secret)
    return shown


def _of(one: SetAside) -> dict[str, Any]:
    return {
        "number": one.id,
        "at": one.at,
        "queue": one.queue,
        "step": None if one.step is None else places.text_of(one.step, one.scope or ""),
        "execution": one.execution_id,
        "reason": one.reason,
        "problem": _problem(one),
        "size": one.size,
        "released_at": one.released_at,
        "dropped_at": one.dropped_at,
    }


def _what(one: SetAside) -> str:
    if one.queue is not None:
        return f"message of {one.queue}"
    return f"step {places.text_of(one.step or '?', one.scope or '')} of {one.execution_id}"


def _problem(one: SetAside) -> str:
    return str(one.detail.get("problem") or one.detail.get("message") or "")


def _state(one: SetAside) -> str:
    if one.dropped_at is not None:
        return f"dropped {output.moment(one.dropped_at)}"
    return "waits" if one.released_at is None else f"released {output.moment(one.released_at)}"
