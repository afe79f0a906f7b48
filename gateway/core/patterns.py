"""Patterns of identifiers in text that nobody classified, with their checksums.

The third net under lineage and classification (docs/masking.md). Matching runs
on a shadow of the text: ASCII bytes, one for each visible character, so that
full-width digits, typographic dashes and invisible characters cannot hide a
number. RE2 searches in linear time whatever the input; its ``Set`` is not used
because it answers "no match" when its memory runs out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

MAX_MATCH_CHARS = 512
"""No expression below can match more characters, label included (proved by a test)."""

_DIGITS = frozenset(b"0123456789")
_WORD = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

Accept = Callable[[bytes, int, int], bool]
"""Whether ``shadow[start:end]`` is the real thing: its neighbours and checksum."""


@dataclass(frozen=True, slots=True)
class Span:
    """One finding: ``shadow[start:end]``, end exclusive."""

    start: int
    end: int
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of identifier.

    Attributes:
        name: what findings are counted under.
        tag: what is written in place of a finding.
        expression: RE2 syntax; its group 1 is what is hidden, all of it if it has
            no group.
        accept: see Accept; gets the bounds of what is hidden.
    """

    name: str
    tag: str
    expression: str
    accept: Accept


def _at(text: bytes, position: int) -> int:
    return text[position] if 0 <= position < len(text) else 0


def _apart(text: bytes, start: int, end: int) -> bool:
    """No digit touches either end."""
    return _at(text, start - 1) not in _DIGITS and _at(text, end) not in _DIGITS


def _digits(text: bytes) -> list[int]:
    return [byte - 48 for byte in text if byte in _DIGITS]


def is_ssn(digits: Sequence[int]) -> bool:
    """Whether nine digits can be a Social Security number.

    SSA: never area 000, 666 or 900-999, group 00, serial 0000
    (https://www.ssa.gov/employer/randomization.html).
    """
    if len(digits) != 9:
        return False
    area = digits[0] * 100 + digits[1] * 10 + digits[2]
    return area not in (0, 666) and area < 900 and any(digits[3:5]) and any(digits[5:])


