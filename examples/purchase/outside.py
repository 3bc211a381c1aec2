"""The world outside: a payment gateway, a warehouse and a carrier, as one file that remembers.

Each behaves as its kind does. A request carries an idempotency key, and a key that is known gets
the answer that it got: nobody pays twice, no shelf is emptied twice, however often a worker dies
between asking and noting the answer. ``PURCHASE_WORLD`` names the file; workers share it.
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TABLES = """
CREATE TABLE IF NOT EXISTS charges (key TEXT PRIMARY KEY, order_id TEXT, amount INTEGER,
                                    paid INTEGER, requests INTEGER DEFAULT 0);
CREATE TABLE IF NOT EXISTS reservations (key TEXT PRIMARY KEY, order_id TEXT, shelf TEXT);
CREATE TABLE IF NOT EXISTS parcels (key TEXT PRIMARY KEY, order_id TEXT, address TEXT);
"""
_POSTCODE = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]? [0-9][A-Z]{2}")


class GatewayTimeout(ConnectionError):
    """The gateway did not answer: nobody knows whether it took the money."""


class AddressUnknown(LookupError):
    """The carrier does not find the address."""


@dataclass(frozen=True)
class Charge:
    """A line of the gateway's ledger: one charge, and how often it was asked for."""

    order_id: str
    amount: int
    paid: bool
    requests: int


def charge(order_id: str, amount: int, card: str, *, key: str) -> bool:
    """Take money, in cents; return whether the card was accepted.

    Raises:
        GatewayTimeout: the money was taken, and the answer was lost.
    """
    with _world() as world:
        paid = card != "tok-declined"
        world.execute(
            "INSERT OR IGNORE INTO charges (key, order_id, amount, paid) VALUES (?, ?, ?, ?)",
            (key, order_id, amount, paid),
        )
        world.execute("UPDATE charges SET requests = requests + 1 WHERE key = ?", (key,))
        row = world.execute("SELECT requests FROM charges WHERE key = ?", (key,)).fetchone()
    if card == "tok-lost-answer" and row[0] == 1:
        raise GatewayTimeout("the gateway closed the connection after 30 s without an answer")
    return paid


def reserve(order_id: str, sku: str, count: int, *, key: str) -> str:
    """Take goods off a shelf; return which."""
    shelf = f"{count} x {sku} from shelf {sum(sku.encode()) % 40 + 1}"
    with _world() as world:
        world.execute("INSERT OR IGNORE INTO reservations VALUES (?, ?, ?)", (key, order_id, shelf))
    return shelf


def ship(order_id: str, name: str, street: str, postcode: str, *, key: str) -> str:
    """Hand a parcel to the carrier; return its number.

    Raises:
        AddressUnknown: there is no such postcode.
    """
    if not _POSTCODE.fullmatch(postcode):
        raise AddressUnknown(f"there is no postcode {postcode!r}: the parcel cannot be sent")
    with _world() as world:
        address = f"{name}, {street}, {postcode}"
        world.execute("INSERT OR IGNORE INTO parcels VALUES (?, ?, ?)", (key, order_id, address))
        row = world.execute("SELECT rowid FROM parcels WHERE key = ?", (key,)).fetchone()
    return f"parcel {1000 + row[0]}"


def charges(order_id: str) -> list[Charge]:
    """Return the gateway's ledger for an order."""
    with _world() as world:
        rows = world.execute(
            "SELECT order_id, amount, paid, requests FROM charges WHERE order_id = ?", (order_id,)
        ).fetchall()
    return [Charge(order_id, amount, bool(paid), asked) for order_id, amount, paid, asked in rows]


def reservations(order_id: str) -> list[str]:
    """Return what the warehouse has set aside for an order."""
    with _world() as world:
        rows = world.execute(
            "SELECT shelf FROM reservations WHERE order_id = ? ORDER BY rowid", (order_id,)
        ).fetchall()
    return [shelf for (shelf,) in rows]


def parcels(order_id: str) -> list[str]:
    """Return where the carrier takes what it has of an order."""
    with _world() as world:
        rows = world.execute(
            "SELECT address FROM parcels WHERE order_id = ?", (order_id,)
        ).fetchall()
    return [address for (address,) in rows]


@contextmanager
def _world() -> Iterator[sqlite3.Connection]:
    """Open the file, and commit what was done in it."""
    path = Path(os.environ.get("PURCHASE_WORLD", "purchase-world.sqlite"))
    world = sqlite3.connect(path, timeout=10)
    try:
        world.executescript(_TABLES)
        with world:
            world.execute("BEGIN IMMEDIATE")
            yield world
    finally:
        world.close()
