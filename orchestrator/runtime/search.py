"""Finding executions by what an operator writes: a name for one, a condition for many.

One is named by its id, by the beginning of its id, or by its key. Many are named by a condition,
``flow=checkout status=failed,cancelled since=2h``: every field must hold, one of the values of each
field suffices.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from orchestrator import codec
from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.flow import durations
from orchestrator.flow.functions import near_miss
from orchestrator.lifecycle import TERMINAL_EXECUTION, ExecutionStatus
from orchestrator.store import search as store
from orchestrator.store.database import Database
from orchestrator.store.search import Found, Named, Search

#: Words that ``status=`` takes beside the statuses themselves.
_WORDS: Mapping[str, Search] = {
    "open": Search(open=True),
    "ended": Search(open=False),
    "paused": Search(paused=True, open=True),
    "stuck": Search(stuck=True),
}
#: The beginning of an id has at least so many characters.
_PREFIX = 4
_PAGE = 200
_SHOWN = 5


def parse(condition: str) -> Search:
    """Return what a condition such as ``flow=checkout status=failed`` wants.

    Raises:
        InvalidInput: it is empty, or names an unknown field or value; the message has the one that
            was probably meant.
    """
    search = Search()
    try:
        words = shlex.split(condition)
    except ValueError as error:
        raise InvalidInput(f"the condition {condition!r} cannot be read: {error}") from None
    if not words:
        raise InvalidInput(
            f"the condition is empty; fields are {', '.join(FIELDS)}, as in status=open"
        )
    for word in words:
        field, equals, text = word.partition("=")
        if not equals:
            raise InvalidInput(
                f"the condition {word!r} is not of the form field=value; "
                f"fields are {', '.join(FIELDS)}"
            )
        search = with_field(search, field, text)
    return search


def with_field(search: Search, field: str, text: str) -> Search:
    """Return ``search`` narrowed by one field.

    Raises:
        InvalidInput: there is no such field or value.
    """
    if field not in FIELDS:
        raise InvalidInput(
            f"executions have no field {field!r} to search by{near_miss(field, FIELDS)}"
            f"{'' if near_miss(field, FIELDS) else '; fields are ' + ', '.join(FIELDS)}"
        )
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise InvalidInput(f"{field}= names nothing: write {field}=value, or leave it out")
    for value in values:
        check_text(value, f"the value of {field}=")
    return FIELDS[field](search, values)


def matching(database: Database, search: Search, *, limit: int | None = None) -> Iterator[Found]:
    """Yield executions, the newest first; each page is a transaction.

    Raises:
        NotFound: the search names a flow that was never registered.
    """
    check_flows(database, search.flows)
    before: UUID | None = None
    left = limit
    while left is None or left > 0:
        size = _PAGE if left is None else min(_PAGE, left)
        page = database.run_calm(store.find, search, limit=size, before=before)
        yield from page
        if len(page) < size:
            return
        before = page[-1].facts.id
        left = None if left is None else left - len(page)


def check_flows(database: Database, flows: Sequence[str]) -> None:
    """Refuse names of flows that were never registered.

    Raises:
        NotFound: with the name that was probably meant.
    """
    if not flows:
        return
    known = database.run_calm(store.flow_names)
    for flow in flows:
        if flow not in known:
            listed = ", ".join(known) if 0 < len(known) <= _SHOWN else ""
            hint = near_miss(flow, known) or (f"; there are {listed}" if listed else "")
            raise NotFound(f"no flow {flow!r} was ever registered{hint}")


def resolve(database: Database, name: str, flow: str | None = None) -> UUID:
    """Return the execution that a name means: an id, the beginning of one, or a key.

    Args:
        flow: where the key is looked for; without it in all flows.

    Raises:
        NotFound: nothing is called so, or it has expired.
        Conflict: several are; the message names them.
    """
    check_text(name, "the name of an execution")
    if flow is not None:
        check_flows(database, [flow])
    whole = _id(name)
    if whole is not None and database.run_calm(store.with_id_between, whole, whole, 1):
        return whole
    found = database.run_calm(store.with_key, name, flow)  # which may look like an id
    if not found and (bounds := _ids_beginning(name)):
        found = database.run_calm(store.with_id_between, *bounds, _SHOWN + 1)
        found = [one for one in found if flow in {None, one.flow}]
    there = [one for one in found if not one.expired]
    if len(there) == 1:
        return there[0].id
    if there:
        raise Conflict(_ambiguous(name, there))
    if found:
        raise NotFound(
            f"the execution with the key {name!r} of flow {found[0].flow!r} has ended long ago and "
            "is expired: only its key is left"
        )
    where = f" of flow {flow!r}" if flow is not None else ""
    raise NotFound(
        f"no execution{where} has the id or key {name!r}; `orchestrator list` shows what there is"
    )


def check_text(text: str, what: str) -> None:
    """Refuse what no database holds: NUL and half characters.

    Raises:
        InvalidInput: it holds one.
    """
    if codec.encode(text) != text:
        raise InvalidInput(
            f"{what}, {text!r}, holds NUL or half a character, which no database does"
        )


def _ambiguous(name: str, found: Sequence[Named]) -> str:
    shown = ", ".join(f"{one.flow} {one.id}" for one in found[:_SHOWN])
    more = ", ..." if len(found) > _SHOWN else ""
    several = len({one.flow for one in found}) > 1
    cure = "name the flow with --flow, or the whole id" if several else "write more of the id"
    return f"{name!r} means several executions ({shown}{more}): {cure}"


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _ids_beginning(text: str) -> tuple[UUID, UUID] | None:
    digits = text.replace("-", "").lower()
    if not _PREFIX <= len(digits) < 32 or re.fullmatch(r"[0-9a-f]+", digits) is None:
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


# -- fields of a condition -------------------------------------------------------------------------


def _flows(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, flows=values)


def _versions(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, versions=values)


def _keys(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, keys=values)


def _steps(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, steps=values)


def _errors(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, errors=values)


def _since(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, since=_bound("since", values))


def _until(search: Search, values: tuple[str, ...]) -> Search:
    return replace(search, until=_bound("until", values))


def _statuses(search: Search, values: tuple[str, ...]) -> Search:
    known = [*map(str, ExecutionStatus), *_WORDS]
    for value in values:
        if value not in known:
            hint = near_miss(value, known) or f"; there are {', '.join(known)}"
            raise InvalidInput(f"{value!r} is no status of an execution{hint}")
    words = [value for value in values if value in _WORDS]
    if not words:
        return replace(search, statuses=tuple(ExecutionStatus(value) for value in values))
    if words in (["open"], ["ended"]):  # these are several statuses, so they go with others
        ended = words == ["ended"]
        meant = {status for status in ExecutionStatus if (status in TERMINAL_EXECUTION) == ended}
        meant |= {ExecutionStatus(value) for value in values if value not in _WORDS}
        return replace(search, statuses=tuple(sorted(meant)))
    if len(values) > 1:
        raise InvalidInput(f"status={words[0]} stands alone: ask for the others in another search")
    word = _WORDS[words[0]]
    return replace(search, paused=word.paused, open=word.open, stuck=word.stuck)


def _bound(field: str, values: tuple[str, ...]) -> datetime | timedelta:
    if len(values) > 1:
        raise InvalidInput(f"{field}= takes one time, not {len(values)}")
    try:
        return durations.parse(values[0])
    except InvalidInput:
        pass
    try:
        moment = datetime.fromisoformat(values[0])
    except ValueError:
        raise InvalidInput(
            f"{field}={values[0]} is no time: write how long ago (30m, 2h, 7d) or a moment "
            "(2026-01-31 or 2026-01-31T12:00:00+00:00)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


#: The fields of a condition, in the order in which they are told.
FIELDS: Mapping[str, Callable[[Search, tuple[str, ...]], Search]] = {
    "flow": _flows,
    "status": _statuses,
    "key": _keys,
    "since": _since,
    "until": _until,
    "step": _steps,
    "error": _errors,
    "version": _versions,
}
