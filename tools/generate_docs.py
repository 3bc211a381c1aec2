"""Write the generated parts of docs/: diagrams from the lifecycle, the settings, the public names.

python tools/generate_docs.py          # a test fails when what it would write is not there
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import Enum, StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator.lifecycle import EXECUTION_MOVES, STEP_MOVES, TERMINAL_EXECUTION, StepStatus
from orchestrator.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def diagram(moves: Mapping[Any, frozenset[Any]], first: StrEnum, last: frozenset[Any]) -> str:
    """Return a Mermaid state diagram of legal moves."""
    lines = [f"    [*] --> {first}"]
    for old, news in moves.items():
        lines += [f"    {old} --> {new}" for new in sorted(news) if new != old]
    lines += [f"    {end} --> [*]" for end in sorted(last)]
    return "```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def settings() -> str:
    """Return the table of settings."""
    rows = ["| setting | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        rows.append(f"| `{name}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows) + "\n"


def api(group: str) -> str:
    """Return one group of the names that a program imports from `orchestrator`."""
    return "".join(f"### {name}\n\n{_described(name)}\n" for name in _groups()[group])


def _groups() -> Mapping[str, list[str]]:
    """The names of ``__all__`` as the comments there group them; the first are for writing."""
    source = inspect.getsource(orchestrator)
    listed = source[source.index("__all__ = [") :].splitlines()[1:-1]
    groups: dict[str, list[str]] = {"writing": []}
    for line in map(str.strip, listed):
        if line.startswith("#"):
            groups[line.removeprefix("# ")] = []
        else:
            groups[list(groups)[-1]].append(line.strip('",'))
    return groups


def _described(name: str) -> str:
    thing = getattr(orchestrator, name)
    if not inspect.isclass(thing):
        return f"{_call(name, thing)}\n\n{_sentences(thing)}\n"
    if issubclass(thing, Exception):
        bases = [base.__name__ for base in thing.__bases__ if base.__name__ in orchestrator.__all__]
        return f"{_sentences(thing)}{''.join(f' Base: `{base}`.' for base in bases)}\n"
    if issubclass(thing, Enum):
        return f"{_sentences(thing)} {', '.join(f'`{member.value}`' for member in thing)}.\n"
    made = f"{_call(name, thing)}\n\n" if name in _MADE_BY_PROGRAMS else ""
    parts = [*_attributes(thing), *(_methods(thing) if name in _USED_BY_PROGRAMS else ())]
    return f"{made}{_sentences(thing)}\n\n" + "".join(f"- {part}\n" for part in parts)


#: Classes of which programs make instances, and those whose methods they call.
_MADE_BY_PROGRAMS = {"Retry", "Trigger"}
_USED_BY_PROGRAMS = {"ExecutionView", "Flow", "Handle", "Orchestrator", "Step", "ThisStep"}
#: Methods that only the engine calls.
_OF_THE_ENGINE = {"annotation", "as_defined", "ask_to_stop", "name", "settings", "used"}


def _methods(kind: type) -> Iterator[str]:
    """The methods and properties of a class and of its bases here."""
    seen = set(_OF_THE_ENGINE)
    for base in kind.__mro__:
        if not base.__module__.startswith("orchestrator"):
            continue
        for name, member in vars(base).items():
            shown = inspect.isfunction(member)
            shown = shown or isinstance(member, property | staticmethod | classmethod)
            if shown and not name.startswith("_") and name not in seen:
                seen.add(name)
                function = getattr(member, "__func__", member)
                call = "" if isinstance(member, property) else _signature(function)
                yield f"`{name}{call}`: {_sentences(member)}"


def _call(name: str, thing: Any) -> str:
    return f"```py\n{name}{_signature(thing)}\n```"


def _signature(thing: Any) -> str:
    """Return a signature; where the function itself takes any options, that of an overload."""
    shown = inspect.signature(thing)
    if any(one.name == "options" for one in shown.parameters.values()):
        overloads = map(inspect.signature, typing.get_overloads(thing))
        shown = max(overloads, key=lambda one: len(one.parameters))
    words: list[str] = []
    kinds = {one.kind for one in shown.parameters.values()}
    for one in shown.parameters.values():
        if one.name in {"self", "cls"}:
            continue
        if one.kind is one.KEYWORD_ONLY and not {"*", one.VAR_POSITIONAL} & {*words, *kinds}:
            words.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(f"{stars}{one.name}{_typed(one)}")
    result = "" if inspect.isclass(thing) else _annotation(shown.return_annotation)
    return f"({', '.join(words)})" + (f" -> {result}" if result else "")


def _typed(parameter: inspect.Parameter) -> str:
    annotation = _annotation(parameter.annotation)
    typed = f": {annotation}" if annotation else ""
    if parameter.default is parameter.empty:
        return typed
    value = parameter.default
    shown = "Any" if value is Any else repr(value)
    if isinstance(value, tuple) and any(map(inspect.isclass, value)):
        shown = f"({', '.join(one.__name__ for one in value)},)"
    if not re.fullmatch(r"[\w.'\" (),-]*", shown):
        shown = "..."
    return f"{typed} = {shown}" if typed else f"={shown}"


def _annotation(annotation: Any) -> str:
    """Return an annotation as it is written, nothing where it says nothing to a reader."""
    if not isinstance(annotation, str) or annotation in {"Any", "object", "P.args", "P.kwargs"}:
        return ""
    if annotation.startswith("Authored["):
        return "Step | Flow"
    return annotation.replace("Literal[False]", "bool")


def _sentences(thing: Any) -> str:
    """Return the first paragraph of a docstring."""
    if not (inspect.isroutine(thing) or inspect.isclass(thing) or isinstance(thing, property)):
        thing = type(thing).__call__
    text = inspect.getdoc(getattr(thing, "__func__", thing)) or ""
    return " ".join(text.partition("\n\n")[0].replace("``", "`").split())


def _attributes(kind: type) -> Iterator[str]:
    found = re.search(r"^Attributes:\n((?:    .*\n?)+)", inspect.getdoc(kind) or "", re.MULTILINE)
    for entry in re.split(r"\n(?=\w)", inspect.cleandoc(found[1])) if found else ():
        name, _, said = " ".join(entry.split()).partition(": ")
        yield f"`{name}`: {said.replace('``', '`')}"


PARTS: Mapping[str, Callable[[], str]] = {
    "executions": lambda: diagram(EXECUTION_MOVES, next(iter(EXECUTION_MOVES)), TERMINAL_EXECUTION),
    "steps": lambda: diagram(STEP_MOVES, StepStatus.READY, frozenset({StepStatus.SUPERSEDED})),
    "settings": settings,
    **{
        f"api_{group}": partial(api, group) for group in ("writing", "running", "reading", "errors")
    },
}


def generated(text: str) -> str:
    """Return a document with its generated parts made anew."""
    return _PART.sub(lambda part: part[1] + PARTS[part[2]]() + part[3], text)


def _shown(default: Any) -> str:
    if isinstance(default, timedelta):
        seconds = default.total_seconds()
        for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
            if seconds >= size and not seconds % size:
                return f"{seconds / size:g} {unit}"
        return f"{seconds:g} s"
    if isinstance(default, tuple):
        return "none" if not default else ", ".join(default)
    return f"`{default}`" if isinstance(default, str) else str(default)


if __name__ == "__main__":
    for path in DOCS.glob("*.md"):
        path.write_text(generated(path.read_text("utf-8")), "utf-8")
