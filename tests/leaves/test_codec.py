"""The codec: every supported value comes back equal, of the same type, and readable on the way."""

import collections
import contextlib
import dataclasses
import json
import math
import pickle
import socket
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import codec
from orchestrator.errors import InvalidInput
from tests.leaves.values import Colour, Order, Point, Rights, values

BERLIN = ZoneInfo("Europe/Berlin")
HERE = __name__
VALUES = Order.__module__
T = TypeVar("T")


@dataclasses.dataclass
class Area:
    width: int
    height: int
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.size = self.width * self.height


class Customer(pydantic.BaseModel):
    name: str = pydantic.Field(alias="customerName")
    since: date
    order: Order | None = None

    model_config = pydantic.ConfigDict(validate_by_name=True)


class Names(pydantic.RootModel[list[str]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    content: T


@dataclasses.dataclass
class WithInitVar:
    seed: dataclasses.InitVar[int]


class Outer:
    @dataclasses.dataclass
    class Inner:
        n: int


ORDER = Order(number=7, lines=[Point(1, (2,)), Point(3)], total=Decimal("9.90"))


def types(value: Any) -> Any:
    """The types in a value, for comparing what ``==`` does not: True and 1, 1 and 1.0."""
    match value:
        case dict():
            return dict, sorted(repr((types(k), types(v))) for k, v in value.items())
        case set() | frozenset():
            return type(value), sorted(repr(types(item)) for item in value)
        case list() | tuple():
            return type(value), [types(item) for item in value]
        case Order():
            return Order, types(value.number), types(value.lines)
        case _:
            return type(value)


@given(values)
def test_every_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    back = codec.loads(codec.dumps(value))

    assert value == back
    assert types(value) == types(back)


@given(values)
def test_what_is_written_is_strict_json_that_postgresql_accepts(value: Any) -> None:
    text = codec.dumps(value)

    text.encode()  # no lone surrogates
    assert "\\u0000" not in text
    assert codec.encode(value) == json.loads(text, parse_constant=pytest.fail)


@given(values)
def test_the_canonical_text_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    data = codec.encode(value)
    turned = json.loads(json.dumps(data), object_pairs_hook=lambda pairs: dict(reversed(pairs)))

    assert codec.canonical(data) == codec.canonical(turned)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda i: (
            st.lists(i)
            | st.dictionaries(
                st.text() | st.sampled_from(["$type", "$dict", "$tuple", "value", "name"]), i
            )
        ),
        max_leaves=10,
    )
)
def test_any_document_is_read_or_refused_but_never_breaks(data: Any) -> None:
    with contextlib.suppress(InvalidInput):
        codec.decode(data)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ({"$date": "2026-01-01"}, date(2026, 1, 1)),
        ({"$datetime": "2026-01-01T00:00:00+00:00"}, datetime(2026, 1, 1, tzinfo=UTC)),
        (
            {"$datetime": "2026-07-01T00:00:00+02:00[Europe/Berlin]"},
            datetime(2026, 7, 1, tzinfo=BERLIN),
        ),
        ({"$time": "12:30:00"}, time(12, 30)),
        ({"$timedelta": "-P0DT0H0M1.500000S"}, timedelta(seconds=-1.5)),
        ({"$decimal": "1.10"}, Decimal("1.10")),
        ({"$uuid": "00000000-0000-0000-0000-000000000001"}, UUID(int=1)),
        ({"$bytes": "aGk="}, b"hi"),
        ({"$path": "/data/graphs"}, Path("/data/graphs")),
        ({"$tuple": [1, [2]]}, (1, [2])),
        ({"$set": [1, 2]}, {2, 1}),
        ({"$float": "-inf"}, -math.inf),
        ({"$float": "1e+20"}, 1e20),
        ({"$text": "a\\x00b"}, "a\0b"),
        ({"$text": "\\ud800"}, "\ud800"),
        ({"$dict": {"$ref": "#"}}, {"$ref": "#"}),
        ({"$dict": [[1, "one"], [{"$tuple": []}, 0]]}, {1: "one", (): 0}),
        ({"$type": f"{VALUES}:Colour", "name": "RED"}, Colour.RED),
        ({"$type": f"{VALUES}:Rights", "value": 3}, Rights.READ | Rights.WRITE),
        ({"$type": f"{VALUES}:Point", "value": {"x": 1, "y": {"$tuple": [2]}}}, Point(1, (2,))),
        ({"$type": f"{HERE}:Outer.Inner", "value": {"n": 1}}, Outer.Inner(1)),
        ({"$type": f"{HERE}:Names", "value": ["a"]}, Names(["a"])),
    ],
)
def test_the_written_form_is_readable_and_stays_as_it_is(written: Any, value: Any) -> None:
    assert written == codec.encode(value)
    assert value == codec.decode(written)


