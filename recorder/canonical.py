"""Canonical JSON (RFC 8785) for the values that the ledger allows (pure).

Without floating-point numbers the rules are short enough to keep here, and a
verifier needs nothing outside the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from recorder.errors import LeafInvalid

MAX_INTEGER: Final = 2**53 - 1
"""RFC 8785 asks for I-JSON: larger integers are not exact everywhere."""

_MAX_DEPTH: Final = 32


def canonical(value: object) -> bytes:
    """The one way to write ``value``: UTF-8, keys in UTF-16 order, no spaces.

    Args:
        value: None, bool, int, str, or lists, tuples and string-keyed mappings of these.

    Raises:
        LeafInvalid: a float, another type, an integer beyond 2**53 - 1, text with
            lone surrogates, or nesting deeper than 32.
    """
    return "".join(_write(value, 0)).encode()


def _write(value: object, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise LeafInvalid("nested too deeply")
    if value is None or isinstance(value, bool):
        return [json.dumps(value)]
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise LeafInvalid("an integer beyond 2**53 - 1")
        return [str(int(value))]
    if isinstance(value, str):
        return [_text(value)]
    if isinstance(value, list | tuple):
        items = ["".join(_write(item, depth + 1)) for item in value]
        return ["[", ",".join(items), "]"]
    if isinstance(value, Mapping):
        return ["{", ",".join(_members(value, depth)), "}"]
    raise LeafInvalid(f"a value of type {type(value).__name__}")


def _members(value: Mapping[object, object], depth: int) -> list[str]:
    keys: list[str] = []
    for key in value:
        if not isinstance(key, str):
            raise LeafInvalid("a key that is no string")
        _text(key)
        keys.append(key)
    keys.sort(key=lambda key: key.encode("utf-16-be"))
    return [f"{_text(key)}:{''.join(_write(value[key], depth + 1))}" for key in keys]


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LeafInvalid("text with a lone surrogate") from None
    return json.dumps(value, ensure_ascii=False)
