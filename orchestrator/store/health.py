"""What `doctor` asks the database: is it fit to hold what must not be lost, and are rows sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection as CoreConnection
from sqlalchemy import text


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A PostgreSQL server as a client sees it.

    Attributes:
        version: as a number, ``150018``.
        settings: those by which work is lost or kept, as text.
        used: connections that are open now; ``most``: that may be.
        same_session: two transactions of one connection reach the same server process; behind a
            pooler in transaction mode they need not.
    """

    version: int
    shown_version: str
    settings: Mapping[str, str]
    encoding: str
    used: int
    most: int
    is_standby: bool
    same_session: bool
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsound:
    """Rows that contradict each other: what, how many, and one of them."""

    what: str
    count: int
    example: str


_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit", "autovacuum")

_SERVER = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('server_version') AS shown_version,
       pg_encoding_to_char(encoding) AS encoding,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
       current_setting('max_connections')::int AS most,
       pg_is_in_recovery() AS is_standby, clock_timestamp() AS now, pg_backend_pid() AS pid
  FROM pg_database WHERE datname = current_database()
"""

# Each row of an answer is one unsound row; only open executions' rows must agree with counters
# while they move, so both are read in one statement.
_UNSOUND: Mapping[str, str] = {
    "steps without an execution": """
SELECT s.execution_id::text || ' ' || s.name FROM orchestrator.steps s
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.executions e WHERE e.id = s.execution_id)""",
    "payloads without a step": """
SELECT p.execution_id::text || ' ' || p.name FROM orchestrator.payloads p
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.steps s
                    WHERE (s.execution_id, s.name, s.scope, s.run)
                        = (p.execution_id, p.name, p.scope, p.run))""",
    "executions without their input": """
SELECT e.id::text FROM orchestrator.executions e
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.execution_state x WHERE x.execution_id = e.id)""",
    "inputs without an execution": """
SELECT x.execution_id::text FROM orchestrator.execution_state x
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.executions e WHERE e.id = x.execution_id)""",
    "journal lines without an execution": """
SELECT j.execution_id::text FROM orchestrator.journal j
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.executions e WHERE e.id = j.execution_id)""",
    "executions without a definition": """
SELECT e.id::text FROM orchestrator.executions e
 WHERE NOT EXISTS (SELECT 1 FROM orchestrator.definitions d WHERE d.id = e.definition_id)""",
    "keys that are taken by no execution": """
SELECT k.definition || ' ' || k.key FROM orchestrator.keys k
 WHERE k.expires_at IS NULL
   AND NOT EXISTS (SELECT 1 FROM orchestrator.executions e WHERE e.id = k.execution_id)""",
    "steps that are not counted": """
SELECT s.execution_id::text || ' ' || s.name FROM orchestrator.steps s
 WHERE NOT s.counter_updated""",
    "running steps held by nobody": """
SELECT s.execution_id::text || ' ' || s.name FROM orchestrator.steps s
 WHERE s.status = 'running'
   AND NOT EXISTS (SELECT 1 FROM orchestrator.workers w WHERE w.id = s.holder)""",
    "running steps that count on a message of before their claim": """
SELECT s.execution_id::text || ' ' || s.name FROM orchestrator.steps s
 WHERE s.status = 'running' AND s.dispatch > s.claimed AND s.dispatched_at < s.began_at""",
    "executions whose counters contradict their steps": """
SELECT e.id::text FROM orchestrator.executions e
  LEFT JOIN orchestrator.steps s ON s.execution_id = e.id AND s.status <> 'superseded'
 GROUP BY e.id
HAVING e.started <> count(s.name)
    OR e.finished <> count(s.name) FILTER (WHERE s.ended_no IS NOT NULL)
    OR e.failed <> count(s.name) FILTER (WHERE s.status = 'failed')""",
    "open executions that no sweep would find": """
SELECT e.id::text FROM orchestrator.executions e
 WHERE e.finished_at IS NULL AND NOT e.paused
   AND NOT EXISTS (SELECT 1 FROM orchestrator.steps s
                    WHERE s.execution_id = e.id AND s.attend_at IS NOT NULL)""",
}


def server(connection: CoreConnection) -> ServerFacts:
    """Return what the server says of itself."""
    row = connection.execute(text(_SERVER)).mappings().one()
    settings = {
        name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in _SETTINGS
    }
    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return ServerFacts(
        version=row["version"],
        shown_version=row["shown_version"],
        settings=settings,
        encoding=row["encoding"],
        used=row["used"],
        most=row["most"],
        is_standby=row["is_standby"],
        same_session=pid == row["pid"],
        now=row["now"],
    )


def unsound(connection: CoreConnection) -> list[Unsound]:
    """Return what contradicts itself in the rows; reads all of them, so it takes its time."""
    found = []
    for what, query in _UNSOUND.items():
        count, example = connection.execute(
            text(f"SELECT count(*), min(of_it) FROM ({query}) AS u(of_it)")  # noqa: S608 # ours
        ).one()
        if count:
            found.append(Unsound(what=what, count=count, example=example))
    return found
