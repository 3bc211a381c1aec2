"""The flow `purchase` and its steps: what workers run, with ORCHESTRATOR_MODULES naming this."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from examples.purchase import outside
from orchestrator import Retry, each, first_of, flow, otherwise, step, this_step, when


@dataclass(frozen=True)
class Line:
    """So many of one article; the price of one is in cents."""

    sku: str
    count: int
    price: int


@dataclass(frozen=True)
class Order:
    """What a customer wants, and the gateway's token of the card that pays for it."""

    id: str
    customer: str
    card: str
    lines: list[Line]


@dataclass(frozen=True)
class Address:
    """Where the parcel goes."""

    name: str
    street: str
    postcode: str


@dataclass(frozen=True)
class Receipt:
    """What the gateway said; the amount is in cents."""

    amount: int
    paid: bool
    key: str


@step(retry=Retry(attempts=5, first="200ms", factor=2, on=(outside.GatewayTimeout,)), timeout="30s")
def charge(order: Order) -> Receipt:
    """Take the money once, however often this is tried: the step's id is the idempotency key."""
    amount = sum(line.count * line.price for line in order.lines)
    key = str(this_step().id)
    return Receipt(amount, outside.charge(order.id, amount, order.card, key=key), key)


@step
def reserve(line: Line, order_id: str) -> str:
    """Have the warehouse set a line aside; return the shelf."""
    return outside.reserve(order_id, line.sku, line.count, key=str(this_step().id))


@step(transactional=True)
def book(tx: Connection, order: Order, receipt: Receipt) -> str:
    """Write the sale into the books: this row and this step's outcome are one commit."""
    tx.execute(
        text("INSERT INTO shop.bookings (order_id, amount, receipt) VALUES (:id, :amount, :key)"),
        {"id": order.id, "amount": receipt.amount, "key": receipt.key},
    )
    return order.id


@step
def ship(order_id: str, address: Address) -> str:
    """Hand the parcel to the carrier; return its number."""
    key = str(this_step().id)
    return outside.ship(order_id, address.name, address.street, address.postcode, key=key)


@step
def refuse(order: Order) -> str:
    """Tell the customer that the card was declined."""
    return f"{order.customer} was told that the card was declined"


@flow(version="1")
def purchase(order: Order, address: Address) -> str:
    """Charge; if paid, reserve each line, book and ship; if not, say so."""
    receipt = charge(order)
    with when(receipt.paid):
        shelves = each(order.lines, reserve, order.id)
        booked = book.options(after=shelves)(order, receipt)
        parcel = ship(booked, address)
    with otherwise():
        refused = refuse(order)
    return first_of(parcel, refused)
