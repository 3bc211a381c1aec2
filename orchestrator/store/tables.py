"""The tables as SQLAlchemy Core knows them. Migrations make them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    and_,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(schema="orchestrator")
_moment = DateTime(timezone=True)
_c_text = Text(collation="C")
_now = text("orchestrator.now()")
_zero = text("0")

definitions = Table(
    "definitions",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("graph", JSONB, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("registered_at", _moment, nullable=False, server_default=_now),
    UniqueConstraint("name", "version", name="definitions_name_version"),
)

keys = Table(
    "keys",
    metadata,
    Column("definition", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("execution_id", Uuid, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("expires_at", _moment),
)
Index("keys_expires_at", keys.c.expires_at, postgresql_where=keys.c.expires_at.is_not(None))

executions = Table(
    "executions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("created_at", _moment, nullable=False),
    Column("finished_at", _moment),
    Column("definition_id", Integer, nullable=False),
    Column("started", Integer, nullable=False, server_default=_zero),
    Column("finished", Integer, nullable=False, server_default=_zero),
    Column("failed", Integer, nullable=False, server_default=_zero),
    Column("position", Integer, nullable=False, server_default=_zero),
    Column("reruns", SmallInteger, nullable=False, server_default=_zero),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("status", Text, nullable=False),
    Index("executions_definition", "definition_id", "id"),
)

execution_state = Table(
    "execution_state",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("key", Text),
    Column("input", JSONB, nullable=False),
    Column("parent_id", Uuid),
    Column("parent_name", Text),
    Column("parent_scope", Text),
    Column("parent_run", SmallInteger),
    Column("depth", SmallInteger, nullable=False, server_default=_zero),
)
Index(
    "execution_state_parent",
    execution_state.c.parent_id,
    postgresql_where=execution_state.c.parent_id.is_not(None),
)

steps = Table(
    "steps",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("attend_at", _moment),
    Column("due_at", _moment),
    Column("lease_until", _moment),
    Column("dispatched_at", _moment),
    Column("began_at", _moment),
    Column("ended_at", _moment),
    Column("nonce", BigInteger),
    Column("dispatch", Integer, nullable=False, server_default=_zero),
    Column("sent", Integer, nullable=False, server_default=_zero),
    Column("claimed", Integer, nullable=False, server_default=_zero),
    Column("token", Integer, nullable=False, server_default=_zero),
    Column("ended_no", Integer),
    Column("wanted", Integer),
    Column("live", Integer),
    Column("items", Integer),
    Column("next", Integer),
    Column("run", SmallInteger, primary_key=True, server_default=_zero),
    Column("attempt", SmallInteger, nullable=False, server_default=_zero),
    Column("deaths", SmallInteger, nullable=False, server_default=_zero),
    Column("counter_updated", Boolean, nullable=False, server_default=text("true")),
    Column("message_sent", Boolean, Computed("sent >= dispatch", persisted=True)),
    Column("cancel_asked", Boolean, nullable=False, server_default=text("false")),
    Column("holder", Uuid),
    Column("status", Text, nullable=False),
    Column("name", _c_text, primary_key=True),
    Column("scope", _c_text, primary_key=True, server_default=text("''")),
    Column("queue", Text, nullable=False),
    Column("closed_by", Text),
    Column("output", JSONB(none_as_null=True)),
    Column("error", JSONB(none_as_null=True)),
    Column("progress", JSONB(none_as_null=True)),
    Column("until_at", _moment),
    Column("child", Uuid),
    Column("arrived", Integer),
    Column("total", Integer),
    Column("absorbed_by", Text),
)
Index("steps_attend_at", steps.c.attend_at, postgresql_where=steps.c.attend_at.is_not(None))

payloads = Table(
    "payloads",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("name", _c_text, primary_key=True),
    Column("scope", _c_text, primary_key=True),
    Column("run", SmallInteger, primary_key=True),
    Column("part", Integer, primary_key=True, server_default=_zero),
    Column("kind", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("execution_id", Uuid, nullable=False),
    Column("at", _moment, nullable=False, server_default=text("orchestrator.now()")),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False, server_default=text("''")),
    Column("source", Uuid),
    Column("dedupe_key", Text),
    Column("actor", Text),
    Column("data", JSONB(none_as_null=True)),
    Column("taken_at", _moment),
    Column("taken_by", Text),
    Column("due_at", _moment, nullable=False, server_default=_now),
    UniqueConstraint("execution_id", "dedupe_key", name="events_dedupe"),
)
Index(
    "events_open",
    events.c.execution_id,
    events.c.name,
    events.c.id,
    postgresql_where=events.c.taken_at.is_(None),
)
Index(
    "events_between",
    events.c.due_at,
    events.c.id,
    postgresql_where=text("taken_at IS NULL AND kind <> 'signal'"),
)

journal = Table(
    "journal",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("at", _moment, nullable=False),
    Column("position", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("actor", Text),
    Column("data", JSONB(none_as_null=True)),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("parent", Uuid),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("born_at", Double, nullable=False),
    Column("started_at", _moment, nullable=False),
    Column("beat_at", _moment, nullable=False),
    Column("ended_at", _moment),
    Column("died", Boolean, nullable=False, server_default=text("false")),
    Column("reason", Text),
    Column("queues", ARRAY(Text), nullable=False),
    Column("functions", ARRAY(Text), nullable=False),
    Column("claims", JSONB, nullable=False, server_default=text("'{}'")),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _moment, nullable=False),
    Column("execution_id", Uuid),
    Column("name", Text),
    Column("scope", Text),
    Column("run", SmallInteger),
    Column("reason", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("released_at", _moment),
    Column("queue", Text),
    Column("properties", JSONB(none_as_null=True)),
    Column("body", LargeBinary),
    Column("dropped_at", _moment),
)
_set_aside = quarantine.c
Index(
    "quarantine_open",
    _set_aside.id,
    postgresql_where=and_(_set_aside.released_at.is_(None), _set_aside.dropped_at.is_(None)),
)
Index(
    "quarantine_execution",
    _set_aside.execution_id,
    postgresql_where=_set_aside.execution_id.is_not(None),
)
Index(
    "quarantine_dropped",
    _set_aside.dropped_at,
    postgresql_where=_set_aside.dropped_at.is_not(None),
)

inbox = Table(
    "inbox",
    metadata,
    Column("queue", _c_text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("app_id", _c_text, primary_key=True, server_default=text("''")),
    Column("message_id", _c_text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("taken_at", _moment, nullable=False),
    Column("execution_id", Uuid),
    Column("delivery", Uuid),
    Column("holder", Uuid),
    Index("inbox_taken_at", "taken_at"),
)
Index(
    "inbox_unacknowledged",
    inbox.c.queue,
    inbox.c.content,
    postgresql_where=inbox.c.holder.is_not(None),
)

replies = Table(
    "replies",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("reply_to", _c_text, primary_key=True),
    Column("correlation_id", _c_text, primary_key=True, server_default=text("''")),
    Column("tries", Integer, nullable=False, server_default=_zero),
    Column("attend_at", _moment),
    Column("answered_at", _moment),
    Column("problem", Text),
)
Index("replies_attend_at", replies.c.attend_at, postgresql_where=replies.c.attend_at.is_not(None))

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("execution_id", Uuid),
    Column("detail", JSONB, nullable=False),
    Index("audit_execution", "execution_id"),
)

#: The view of migration 0001: journal lines and ended step runs in one order.
history = Table(
    "history",
    MetaData(schema="orchestrator"),
    Column("execution_id", Uuid),
    Column("position", Integer),
    Column("at", _moment),
    Column("kind", Text),
    Column("name", Text),
    Column("scope", Text),
    Column("run", SmallInteger),
    Column("actor", Text),
    Column("data", JSONB),
)
