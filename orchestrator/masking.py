"""Values for people's eyes, in which what is secret by its name does not appear.

A field is secret when its name contains one of the masked names as whole words: ``card`` covers
``card``, ``card_number``, ``cardNumber`` and ``credit-cards``, but not ``discard``. What a value
itself says is not looked at: a secret in a field called ``comment`` is shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

#: What stands for a secret.
MASK = "***"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NAMES = re.compile(r"[^\W\d][\w-]*")
_TEXT, _ITEMS, _DEPTH = 40, 3, 4
#: How the codec writes a value of a class; what is shown is the value.
_TYPED = {"$type", "value"}


def masked(value: Any, names: Iterable[str]) -> Any:
    """Return a JSON value in which `MASK` stands for what is secret, at any depth.

    Args:
        names: names of what is secret.
    """
    return _masked(value, frozenset(names))


def holds_mask(value: Any, names: Iterable[str]) -> bool:
    """Return whether a JSON value has `MASK` where `masked` puts it: it was copied from there."""
    return _holds_mask(value, frozenset(names))


def masked_text(text: str, names: Iterable[str]) -> str:
    """Return a text that may be JSON without what is secret in it.

    What is no JSON has no fields that could be masked: if a word of it is a secret name, all of it
    is withheld.
    """
    secret = frozenset(names)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if any(is_secret(word, secret) for word in _NAMES.findall(text)):
            return MASK
        return text
    shown = _masked(value, secret)
    return text if shown == value else json.dumps(shown, ensure_ascii=False)


def shortened(value: Any, masked: Iterable[str], *, limit: int = 200) -> str:
    """Return a JSON value as text of at most ``limit`` characters, secrets masked at any depth.

    Args:
        masked: names of what is secret.
    """
    text = _drawn(value, frozenset(masked), _DEPTH)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_secret(name: str, masked: frozenset[str]) -> bool:
    """Return whether a field of this name is masked."""
    words = _plain(name)
    return any(_plain(secret) in words for secret in masked)


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """Return a name as its words in lower case and singular, between underscores."""
    words = (word.lower() for word in _WORDS.findall(name))
    return "_" + "".join(f"{word.removesuffix('s')}_" for word in words)


def _masked(value: Any, secret: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: MASK if is_secret(name, secret) else _masked(part, secret)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_masked(part, secret) for part in value]
    return value


def _holds_mask(value: Any, secret: frozenset[str]) -> bool:
    if isinstance(value, Mapping):
        return any(
            part == MASK if is_secret(name, secret) else _holds_mask(part, secret)
            for name, part in value.items()
        )
    return isinstance(value, list) and any(_holds_mask(part, secret) for part in value)


def _drawn(value: Any, masked: frozenset[str], depth: int) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _TEXT else value[: _TEXT - 1] + "…")
    if isinstance(value, Mapping):
        if value.keys() == _TYPED:
            return _drawn(value["value"], masked, depth)
        if value and not depth:
            return "{…}"
        fields = (
            f"{name!r}: {MASK if is_secret(name, masked) else _drawn(part, masked, depth - 1)}"
            for name, part in value.items()
        )
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        if value and not depth:
            return "[…]"
        parts = [_drawn(part, masked, depth - 1) for part in value[:_ITEMS]]
        if len(value) > _ITEMS:
            parts.append(f"… {len(value) - _ITEMS} more")
        return "[" + ", ".join(parts) + "]"
    return repr(value)
