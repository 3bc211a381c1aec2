"""Which values are there for sure: a step under a condition may be skipped, and then has none.

A value may be used without doubt where the conditions it was recorded under hold as well. They hold
if they stand around its use, or follow from what stands there: a comparison that is true has its
values, and a step that has run had its conditions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator import codec
from orchestrator.flow import shapes
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
    DictOf,
    Field,
    ListOf,
    Literal,
    Missing,
    Not,
    Output,
)
from orchestrator.flow.bindings_json import write_binding


def doubtful(
    binding: Binding,
    annotation: object,
    given: Iterable[Binding],
    conditions: Mapping[str, tuple[Binding, ...]],
) -> Iterator[tuple[str, Binding]]:
    """Yield the steps that may have been skipped though a value of them is needed here.

    Each comes with the first of its conditions that may be false. ``annotation`` is that of the
    place where the binding is used, ``given`` the conditions around it, ``conditions`` those of
    each step.
    """
    known = _known(given, conditions)
    for node in needed(binding, annotation):
        for condition in conditions.get(node, ()):
            if _text(condition) not in known:
                yield node, condition
                break


def needed(binding: Binding, annotation: object) -> Iterator[str]:
    """Yield the steps whose values stand where the annotation does not admit None."""
    match binding:
        case Output() | Field():
            node = _node(binding)
            if node is not None and not shapes.admits_none(annotation):
                yield node
        case ListOf(items):
            for item in items:
                yield from needed(item, shapes.element(annotation))
        case DictOf(entries) | Build(_, entries):
            for name, entry in entries:
                yield from needed(entry, shapes.entry(annotation, name))
        case _:
            pass


def _known(
    given: Iterable[Binding], conditions: Mapping[str, tuple[Binding, ...]]
) -> frozenset[str]:
    """All conditions that hold where the given ones do, as text."""
    found: set[str] = set()
    waiting = list(given)
    while waiting:
        condition = waiting.pop()
        text = _text(condition)
        if text in found:
            continue
        found.add(text)
        match condition:
            case AllOf(parts):
                waiting.extend(parts)
            case Not(AnyOf(parts)):
                waiting.extend(Not(part) for part in parts)
            case Not(Not(part)):
                waiting.append(part)
            case _:
                pass
        for node in _present(condition):
            waiting.extend(conditions.get(node, ()))
    return frozenset(found)


def _present(condition: Binding) -> frozenset[str]:
    """The steps that have run where a condition is true."""
    match condition:
        case Output() | Field():
            return _nodes(condition)
        case Compare("==", part, Literal(None)) | Compare("==", Literal(None), part):
            return frozenset()
        case Compare(_, left, right):
            return _nodes(left) | _nodes(right)
        case AllOf(parts):
            return frozenset().union(*map(_present, parts))
        case AnyOf(parts):
            return frozenset.intersection(*map(_present, parts)) if parts else frozenset()
        case Not(part):
            return _present_unless(part)
        case _:
            return frozenset()


def _present_unless(condition: Binding) -> frozenset[str]:
    """The steps that have run where a condition is false."""
    match condition:
        case Missing(of):
            return _nodes(of)
        case Compare("==", part, Literal(None)) | Compare("==", Literal(None), part):
            return _nodes(part)
        case AnyOf(parts):
            return frozenset().union(*map(_present_unless, parts))
        case AllOf(parts):
            found = [_present_unless(part) for part in parts]
            return frozenset.intersection(*found) if found else frozenset()
        case Not(part):
            return _present(part)
        case _:
            return frozenset()


def _nodes(binding: Binding) -> frozenset[str]:
    node = _node(binding)
    return frozenset() if node is None else frozenset({node})


def _node(binding: Binding) -> str | None:
    """The step whose value, or a field of it, a binding is."""
    while isinstance(binding, Field):
        binding = binding.of
    return binding.node if isinstance(binding, Output) else None


def _text(condition: Binding) -> str:
    # As text, because True == 1 and literals need not be hashable.
    return codec.canonical(write_binding(condition))
