"""What is secret by its name is not shown, and what is shown is short."""

import pytest

from orchestrator.masking import MASK, holds_mask, is_secret, masked, masked_text, shortened

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


def test_a_value_is_masked_and_otherwise_the_same() -> None:
    value = {"id": 7, "card": {"number": "4111"}, "lines": [{"token": None}, "token"], "n": None}

    shown = masked(value, MASKED)

    assert shown == {"id": 7, "card": MASK, "lines": [{"token": MASK}, "token"], "n": None}
    assert masked(value, ()) == value
    assert (holds_mask(shown, MASKED), holds_mask(value, MASKED)) == (True, False)
    assert not holds_mask({"stars": MASK, "reviews": [MASK]}, MASKED), "three stars for a book"


def test_a_text_that_is_json_is_masked_and_another_withheld_if_it_names_a_secret() -> None:
    assert masked_text('{"card":"4111", "n":1}', MASKED) == '{"card": "***", "n": 1}'
    assert masked_text('{"n":1}', MASKED) == '{"n":1}', "as it was written"
    assert masked_text("card=4111", MASKED) == MASK
    assert masked_text('{"cardNumber": 4', MASKED) == MASK
    assert masked_text("discarded", MASKED) == "discarded"
