"""A shop for the operators' loop with real processes."""

from orchestrator import Retry, flow, step, this_step


@step
def charge(order: str) -> str:
    return f"{order} by {this_step().id}"


@step(retry=Retry(attempts=1))
def reserve(shelf: str) -> str:
    if shelf == "empty":
        raise LookupError("the shelf is empty")
    return shelf


@flow
def purchase(order: str, shelf: str) -> list[str]:
    paid = charge(order)
    return [paid, reserve.options(after=paid)(shelf)]
