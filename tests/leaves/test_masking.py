"""What is secret by its name is not shown, and what is shown is short."""

import pytest

from orchestrator.masking import is_secret, shortened

MASKED = frozenset({"card", "token", "api_key"})


@pytest.mark.parametrize(
    "name", ["card", "Card", "card_number", "cardNumber", "credit-cards", "accessToken", "apiKey"]
)
def test_a_field_is_secret_when_its_words_say_so(name: str) -> None:
    assert is_secret(name, MASKED)


@pytest.mark.parametrize("name", ["discard", "key", "api", "cardinal", "number", ""])
def test_a_part_of_a_word_makes_nothing_secret(name: str) -> None:
    assert not is_secret(name, MASKED)


def test_secrets_are_masked_at_any_depth() -> None:
    value = {"order": {"id": "o-1", "card": {"number": "4111"}, "payments": [{"token": "t"}]}}

    shown = shortened(value, MASKED)

    assert shown == "{'order': {'id': 'o-1', 'card': ***, 'payments': [{'token': ***}]}}"


def test_what_is_long_is_cut_short() -> None:
    assert shortened({"text": "x" * 100}, ()) == "{'text': '" + "x" * 39 + "…'}"
    assert shortened([1, 2, 3, 4, 5], ()) == "[1, 2, 3, … 2 more]"
    assert shortened([[[[[1]]]]], ()) == "[[[[[…]]]]]"
    assert len(shortened({f"field {i}": i for i in range(100)}, ())) == 200


def test_values_of_classes_are_shown_without_their_types() -> None:
    order = {"$type": "shop:Order", "value": {"id": "o-1", "card": "4111"}}

    assert shortened({"order": order}, MASKED) == "{'order': {'id': 'o-1', 'card': ***}}"
