"""Telling foreign programs how the executions they triggered have ended.

A reply is wanted by a row beside the execution, so nothing has to happen in the commit that ends
it: any worker takes up the rows of ended executions, publishes, and notes that the broker has the
reply. What is published and not noted is published again under the same message id. An execution
that an operator opens again ends another time: that is another reply with another id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid5

from pydantic_core import to_jsonable_python

from orchestrator import codec
from orchestrator.codec import JSON
from orchestrator.errors import Conflict, ExecutionFailed, InvalidInput, NotFound
from orchestrator.records import ExecutionFacts
from orchestrator.runtime import queries
from orchestrator.runtime.catalogue import Catalogue
from orchestrator.store.database import Database
from orchestrator.store.replies import WantedReply

#: A reply that the broker does not confirm is published again after this time, then after twice as
#: long, up to about ten minutes.
AGAIN_AFTER = timedelta(seconds=5)
#: A queue that is missing so many times is given up (after about twenty minutes).
LAST_TRY = 9

_REPLIES = UUID("0c2ad0a3-92a9-5a3e-8f0b-6f8d3c52b7f4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is published: plain JSON, for programs in any language.

    Attributes:
        id: of the message; the same for every publication of one end of an execution.
    """

    wanted: WantedReply
    id: str
    flow: str
    status: str
    body: bytes


def compose(database: Database, catalogue: Catalogue, wanted: WantedReply) -> Reply | None:
    """Return the reply that is due; None when its execution is open again, or gone."""
    try:
        facts = queries.facts(database, wanted.execution_id)
        if facts.finished_at is None:
            return None
        told = _ending(database, catalogue, facts)
    except (Conflict, NotFound):
        return None
    end = f"{facts.id}/{facts.position}/{wanted.reply_to}/{wanted.correlation_id}"
    document = {
        "execution": str(facts.id),
        "flow": facts.flow,
        "version": facts.version,
        "key": facts.key,
        "status": str(facts.status),
        **told,
    }
    return Reply(
        wanted=wanted,
        id=str(uuid5(_REPLIES, end)),
        flow=facts.flow,
        status=str(facts.status),
        body=json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass"),
    )


def _ending(database: Database, catalogue: Catalogue, facts: ExecutionFacts) -> dict[str, JSON]:
    try:
        encoded = database.run(queries.result, catalogue, facts)
    except ExecutionFailed as error:
        return {"error": str(error)}
    return {"result": plain(encoded)}


def plain(encoded: JSON) -> JSON:
    """Return a stored value without the types that only Python knows.

    A value whose class this process does not have stays as it is stored.
    """
    try:
        value = codec.decode(encoded)
        read: JSON = to_jsonable_python(
            value, bytes_mode="base64", inf_nan_mode="strings", fallback=str
        )
    except (InvalidInput, ValueError, TypeError):
        return encoded
    return read