def test_models_and_dataclasses_come_back_with_everything_in_them() -> None:
    customer = Customer(name="Ann", since=date(2026, 1, 1), order=ORDER)
    area = Area(2, 3)
    area.size = 7

    assert customer == codec.loads(codec.dumps(customer))
    assert area == codec.loads(codec.dumps(area))


def test_a_field_added_since_takes_its_default() -> None:
    written = {"$type": f"{VALUES}:Order", "value": {"number": 1, "lines": []}}

    assert Order(number=1, lines=[]) == codec.decode(written)


def test_an_ambiguous_local_time_keeps_its_fold() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)
    second = first.replace(fold=1)

    assert [codec.loads(codec.dumps(moment)).fold for moment in (first, second)] == [0, 1]


def test_nan_comes_back() -> None:
    assert math.isnan(codec.loads(codec.dumps(math.nan)))


def test_an_int_of_any_length_keeps_its_digits() -> None:
    for value in (2**53 + 1, -(10**4000), 10**6000):
        assert value == codec.loads(codec.dumps(value))


def test_subclasses_of_plain_types_come_back_plain() -> None:
    assert codec.loads(codec.dumps(collections.Counter("aab"))) == {"a": 2, "b": 1}


def test_a_refusal_names_the_place_the_type_and_the_cure() -> None:
    with socket.socket() as handle, pytest.raises(InvalidInput) as caught:
        codec.encode({"items": [1, 2, 3, {"handle": handle}]}, where="result")

    expected = "result.items[3].handle is a socket.socket, which JSON cannot hold; return its id"
    assert str(caught.value).startswith(expected)


def test_a_place_inside_a_dataclass_and_odd_keys_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^input\.lines\[0\]\['a b'\] is an object,"):
        codec.encode(Order(number=1, lines=[{"a b": object()}]), where="input")  # type: ignore[list-item]


def test_values_that_another_process_could_not_read_are_refused() -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    for value, reason in [
        (Local(1), "is defined inside a function"),
        (Box[int](content=1), "is not found there"),
        (WithInitVar(1), "takes seed, which is no field"),
        (Order, "is the class Order, not a value"),
        (len, "is a builtin_function_or_method"),
        (iter(()), "is a tuple_iterator"),
        (PureWindowsPath("c:/x"), "is a pathlib.PureWindowsPath"),
        (pydantic.SecretStr("hidden"), "is a pydantic.types.SecretStr"),
    ]:
        with pytest.raises(InvalidInput, match=reason):
            codec.encode(value)


def test_a_class_of_the_started_script_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = dataclasses.make_dataclass("Row", ["n"])
    kind.__module__ = "__main__"

    with pytest.raises(InvalidInput, match="script that was started"):
        codec.encode(kind(1))


def test_values_that_contain_themselves_are_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)

    with pytest.raises(InvalidInput, match="deeper than 100 levels"):
        codec.encode(ring)


def test_the_deepest_value_that_is_written_can_be_read() -> None:
    value: Any = "\0"
    for _ in range(codec.MAX_DEPTH):
        value = [value]

    assert value == codec.loads(codec.dumps(value))
    for text in ("[" * 103 + "]" * 103, "[" * 100_000):
        with pytest.raises(InvalidInput):
            codec.loads(text)


