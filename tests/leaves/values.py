"""Values of every kind that the codec keeps, as hypothesis makes them."""

import dataclasses
import enum
import string
from datetime import UTC
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = "#f00"
    GREEN = "#0f0"


class Grade(enum.StrEnum):
    A = enum.auto()
    B = enum.auto()


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: int
    y: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    number: int
    lines: list[Point]
    total: Decimal = dataclasses.field(default=Decimal(0))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=20),
    st.binary(max_size=20),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.dates(),
    st.times(timezones=st.none() | st.just(UTC)),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.timedeltas(),
    st.sampled_from([Colour.RED, Grade.B, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(Path, st.text(string.ascii_letters + "/.", max_size=20)),
)
keys = st.one_of(st.text(max_size=5), st.sampled_from(["$date", "$type", "$", "$dict"]), scalars)
hashables = st.recursive(
    scalars,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(Point, inner, inner),
        st.builds(Order, number=inner, lines=inner),
    ),
    max_leaves=15,
)
