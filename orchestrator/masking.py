"""A short text of a value for people's eyes, in which what is secret by its name does not appear.

A field is secret when its name contains one of the masked names as whole words: ``card`` covers
``card``, ``card_number``, ``cardNumber`` and ``credit-cards``, but not ``discard``. What a value
itself says is not looked at: a secret in a field called ``comment`` is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

#: What stands for a secret.
MASK = "***"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_TEXT, _ITEMS, _DEPTH = 40, 3, 4
#: How the codec writes a value of a class; what is shown is the value.
_TYPED = {"$type", "value"}


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