def test_the_limit_counts_bytes_and_names_both_numbers() -> None:
    assert codec.dumps("ä" * 4, limit_bytes=10) == '"ääää"'
    with pytest.raises(InvalidInput, match="result is 10 bytes, the limit is 9"):
        codec.dumps("ä" * 4, limit_bytes=9, where="result")


def test_reading_imports_nothing_and_calls_nothing_but_data_classes() -> None:
    assert "antigravity" not in sys.modules
    for address in ("antigravity:x", "os:system", "builtins:int", "subprocess:Popen", "os", "", 7):
        with pytest.raises(InvalidInput):
            codec.decode({"$type": address, "value": {"command": "true"}})

    assert "antigravity" not in sys.modules


def test_an_unknown_class_is_named_with_what_to_do() -> None:
    with pytest.raises(
        InvalidInput, match=r"value\[0\] is a shop:Gone, a class that is not loaded"
    ):
        codec.decode([{"$type": "shop:Gone", "value": {}}])


@pytest.mark.parametrize(
    "data",
    [
        {"$new": 1},
        {"$date": "2026-01-01", "more": 1},
        {"$date": "yesterday"},
        {"$date": 7},
        {"$bytes": "*"},
        {"$set": [[]]},
        {"$tuple": {}},
        {"$dict": [[1]]},
        {"$datetime": "2026-01-01T00:00:00+00:00[Mars/Base]"},
        {"$type": f"{VALUES}:Colour", "name": "PINK"},
        {"$type": f"{VALUES}:Colour", "value": "#f00"},
        {"$type": f"{VALUES}:Point", "value": {"z": 1}},
        {"$type": f"{VALUES}:Point", "value": [1]},
        {"$type": f"{HERE}:Customer", "value": {"name": "Ann"}},
    ],
)
def test_a_malformed_tag_is_refused_with_our_error(data: Any) -> None:
    with pytest.raises(InvalidInput):
        codec.decode(data)


def test_plain_json_from_outside_becomes_what_the_annotation_says() -> None:
    document = '{"number": "7", "lines": [[1, [2]], [3, []]], "total": "9.90"}'

    assert codec.loads(document, Order) == ORDER
    assert [date(2026, 1, 1)] == codec.decode(["2026-01-01"], list[date])
    assert codec.decode(5, int | None) == 5


def test_tagged_parts_pass_the_annotation_unchanged() -> None:
    assert codec.loads(codec.dumps([ORDER]), list[Order]) == [ORDER]
    assert codec.loads(codec.dumps(Colour.RED), int) == Colour.RED


def test_an_annotation_nobody_can_check_refuses_nothing() -> None:
    assert codec.decode([1], Any) == [1]
    assert codec.decode([1], "Forward") == [1]


def test_data_that_is_not_what_the_annotation_says_is_refused_in_one_sentence() -> None:
    with pytest.raises(InvalidInput) as caught:
        codec.decode({"number": "x", "lines": 1}, Order, where="input")

    expected = "input is not Order: number: Input should be a valid integer"
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("(and 1 more)")


def test_pickle_never_appears() -> None:
    assert pickle.__name__ not in vars(codec)


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({"$decimal": "3.50"}, "3.50"),
        (
            {"$type": "nowhere:Order", "value": {"id": 7, "price": {"$decimal": "3.50"}}},
            {"id": 7, "price": "3.50"},
        ),
        ({"$type": "nowhere:Status", "name": "PAID"}, "PAID"),
        ({"$type": "nowhere:Flags", "value": 3}, 3),
        ({"$tuple": [1, {"$date": "2026-01-01"}]}, [1, "2026-01-01"]),
        ({"$dict": [[1, "one"], [{"$tuple": [1, 2]}, 2]]}, {"1": "one", "[1, 2]": 2}),
        ({"$dict": {"$ref": 1}}, {"$ref": 1}),
        ({"a": [{"$set": [1]}], "b": None}, {"a": [[1]], "b": None}),
        ({"$unheard": 1}, 1),
    ],
)
def test_people_read_stored_values_without_tags_and_without_their_classes(
    stored: Any, read: Any
) -> None:
    assert codec.plain(stored) == read