def is_luhn(digits: Sequence[int]) -> bool:
    """Whether the last digit is the Luhn check digit of the others (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = digit * 2 if position % 2 else digit
        total += value - 9 if value > 9 else value
    return total % 10 == 0


# First and last value of the leading digits, and the lengths that brand issues.
_CARD_RANGES: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (4, 4, (13, 16, 19)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (300, 305, (14, 16, 17, 18, 19)),
    (36, 36, (14, 16, 17, 18, 19)),
    (38, 39, (14, 16, 17, 18, 19)),
    (3528, 3589, (16, 17, 18, 19)),
    (6011, 6011, (16, 17, 18, 19)),
    (644, 659, (16, 17, 18, 19)),
    (62, 62, (16, 17, 18, 19)),
)


def is_card(digits: Sequence[int]) -> bool:
    """Whether digits have an issued card range, its length and a Luhn digit."""
    if not 13 <= len(digits) <= 19:
        return False
    text = "".join(map(str, digits))
    issued = any(
        low <= int(text[: len(str(low))]) <= high and len(digits) in lengths
        for low, high, lengths in _CARD_RANGES
    )
    return issued and is_luhn(digits)


def _accept_word(text: bytes, start: int, end: int) -> bool:
    return _at(text, start - 1) not in _WORD and _at(text, end) not in _WORD


def _accept_ssn(text: bytes, start: int, end: int) -> bool:
    return _apart(text, start, end) and is_ssn(_digits(text[start:end]))


def _accept_card(text: bytes, start: int, end: int) -> bool:
    fraction = _at(text, start - 1) == 0x2E and _at(text, start - 2) in _DIGITS
    decimal = _at(text, end) == 0x2E and _at(text, end + 1) in _DIGITS
    if fraction or decimal:  # a floating-point number, not a card
        return False
    return _accept_word(text, start, end) and is_card(_digits(text[start:end]))


def _accept_international(text: bytes, start: int, end: int) -> bool:
    # A zone offset or a sum has a digit or a letter before its sign.
    return _at(text, start - 1) not in _WORD and _apart(text, start, end)


def _accept_labelled_phone(text: bytes, start: int, end: int) -> bool:
    value = text[start:end]
    is_date = len(value) == 10 and value[4:5] == b"-" and value[7:8] == b"-"
    return _apart(text, start, end) and 7 <= len(_digits(value)) <= 15 and not is_date


def _accept_birth_date(text: bytes, start: int, end: int) -> bool:
    # After its label a date is hidden whatever follows it.
    return _at(text, start - 1) not in _DIGITS


def _accept_any(text: bytes, start: int, end: int) -> bool:
    return True


# Between a label and its value: the end of a JSON key or XML name, padding as
# psql -x prints it (names have up to 63 characters), one sign, an opening quote.
_GAP = r"[\"')\]]{0,3}[ \t]{0,63}[:=|,>]{0,2}[ \t]{0,63}[\"'(\[]{0,2}"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DATE = (
    r"(?:(?:18|19|20)[0-9]{2}[-/.]?(?:1[0-2]|0?[1-9])[-/.]?(?:[12][0-9]|3[01]|0?[1-9])"
    r"|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:[0-9]{4}|[0-9]{2})"
    rf"|{_MONTH} {{0,2}}[0-9]{{1,2}}(?:st|nd|rd|th)?,? {{0,2}}[0-9]{{4}}"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th)?[ -](?:of )?{_MONTH}[ ,-]{{1,2}}(?:[0-9]{{4}}|[0-9]{{2}}))"
)
_TIME = r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?)?"
# The Medicare Beneficiary Identifier leaves out S, L, O, I, B and Z
# (https://www.cms.gov/medicare/new-medicare-card/understanding-the-mbi.pdf).
_A = "[AC-HJKMNP-RT-Y]"
_AN = "[0-9AC-HJKMNP-RT-Y]"

PATTERNS: tuple[Pattern, ...] = (
    Pattern("ssn", "[SSN]", r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}", _accept_ssn),
    # After a label no validity rule is asked: made-up and old numbers count too.
    Pattern(
        "ssn",
        "[SSN]",
        r"(?i)(?:ssn|\bss ?#|social[ ._-]{0,2}sec(?:urity)?|soc\.? sec)[a-z#._ -]{0,24}"
        + _GAP
        + r"([0-9]{3}[-. /]?[0-9]{2}[-. /]?[0-9]{4})",
        _apart,
    ),
    Pattern(
        "email",
        "[EMAIL]",
        r"[A-Za-z0-9._%+'~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}",
        _accept_any,
    ),
    Pattern(
        "phone",
        "[PHONE]",
        r"(?:\+?1[-. ]{0,2})?(?:\([2-9][0-9]{2}\)[-. ]{0,2}|[2-9][0-9]{2}[-. ])"
        r"[2-9][0-9]{2}[-. ][0-9]{4}",
        _apart,
    ),
    # E.164: a plus, a country code that does not start with 0, 8 to 15 digits.
    Pattern("phone", "[PHONE]", r"\+[1-9](?:[-. ()]{0,2}[0-9]){7,14}", _accept_international),
    Pattern(
        "phone",
        "[PHONE]",
        r"(?i)(?:phone|mobile|telecom|\btel\b|\bfax\b)[a-z_. #-]{0,24}"
        + _GAP
        + r"(\+?[0-9(][0-9 ().-]{5,18}[0-9])",
        _accept_labelled_phone,
    ),
    Pattern(
        "card",
        "[CARD]",
        r"(?:\b|_)([2-6][0-9]{3}[- ][0-9]{4}[- ][0-9]{4}[- ][0-9]{1,7}"
        r"|3[0-9]{3}[- ][0-9]{6}[- ][0-9]{4,5}|[2-6][0-9]{12,18})",
        _accept_card,
    ),
    Pattern(
        "birth_date",
        "[DATE]",
        r"(?i)(?:\bd\.?o\.?b\b|_dob\b|birth|\bborn\b)[a-z_. -]{0,24}" + _GAP + f"({_DATE}{_TIME})",
        _accept_birth_date,
    ),
    Pattern(
        "mbi",
        "[MBI]",
        f"(?i)[1-9]{_A}{_AN}[0-9]-?{_A}{_AN}[0-9]-?{_A}{{2}}[0-9]{{2}}",
        _accept_word,
    ),
)
"""All patterns; a name may come more than once, in different forms."""


class Searcher:
    """A compiled choice of patterns; holds no state between searches.

    One expression over all of them is the gate: text that nothing can match is
    read once.
    """

    def __init__(self, patterns: Sequence[Pattern] = PATTERNS) -> None:
        self._compiled: list[tuple[Pattern, Any]] = [
            (pattern, re2.compile(pattern.expression.encode())) for pattern in patterns
        ]
        options = re2.Options()
        options.never_capture = True
        options.max_mem = 64 << 20
        gate = "|".join(f"(?:{pattern.expression})" for pattern in patterns)
        self._gate: Any = re2.compile(gate.encode(), options) if patterns else None

    def find(self, shadow: bytes) -> list[Span]:
        """All findings, merged where they touch, in order.

        Args:
            shadow: ASCII; may hold several lines, no finding crosses a line feed.

        Returns:
            Spans that do not overlap; one that covers several findings bears the
            pattern of the first.
        """
        if self._gate is None or self._gate.search(shadow) is None:
            return []
        found = [
            Span(start, end, pattern)
            for pattern, compiled in self._compiled
            for start, end in _accepted(shadow, compiled, pattern.accept)
        ]
        found.sort(key=lambda span: (span.start, -span.end))
        return _merged(found)


def _accepted(shadow: bytes, compiled: Any, accept: Accept) -> Iterator[tuple[int, int]]:
    """The bounds of every accepted match.

    After a rejected one the search goes on one byte further, so that nothing
    hides behind a near miss.
    """
    group = 1 if compiled.groups else 0
    position = 0
    while (match := compiled.search(shadow, position)) is not None:
        start, end = match.span(group)
        if accept(shadow, start, end):
            yield start, end
            position = end
        else:
            position = match.start() + 1


def _merged(found: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in found:
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.pattern)
        else:
            merged.append(span)
    return merged
