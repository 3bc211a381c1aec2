"""Inputs are checked against the annotations where they enter."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from orchestrator import codec
from orchestrator.errors import InvalidInput
from orchestrator.flow.authoring import Flow, flow, step


@step
def tick() -> None: ...


class Line(BaseModel):
    sku: str
    count: int = Field(gt=0)


class Purchase(BaseModel):
    lines: list[Line]
    total: Decimal


@dataclass
class Address:
    city: str
    since: date


@flow
def checkout(
    purchase: Purchase,
    address: Address | None = None,
    tags: Annotated[set[str], Field(max_length=2)] = frozenset(),  # type: ignore[assignment]
    *,
    note: Any = None,
    bare=3,  # type: ignore[no-untyped-def]
) -> None:
    tick()


purchase = Purchase(lines=[Line(sku="a", count=1)], total=Decimal("1.10"))
DOCUMENT = {"lines": [{"sku": "a", "count": 1}], "total": "1.10"}


def test_python_values_become_an_encoded_document_with_the_defaults() -> None:
    document = checkout.validate_input([purchase, Address("Ulm", date(2026, 1, 2))], {"bare": 5})

    assert document == {
        "purchase": codec.encode(purchase),
        "address": codec.encode(Address("Ulm", date(2026, 1, 2))),
        "tags": codec.encode(frozenset()),
        "note": None,
        "bare": 5,
    }
    assert purchase == codec.decode(document["purchase"], Purchase)


def test_a_json_document_becomes_the_same_as_the_python_values() -> None:
    given = {"purchase": DOCUMENT, "address": {"city": "Ulm", "since": "2026-01-02"}, "tags": ["t"]}

    document = checkout.validate_document(given)

    assert document == checkout.validate_input(
        [], {"purchase": purchase, "address": Address("Ulm", date(2026, 1, 2)), "tags": {"t"}}
    )


def test_values_that_json_does_not_know_may_stand_in_a_document() -> None:
    given = {"purchase": {**DOCUMENT, "total": Decimal("1.10")}}

    document = checkout.validate_document(given)

    assert document["purchase"] == codec.encode(purchase)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "flow 'checkout': the parameter 'purchase' is missing"),
        (
            {"purchas": DOCUMENT},
            "flow 'checkout': there is no parameter 'purchas', did you mean 'purchase'?",
        ),
        ({"purchase": DOCUMENT, "zzz": 1}, "there is no parameter 'zzz'"),
        (
            {"purchase": {"lines": [{"sku": "a", "count": 0}], "total": 1}},
            "flow 'checkout', parameter 'purchase': field 'lines.0.count': Input should be greater",
        ),
        ({"purchase": {"lines": []}}, "field 'total': Field required"),
        ({"purchase": None}, "flow 'checkout', parameter 'purchase': Input should be"),
        ({"purchase": DOCUMENT, "tags": ["a", "b", "c"]}, "parameter 'tags'"),
        ({"purchase": DOCUMENT, "note": object()}, "parameter 'note' is a"),
        ([], "the input is a list, expected an object by parameter name"),
    ],
)
def test_a_wrong_document_is_refused_by_flow_parameter_and_field(
    document: Any, message: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        checkout.validate_document(document)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {}, "flow 'checkout': missing a required argument: 'purchase'"),
        ([purchase, None, set(), 4], {}, "flow 'checkout': too many positional arguments"),
        (
            [purchase],
            {"adress": None},
            "unexpected keyword argument 'adress', did you mean 'address'",
        ),
        (["text"], {}, "flow 'checkout', parameter 'purchase': Input should be"),
        ([purchase, "Ulm"], {}, "parameter 'address'"),
        ([purchase], {"note": object()}, "flow 'checkout', parameter 'note' is a"),
    ],
)
def test_wrong_python_values_are_refused_by_flow_parameter_and_field(
    args: list[Any], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        checkout.validate_input(args, kwargs)

    assert message in str(refused.value)


def test_all_wrong_fields_come_in_one_message() -> None:
    wrong = {"purchase": {"lines": [{"sku": 1, "count": "x"}], "total": "y"}}

    with pytest.raises(InvalidInput) as refused:
        checkout.validate_document(wrong)

    assert str(refused.value).count("field '") == 3


def test_types_pydantic_knows_nothing_of_are_checked_by_their_class() -> None:
    class Odd:
        pass

    @flow
    def odd(value: Odd, when: datetime) -> None:
        tick()

    with pytest.raises(InvalidInput, match=r"flow 'odd', parameter 'value': .*instance of"):
        odd.validate_input([3, datetime(2026, 1, 1)])  # noqa: DTZ001


def test_a_flow_without_parameters_takes_the_empty_document() -> None:
    @flow
    def empty() -> None:
        tick()

    recorded: Flow[..., Any] = empty
    assert recorded.validate_input() == recorded.validate_document({}) == {}


def test_a_flow_has_the_json_schema_of_its_input_document() -> None:
    @step
    def take(value: Any) -> None: ...

    @flow
    def scheduled(day: date, names: list[str], limit: int | None = None, strange: Any = 3) -> None:
        take(day)

    assert scheduled.schema == {
        "title": "scheduled",
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "names": {"type": "array", "items": {"type": "string"}},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "strange": {},
        },
        "required": ["day", "names"],
        "additionalProperties": False,
    }
    assert scheduled.definition.options_json()["schema"] == scheduled.schema
    read = type(scheduled.definition).from_json(scheduled.definition.to_json())
    assert read.schema == scheduled.schema


def test_classes_in_a_schema_are_defined_beside_it_and_what_has_none_may_be_anything() -> None:
    class NoSchema:
        pass

    @step
    def take(value: Any) -> None: ...

    @flow
    def ordering(one: Purchase, other: Purchase, unknown: NoSchema) -> None:
        take(one)

    schema: Any = ordering.schema
    assert schema["properties"]["one"] == {"$ref": "#/$defs/Purchase"}
    assert schema["properties"]["other"] == {"$ref": "#/$defs/Purchase"}
    assert schema["properties"]["unknown"] == {}
    assert schema["$defs"].keys() == {"Line", "Purchase"}
