"""Output reduced to what a reader sees: no escape sequences, no hidden controls.

``Cleaner`` drops what a terminal would act on. ``shadow`` is the text as the
patterns read it. Escape sequences follow ECMA-48 as xterm reads it; a line feed
ends any sequence, so that nothing can swallow more than its own line.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

SEQUENCE_LIMIT_CHARS = 4_096
"""A sequence that is not ended by then is dropped so far; the rest is text."""

_PAYLOAD = f"{{0,{SEQUENCE_LIMIT_CHARS}}}"
# Strings (OSC, DCS, SOS, PM, APC) run to BEL or ST, CAN and SUB abort them; CSI has
# parameters, intermediates and a final byte; the rest is ESC, intermediates, final.
_SEQUENCE = re.compile(
    rf"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\x18\x1a\n]{_PAYLOAD}"
    r"(?:\x07|\x9c|\x18|\x1a|\x1b\\)?"
    rf"|(?:\x1b\[|\x9b)[\x20-\x3f]{_PAYLOAD}[\x40-\x7e]?"
    r"|\x1b[\x20-\x2f]{0,16}[\x30-\x7e]?"
)
_STARTS = re.compile(r"[\x1b\x90\x98\x9b\x9d-\x9f]")
# Controls but tab, line feed and carriage return; bidi controls of Unicode's UAX #9.
_DROPPED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e"
    r"\u2066-\u206f\ufff9-\ufffb\U000e0000-\U000e007f]"
)


class Cleaner:
    """Drops escape sequences and controls from a text that comes in pieces.

    A sequence that is cut by the end of a piece is held until it is decided, at
    most SEQUENCE_LIMIT_CHARS and a few characters more.
    """

    def __init__(self) -> None:
        self._held = ""

    @property
    def idle(self) -> bool:
        """Whether nothing is held."""
        return not self._held

    def clean(self, text: str) -> str:
        """Take the next piece; return clean text."""
        if self._held:
            text, self._held = self._held + text, ""
        elif text.isascii() and text.isprintable():
            return text
        if _STARTS.search(text) is None:
            return _DROPPED.sub("", text)
        return _DROPPED.sub("", _SEQUENCE.sub("", self._hold(text)))

    def _hold(self, text: str) -> str:
        """Keep back a last sequence that more text could lengthen."""
        sequences = list(_SEQUENCE.finditer(text))
        if not sequences or not _may_grow(sequences[-1].group(), text, sequences[-1].end()):
            return text
        start = sequences[-1].start()
        self._held = text[start:]
        return text[:start]


def _may_grow(sequence: str, text: str, end: int) -> bool:
    rest = len(text) - end
    if rest > 1:
        return False
    if rest == 1:
        # The ESC of a string's end (ESC \) may have come alone.
        return text[end] == "\x1b" and sequence[-1] not in "\x07\x9c\x18\x1a"
    return True


def shadow(text: str) -> bytes:
    """The text as patterns read it: ASCII, one byte for each visible character.

    Decimal digits of any script become ASCII digits, compatibility forms their
    ASCII equal, dashes ``-``, spaces a space, vertical rules ``|``, other letters
    ``x``, other signs ``;``. Invisible characters and marks, and carriage returns
    that end no line, are left out; ``positions`` tells where the rest stood.
    """
    return text.translate(_SHADOWS).encode("ascii")


def positions(text: str) -> list[int]:
    """For each byte of ``shadow(text)`` the index of its character in the text."""
    return [index for index, char in enumerate(text) if _SHADOWS[ord(char)]]


class _Shadows(dict[int, str]):
    """What stands for each character; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        seen = _seen(chr(code))
        if len(self) < 65_536:
            self[code] = seen
        return seen


_SHADOWS = _Shadows()


@lru_cache(maxsize=1024)
def _seen(char: str) -> str:
    if char.isascii():
        return "" if char == "\r" else char
    category = unicodedata.category(char)
    if category in ("Cf", "Mn", "Me", "Mc", "Cc"):
        return ""
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    if category == "Pd" or char == "\u2212":
        return "-"
    if category == "Zs":
        return " "
    if 0x2500 <= ord(char) <= 0x257F:
        return "|"
    equal = unicodedata.normalize("NFKC", char)
    if len(equal) == 1 and equal.isascii():
        return equal
    return "x" if category.startswith("L") else ";"
