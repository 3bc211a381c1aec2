"""The six flows that people write first, as short as they read well.

An order, an index of files, a fan-out in a fan-out, a branch on a result, a route for errors, and
the first of two. Each is recorded when this module is imported; ``first_flows.saga.mermaid()``
draws one.
"""

from dataclasses import dataclass
from pathlib import Path

from orchestrator import (
    Retry,
    StepError,
    build,
    each,
    first_of,
    flow,
    otherwise,
    signal,
    sleep,
    step,
    this_step,
    when,
)


@dataclass(frozen=True)
class Line:
    """So many of one article."""

    sku: str
    count: int


@dataclass(frozen=True)
class Order:
    """What a customer wants."""

    id: str
    customer: str
    total: int
    lines: list[Line]


@dataclass(frozen=True)
class Receipt:
    """That money was taken, in cents."""

    order: str
    amount: int
    late: bool = False


@dataclass(frozen=True)
class Parcel:
    """What is sent, and the receipt that goes with it."""

    order: Order
    receipt: Receipt
    shelves: list[str]


@dataclass(frozen=True)
class Approval:
    """What the manager answered."""

    ok: bool
    by: str


# 1. An order: charge, reserve each line, pack, ship.


@step(retry=Retry(attempts=5, first="1s", factor=2, on=(ConnectionError,)), timeout="30s")
def charge(order: Order) -> Receipt:
    """Take the money once, however often this is tried: the step's id is the idempotency key."""
    print(f"charging {order.total} with key {this_step().id}")
    return Receipt(order.id, order.total)


@step
def reserve(line: Line, order_id: str) -> str:
    """Return the shelf that a line is taken from."""
    return f"{order_id}: {line.count} x {line.sku}"


@step
def ship(parcel: Parcel) -> str:
    """Hand the parcel over; return its tracking number."""
    return f"{parcel.order.id}/{len(parcel.shelves)}"


@flow
def order_saga(order: Order) -> str:
    """Charge and reserve at once, ship when both are done."""
    receipt = charge(order)
    shelves = each(order.lines, reserve, order.id)
    return ship(build(Parcel, order=order, receipt=receipt, shelves=shelves))


# 2. An index of files: list, read each, sum up.


@step
def list_files(folder: str) -> list[str]:
    """Return the names of the text files below a folder."""
    return sorted(str(path) for path in Path(folder).rglob("*.txt"))


@step
def count_words(path: str) -> int:
    """Count the words of one file."""
    return len(Path(path).read_text("utf-8").split())


@step
def add(numbers: list[int | None]) -> int:
    """Sum up what could be read."""
    return sum(number or 0 for number in numbers)


@flow
def file_index(folder: str) -> int:
    """Count the words below a folder; one file in ten may be unreadable."""
    counts = each(list_files(folder), count_words.options(window=50, accept=0.9))
    return add(counts)


# 3. A fan-out in a fan-out: a flow per folder, a step per file of it.


@step
def largest(totals: list[int]) -> int:
    """Return the largest of some numbers."""
    return max(totals, default=0)


@flow
def nested_fan_out(folders: list[str]) -> int:
    """Index many folders at once, ten of them at a time."""
    return largest(each(folders, file_index.options(window=10)))


# 4. A branch on a result: large orders wait for the manager.


@step
def confirm(order: Order, approved_by: str | None = None) -> str:
    """Tell the customer that the order is on its way."""
    return f"{order.id} confirmed" + (f" by {approved_by}" if approved_by else "")


@step
def decline(order: Order) -> str:
    """Tell the customer that it is not."""
    return f"{order.id} declined"


@flow
def branch_on_result(order: Order) -> str:
    """Confirm small orders at once and large ones when the manager agrees within three days."""
    with when(order.total > 1000):
        approval = signal("manager_ok", Approval, within="3d", default=Approval(ok=False, by=""))
    with when((order.total <= 1000) | approval.ok):
        confirmed = confirm(order, approval.by)
    with otherwise():
        declined = decline(order)
    return first_of(confirmed, declined)


# 5. An error route: what cannot be charged now is billed.


@step
def bill(error: StepError) -> Receipt:
    """Take the place of a charge that failed for good."""
    order: Order = error.input["order"]
    print(f"{error.step} failed {error.attempts} times: {error.message}")
    return Receipt(order.id, order.total, late=True)


@step
def thank(receipt: Receipt) -> str:
    """Write to the customer."""
    return f"{receipt.order}: pay later" if receipt.late else f"{receipt.order}: paid"


@flow
def error_route(order: Order) -> str:
    """Charge; if that fails for good, bill instead; thank in both cases."""
    receipt = charge.options(on_error=bill)(order)
    return thank(receipt)


# 6. The first of two: an answer, or the reminder that it did not come.


@step
def ask(customer: str) -> str:
    """Ask the customer whether the order may come in two parcels; return the letter's number."""
    return f"letter to {customer}"


@step
def note(answer: str) -> str:
    """Keep what the customer said."""
    return answer


@step
def assume(customer: str) -> str:
    """Go on without an answer."""
    return f"{customer} did not say"


@flow
def first_of_two(customer: str) -> str:
    """Wait for an answer, but not longer than two days."""
    letter = ask(customer)
    answered = note(signal("answer", str, after=letter))
    silent = assume.options(after=sleep("2d", after=letter))(customer)
    return first_of(answered, silent)
