"""What type checkers must refuse: each line says with which code. Checked by mypy, never run."""

from orchestrator.flow.authoring import each, flow, step


@step
def parse(path: str, depth: int) -> int:
    return len(path) + depth


@step
async def fetch(url: str) -> bytes:
    return url.encode()


@flow
def folder(path: str) -> list[int]:
    return [parse(path, 1)]


def bare(path: str) -> int:
    return len(path)


@flow
def misused(paths: list[str], numbers: list[int]) -> None:
    parse("a")  # mypy: call-arg
    parse("a", "deep")  # mypy: arg-type
    parse("a", 1, after=paths)  # mypy: call-arg
    parse(paths, 1)  # mypy: arg-type
    parse(fetch("a"), 1)  # mypy: arg-type
    each(numbers, parse, 1)  # mypy: arg-type
    each(paths, parse)  # mypy: call-arg
    each(paths, parse, "deep")  # mypy: arg-type
    each(paths, parse, depht=1)  # mypy: call-arg
    each(numbers, folder)  # mypy: arg-type
    each(paths, bare)  # mypy: arg-type
    text: str = parse("a", 1)  # mypy: assignment
    words: list[str] = each(paths, parse, 1)  # mypy: arg-type
    parse.options(widow=1)  # mypy: call-arg
    step(timeout="1s", after=text)(bare)  # mypy: call-overload
    flow(version=3)(misused.body)  # mypy: call-overload
    print(words)
