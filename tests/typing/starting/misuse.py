"""What type checkers must refuse of starts: each line says with which codes. Never run."""

from orchestrator import Handle, Orchestrator
from tests.typing.starting.accepted import Purchase, checkout, count, nothing, pair


def starts(flows: Orchestrator, p: Purchase) -> None:
    flows.start(checkout)  # refused: arg-type, reportCallIssue
    flows.start(checkout, 1)  # refused: misc, reportCallIssue, reportArgumentType
    flows.start(checkout, 1, key="k")  # refused: misc, reportCallIssue
    flows.start(checkout, p, p)  # refused: arg-type, reportCallIssue
    flows.start(checkout, p, key=1)  # refused: call-arg, reportCallIssue
    flows.start(checkout, p, keys="x")  # refused: call-arg, reportCallIssue
    flows.start(checkout, p, session="mine")  # refused: call-arg, reportCallIssue
    flows.start(checkout, purchase=1)  # refused: call-overload, reportCallIssue, reportArgumentType
    flows.start(checkout, purchases=p)  # refused: call-overload, reportCallIssue
    flows.start(nothing, 1)  # refused: arg-type, reportCallIssue
    flows.start(pair, "a", "b", key="x")  # refused: misc, reportCallIssue
    flows.start(pair, 1, 2)  # refused: misc, reportCallIssue, reportArgumentType
    flows.start(count, 1)  # refused: call-overload, reportCallIssue, reportArgumentType
    flows.start(print, p)  # refused: call-overload, reportCallIssue, reportArgumentType
    flows.start_many(checkout, [1])  # refused: misc, reportCallIssue, reportArgumentType
    flows.start_many(checkout, p)  # refused: call-overload, reportCallIssue, reportArgumentType
    flows.start_many(nothing, [p])  # refused: arg-type, reportCallIssue, reportArgumentType
    handle: Handle[int] = flows.start(checkout, p)  # refused: arg-type, reportAssignmentType
    number: int = flows.wait(flows.start(checkout, p))  # refused: assignment, reportAssignmentType
    flows.cancel(1)  # refused: arg-type, reportArgumentType
    print(handle, number)
