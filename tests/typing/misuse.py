"""What type checkers must refuse: each line says with which codes. Checked, never run."""

from dataclasses import dataclass

from sqlalchemy import Connection

from orchestrator import (
    StepError,
    build,
    each,
    first_of,
    flow,
    signal,
    sleep,
    step,
    when,
)


@dataclass
class Box:
    width: int


@step
def parse(path: str, depth: int) -> int:
    return len(path) + depth


@step
async def fetch(url: str) -> bytes:
    return url.encode()


@step(transactional=True)
def book(tx: Connection, path: str) -> str:
    return str(tx) + path


@step
def sorry(error: StepError) -> str:
    return error.message


@flow
def folder(path: str) -> list[int]:
    return [parse(path, 1)]


def bare(path: str) -> int:
    return len(path)


@flow
def misused(paths: list[str], numbers: list[int], box: Box) -> None:
    parse("a")  # refused: call-arg, reportCallIssue
    parse("a", "deep")  # refused: arg-type, reportArgumentType
    parse("a", 1, after=paths)  # refused: call-arg, reportCallIssue
    parse(paths, 1)  # refused: arg-type, reportArgumentType
    parse(fetch("a"), 1)  # refused: arg-type, reportArgumentType
    each(numbers, parse, 1)  # refused: arg-type, reportArgumentType
    each(paths, parse)  # refused: call-arg, reportCallIssue
    each(paths, parse, "deep")  # refused: arg-type, reportArgumentType
    each(paths, parse, depht=1)  # refused: call-arg, reportCallIssue
    each(numbers, folder)  # refused: arg-type, reportArgumentType
    each(paths, bare)  # refused: arg-type, reportCallIssue, reportArgumentType
    text: str = parse("a", 1)  # refused: assignment, reportAssignmentType
    words: list[str] = each(paths, parse, 1)  # refused: arg-type, reportAssignmentType
    parse.options(widow=1)  # refused: call-overload, reportCallIssue
    step(timeout="1s", after=text)(bare)  # refused: call-overload, reportCallIssue
    flow(version=3)(misused.body)  # refused: call-overload, reportArgumentType
    print(words)
    parse.options(on_error=sorry)  # refused: arg-type, reportArgumentType
    parse.options(on_error=parse)  # refused: arg-type, reportArgumentType
    parse.options(accept="most")  # refused: call-overload, reportCallIssue, reportArgumentType
    book(None, "a")  # refused: call-arg, arg-type, reportCallIssue
    book(1)  # refused: arg-type, reportArgumentType
    folder(1)  # refused: arg-type, reportArgumentType
    build(Box, wide=1)  # refused: call-arg, reportCallIssue
    build(Box, width="a")  # refused: arg-type, reportArgumentType
    parse(build(Box, width=1), 1)  # refused: arg-type, reportArgumentType
    assert box.widht  # refused: attr-defined, reportUnknownMemberType, reportAttributeAccessIssue
    text = first_of(fetch("a"), "b")  # refused: assignment, reportAssignmentType
    first_of(fetch("a"), fetch("b"), others="stop")  # refused: call-overload, reportArgumentType
    parse("a", signal("n", int, within="1h", default=None))  # refused: arg-type, reportArgumentType
    numbers = each(numbers, square.options(accept=0.5))  # refused: arg-type, reportAssignmentType
    parse("a", sleep("3d"))  # refused: arg-type, reportArgumentType
    sleep(until="tomorrow")  # refused: arg-type, reportArgumentType
    with when(box.width > "a"):  # refused: operator, reportOperatorIssue, reportUnknownArgumentType
        pass


@step
def square(number: int) -> int:
    return number * number
