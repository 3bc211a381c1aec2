"""Stored definitions: graphs as data, one row per name and version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.store.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDefinition:
    """A row of `definitions`."""

    id: int
    name: str
    version: str
    fingerprint: str
    graph: Mapping[str, Any]
    options: Mapping[str, Any]


def register(
    connection: Connection,
    *,
    name: str,
    version: str,
    fingerprint: str,
    graph: Mapping[str, Any],
    options: Mapping[str, Any],
) -> StoredDefinition:
    """Store a definition, or replace the options of the same one; return the row that is stored.

    The caller compares the fingerprint of the answer with its own: another one was stored first
    under this version.
    """
    connection.execute(
        """
        INSERT INTO orchestrator.definitions (name, version, fingerprint, graph, options)
        VALUES (%s, %s, %s, %s::jsonb, %s::jsonb)
        ON CONFLICT ON CONSTRAINT definitions_name_version DO UPDATE SET options = excluded.options
         WHERE definitions.fingerprint = excluded.fingerprint
           AND definitions.options <> excluded.options
        """,
        (name, version, fingerprint, json.dumps(graph), json.dumps(options)),
    )
    row = connection.execute(
        "SELECT id, name, version, fingerprint, graph, options FROM orchestrator.definitions"
        " WHERE name = %s AND version = %s",
        (name, version),
    ).fetchone()
    assert row is not None  # noqa: S101  # inserted or found by the statement before
    return _stored(row)


def find(connection: Connection, definition_id: int) -> StoredDefinition | None:
    """Return the definition with this id."""
    row = connection.execute(
        "SELECT id, name, version, fingerprint, graph, options FROM orchestrator.definitions"
        " WHERE id = %s",
        (definition_id,),
    ).fetchone()
    return None if row is None else _stored(row)


def find_by_name(connection: Connection, name: str, version: str | None) -> int | None:
    """Return the id of a definition, by default of the newest version that is active."""
    row = connection.execute(
        "SELECT id FROM orchestrator.definitions WHERE name = %s"
        " AND CASE WHEN %s::text IS NULL THEN active ELSE version = %s END"
        " ORDER BY registered_at DESC, id DESC LIMIT 1",
        (name, version, version),
    ).fetchone()
    return None if row is None else row[0]


def versions(connection: Connection, name: str) -> list[str]:
    """Return the stored versions of a flow, newest first."""
    rows = connection.execute(
        "SELECT version FROM orchestrator.definitions WHERE name = %s"
        " ORDER BY registered_at DESC, id DESC",
        (name,),
    ).fetchall()
    return [row[0] for row in rows]


def _stored(row: tuple[Any, ...]) -> StoredDefinition:
    return StoredDefinition(
        id=row[0], name=row[1], version=row[2], fingerprint=row[3], graph=row[4], options=row[5]
    )
