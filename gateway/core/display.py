r"""The one way to show untrusted text: commands, names, messages, reasons.

What a reader sees here is what is there: a character that would move the
cursor, reorder the line, hide or pass for another is written out as ``\u{…}``,
and what is left out is counted. Sinks that interpret their input add their own
step: ``html`` for pages, ``csv_cell`` for spreadsheets; Textual and rich get
the text with ``markup=False``.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata
from functools import lru_cache

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and marks that draw nothing: Hangul fillers, Braille blank, combining
# grapheme joiner, Khmer inherent vowels.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
# More marks than this on one letter hide the line above or below it.
_MAX_MARKS = 2
_FORMULA_START = frozenset("=+-@\t\r\n|%")


def show(text: str, *, limit: int | None = None, newlines: bool = False) -> str:
    r"""Write untrusted text so that it can only be read.

    Control, C1, format (bidi, zero-width, tags), private-use, surrogate and
    unassigned characters, line separators, spaces other than U+0020, variation
    selectors, blank letters and piled-up marks become ``\u{hex}``. Shown text is
    its own shown text, so that layers may each call this; whoever must tell a
    typed ``\u{1b}`` from a real one looks at the exact bytes.

    Args:
        text: anything; lone surrogates are allowed.
        limit: most characters of shown text, the note about what was left out
            not counted; None for no limit. An escape is never cut in two.
        newlines: keep line feeds and tabs, for text over several lines; else
            the result is one line.

    Returns:
        The shown text; where it was cut, followed by `` … (N more characters)``
        with N counted in characters of ``text``.

    Raises:
        ValueError: limit is negative.
    """
    if limit is not None and limit < 0:
        raise ValueError("limit must not be negative")
    plain = text.isascii() and text.isprintable()
    pieces: list[str] | str = text if plain else _pieces(text, newlines)
    if limit is None:
        return "".join(pieces)
    width = 0
    for position, piece in enumerate(pieces):
        if width + len(piece) > limit:
            return f"{''.join(pieces[:position])} … ({len(text) - position} more characters)"
        width += len(piece)
    return "".join(pieces)


def html(text: str, *, limit: int | None = None, newlines: bool = False) -> str:
    """``show`` for an HTML text node or a quoted attribute."""
    return _html.escape(show(text, limit=limit, newlines=newlines), quote=True)


def csv_cell(text: str, *, limit: int | None = None) -> str:
    """``show`` for one CSV field, before quoting: no spreadsheet runs it as a formula.

    A field that starts, after spaces, with ``= + - @ | %`` or a tab or line break
    gets a leading apostrophe, as OWASP's "CSV Injection" advises.
    """
    shown = show(text, limit=limit)
    return f"'{shown}" if text.lstrip(" ")[:1] in _FORMULA_START and text.strip(" ") else shown


def _pieces(text: str, newlines: bool) -> list[str]:
    """One shown piece for each character of the text."""
    pieces: list[str] = []
    marks = 0
    for char in text:
        mark = not char.isascii() and unicodedata.combining(char) != 0
        marks = marks + 1 if mark else 0
        if newlines and char in "\n\t":
            pieces.append(char)
        elif _is_hidden(char) or marks > _MAX_MARKS:
            pieces.append(_escape(char))
        else:
            pieces.append(char)
    return pieces


def _escape(char: str) -> str:
    return f"\\u{{{ord(char):x}}}"


@lru_cache(maxsize=4096)
def _is_hidden(char: str) -> bool:
    if char == " ":
        return False
    category = unicodedata.category(char)
    return (
        category in _HIDDEN_CATEGORIES
        or category == "Zs"
        or char in _BLANK
        or "\ufe00" <= char <= "\ufe0f"
        or "\U000e0100" <= char <= "\U000e01ef"
    )


_WORD = re.compile(r"\w+")
# Letters of other scripts that a reader takes for Latin ones (a short list from
# Unicode's confusables.txt, UTS #39: Cyrillic, then Greek, then Armenian).
_LATIN_LOOKALIKES = frozenset("аеорсухѕіјһԁԛԝɡѵѡАВЕКМНОРСТУХЅІЈԌΑΒΕΖΗΙΚΜΝΟΡΤΥΧνορυιγօսհոց")
# Scripts that are written together as a matter of course.
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "LATIN"})


def confusables(text: str) -> tuple[str, ...]:
    """The words of a text that may pass for other words, shown, in order of appearance.

    Flagged are words that mix scripts (Latin with Cyrillic, for instance) and
    words made only of foreign letters that look Latin. Not flagged: ``rn`` for
    ``m``, ``1`` for ``l`` and the like inside one script.

    Returns:
        Each word once, through ``show``; empty if none.
    """
    if text.isascii():
        return ()
    words = (match.group() for match in _WORD.finditer(text))
    return tuple(dict.fromkeys(show(word) for word in words if _is_confusable(word)))


def _is_confusable(word: str) -> bool:
    if word.isascii():
        return False
    letters = [char for char in word if char.isalpha()]
    scripts = {_script(char) for char in letters}
    if len(scripts) > 1 and not scripts <= _EAST_ASIAN:
        return True
    foreign = [char for char in letters if _script(char) != "LATIN"]
    return bool(foreign) and all(char in _LATIN_LOOKALIKES for char in foreign)


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """The first word of the character's name, which is its script for letters."""
    name = unicodedata.name(char, "UNNAMED").split()[0]
    # FULLWIDTH and MATHEMATICAL letters are Latin in disguise: a script of their own.
    return name.split("-")[0]
