"""Laws of bindings and expressions: they survive JSON, jsonb's reordering, and being written."""

import json
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from orchestrator import codec
from orchestrator.flow import wording
from orchestrator.flow.bindings import (
    AllOf,
    AnyOf,
    Binding,
    Build,
    Compare,
    Comparison,
    DictOf,
    Failure,
    Field,
    ListOf,
    Literal,
    Missing,
    Not,
    Output,
    Param,
    leaves,
    outputs,
    parts,
)
from orchestrator.flow.bindings_json import read_binding, write_binding
from tests.flow.simulator import law

names = st.text("abcxyz_$", min_size=1, max_size=4)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | names
json_values = st.recursive(scalars, lambda x: st.lists(x) | st.dictionaries(names, x), max_leaves=4)
literals = st.builds(Literal, json_values.map(lambda value: value if value != -0.0 else 0))
references = st.builds(Param, names) | st.builds(Output, names) | st.builds(Failure, names)


def named(inner: st.SearchStrategy[Binding]) -> st.SearchStrategy[tuple[tuple[str, Binding], ...]]:
    return st.dictionaries(names, inner, max_size=3).map(lambda pairs: tuple(pairs.items()))


def larger(inner: st.SearchStrategy[Binding]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(ListOf, several),
        st.builds(AllOf, several),
        st.builds(AnyOf, several),
        st.builds(DictOf, named(inner)),
        st.builds(Build, names, named(inner)),
        st.builds(Field, inner, names | st.integers(-3, 3)),
        st.builds(Compare, st.sampled_from(get_args(Comparison)), inner, inner),
        st.builds(Not, inner),
        st.builds(Missing, inner),
    )


bindings: st.SearchStrategy[Any] = st.recursive(references | literals, larger, max_leaves=8)


@law
@given(bindings)
def test_a_binding_reads_back_from_its_json(binding: Binding) -> None:
    text = codec.canonical(write_binding(binding))

    read = read_binding(json.loads(text), "here")

    assert read == binding
    assert codec.canonical(write_binding(read)) == text


@law
@given(bindings, bindings)
def test_two_bindings_that_are_written_alike_are_equal(one: Binding, two: Binding) -> None:
    alike = codec.canonical(write_binding(one)) == codec.canonical(write_binding(two))

    assert not alike or one == two


@law
@given(bindings)
def test_the_leaves_of_a_binding_are_those_of_its_parts(binding: Binding) -> None:
    inner = parts(binding)

    assert list(leaves(binding)) == [leaf for part in inner for leaf in leaves(part)] or not inner
    assert set(outputs(binding)) == {
        leaf.node for leaf in leaves(binding) if isinstance(leaf, Output)
    }


@law
@given(bindings)
def test_every_binding_can_be_told_to_a_reader(binding: Binding) -> None:
    told = wording.text(binding)

    assert all(leaf.name in told for leaf in leaves(binding) if isinstance(leaf, Param))
    assert all(node in told for node in outputs(binding))
