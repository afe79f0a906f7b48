"""What was planted, how it could leave in disguise, and the queries that try."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.e2e.scene import CANARIES

End = Literal["runs", "held", "refused"]

_SECTION = re.compile(r"\[(runs|held|refused)( etl)?: (.+)\]")
_IN_GRAMS = ("first", "last", "last2", "ssn", "ssn2", "phone")
_IN_WORDS = ("unknown", "json", "note")
_GRAM_CHARS = 6
_WORD = re.compile(r"[a-z]{7,}")


@dataclass(frozen=True)
class Query:
    """One line of ``planted_queries.txt``.

    Attributes:
        end: what becomes of it without a grant.
        etl_only: the reading role may not do it at all.
        kind: the section's own name.
        sql: the canaries filled in.
    """

    end: End
    etl_only: bool
    kind: str
    sql: str


def _queries() -> Iterator[Query]:
    end: End = "refused"
    etl_only, kind = False, ""
    for line in (Path(__file__).parent / "planted_queries.txt").read_text().splitlines():
        if section := _SECTION.fullmatch(line):
            end = section[1]  # type: ignore[assignment]  # the pattern has these three only
            etl_only, kind = bool(section[2]), section[3]
        elif line and not line.startswith("#"):
            yield Query(end, etl_only, kind, _filled(line))


def _filled(line: str) -> str:
    for name, value in CANARIES.items():
        line = line.replace("{" + name + "}", value)
    return line


QUERIES = tuple(_queries())


def _spelled(text: str) -> Iterator[bytes]:
    """As it is, in small and in capital letters.

    Not in any mixture: six letters in any case turn up in base64 by chance.
    """
    for each in (text, text.lower(), text.upper()):
        yield each.encode()


def _disguises(value: str) -> Iterator[bytes]:
    """A value and what simple functions make of it."""
    for each in (value, value[::-1], value.replace("-", "")):
        yield from _spelled(each)
    for written in _spelled(value):
        for digest in (hashlib.md5(written), hashlib.sha256(written)):
            yield from _spelled(digest.hexdigest())
        yield from _spelled(written.hex())
        # Without the last, padded characters.
        yield base64.b64encode(written)[: len(written) * 4 // 3 - 1]


def _grams(value: str) -> Iterator[bytes]:
    """Every piece of six characters, there and back."""
    for text in (value, value[::-1]):
        for start in range(len(text) - _GRAM_CHARS + 1):
            yield from _spelled(text[start : start + _GRAM_CHARS])


def _words(value: str) -> Iterator[bytes]:
    """Every long word, there and back."""
    for word in _WORD.findall(value):
        yield from (*_spelled(word), *_spelled(word[::-1]))


def _dates(iso: str) -> Iterator[bytes]:
    year, month, day = iso.split("-")
    yield from (f"{month}/{day}/{year}".encode(), f"{day}.{month}.{year}".encode())
    yield from (f"{year}{month}{day}".encode(), iso[:7].encode())


def _traces(name: str, value: str) -> Iterator[bytes]:
    yield from _disguises(value)
    if name in _IN_GRAMS:
        yield from _grams(value)
    if name in _IN_WORDS:
        yield from _words(value)
    if name == "email":
        for part in value.split("@"):
            yield from _spelled(part)
    if name == "birth":
        yield from _dates(value)


TRACES: dict[bytes, str] = {
    trace: name for name, value in CANARIES.items() for trace in _traces(name, value)
}
"""Every trace of a canary, and the canary's name."""

_AROUND_BYTES = 30


def traces_in(data: bytes) -> dict[str, bytes]:
    """The canaries that ``data`` betrays, each with the place of its longest trace."""
    found: dict[str, bytes] = {}
    for trace, name in sorted(TRACES.items(), key=lambda item: -len(item[0])):
        if name not in found and (at := data.find(trace)) >= 0:
            found[name] = data[max(0, at - _AROUND_BYTES) : at + len(trace) + _AROUND_BYTES]
    return found
