"""Scopes say where in the fan-outs a step runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.flow import scope
from tests.flow.simulator import law

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,62}", fullmatch=True)
segments = st.lists(st.tuples(names, st.integers(0, 100_000)), max_size=10)


@law
@given(segments)
def test_a_scope_reads_back_as_it_was_built(segments: list[tuple[str, int]]) -> None:
    text = scope.TOP
    for each, index in segments:
        outer, text = text, scope.child(text, each, index)
        assert (outer, each, index) == scope.parent(text)
        assert scope.inside(text, outer)

    assert tuple(each for each, _ in segments) == scope.path(text)
    assert scope.inside(text, scope.TOP)


def test_a_scope_is_readable_text() -> None:
    inner = scope.child(scope.child("", "folder", 3), "parse", 17)

    assert inner == "folder[3]/parse[17]"
    assert scope.parent("") is None
    assert scope.options_path("store", inner) == "folder/parse/store"
    assert scope.options_path("store", "") == "store"


def test_a_neighbour_with_the_same_beginning_is_not_inside() -> None:
    assert not scope.inside("parse[17]", "parse[1]")
    assert not scope.inside("parse[1]", "parse[1]/store[0]")
    assert scope.inside("parse[1]", "parse[1]")


@pytest.mark.parametrize("text", ["parse", "parse[]", "parse[x]", "[3]", "a[1]/", "a[1]b", "a[-1]"])
def test_text_that_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a scope"):
        scope.parent(text)
