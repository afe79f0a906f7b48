"""SQL as the record shows it: without what may be a patient's value.

Safe for any bytes: it works on tokens, not on a parse, so a text that the grammar
refuses is shown by the same rules.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.sql.lexing import Token, tokens

MASK: Final = "[PHI]"
WORD: Final = "[word]"

_KEYWORDS: Final = frozenset(
    "all alter analyze and any as asc begin between by call case cast close column comment commit "
    "copy create cross csv cursor database declare default delete desc distinct do drop else end "
    "escape except execute exists explain fetch filter for format from full function grant group "
    "having if ilike in index inner insert intersect into is join lateral left like limit listen "
    "lock materialized merge natural not notify null offset on only or order outer over partition "
    "prepare procedure psql recursive refresh reindex release reset restart returning revoke right "
    "role rollback row rows savepoint schema select sequence set show stdin stdout table temp "
    "temporary then to transaction trigger truncate type union unique update user using vacuum "
    "values verbose view when where window with work".split()
)
_BEFORE_NAME: Final = frozenset({"from", "join", "into", "update", "table", "copy", "-"})

_LONG_DIGITS = re.compile(r"[0-9]{4}")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}(?:\.[a-z_][a-z0-9_]{0,62}){0,2}")
_DIGIT_COUNT: Final = 4
_JOINING: Final = frozenset({b"-", b".", b"/"})


def shown(text: bytes, touches_phi: bool) -> str:
    """The line as the record shows it; never raises.

    Args:
        text: the line, in any encoding.
        touches_phi: the line reads, writes or names PHI, or could not be parsed.
            Then every literal in quotes, every number of four or more digits and
            every comment is replaced by ``[PHI]``, and so are quoted names that are
            no plain identifiers, because a value in the wrong quotes is one too.

    Returns:
        The text; bytes that are not UTF-8 as U+FFFD. Control characters are left to
        ``core.display``.
    """
    if not touches_phi:
        return text.decode("utf-8", "replace")
    parts: list[str] = []
    run: list[bytes] = []
    for token in tokens(text):
        piece = text[token.start : token.end]
        # 123-45-6789 without quotes is five tokens and one identifier.
        if token.kind == "number" or (run and piece in _JOINING):
            run.append(piece)
            continue
        parts += [_shown_run(run), _shown_token(piece, token)]
        run = []
    return "".join([*parts, _shown_run(run)])


def unread(text: bytes) -> str:
    """A line that could not be read, as the record shows it; never raises.

    Nothing is known of its words, and a value that lost its quotes is a word: so
    only SQL's keywords, flags, and names where a relation stands are kept.
    """
    parts: list[str] = []
    before = ""
    for token in tokens(text):
        piece = text[token.start : token.end].decode("utf-8", "replace")
        if token.kind in ("word", "number"):
            lowered = piece.lower()
            kept = lowered in _KEYWORDS or before in _BEFORE_NAME
            plain = shown_name(lowered) == lowered
            parts.append(piece if kept and plain else WORD)
            before = lowered
        elif token.kind in ("space", "symbol"):
            parts.append(piece)
            before = piece if token.kind == "symbol" else before
        else:
            parts.append(_shown_token(text[token.start : token.end], token))
            before = ""
    return "".join(parts)


def shown_name(name: str) -> str:
    """A name for a message: as it is if it is a plain identifier, else ``[name]``.

    What stands where a name belongs may be a value that lost its quotes.
    """
    plain = _PLAIN_NAME.fullmatch(name) and not _LONG_DIGITS.search(name)
    return name if plain else "[name]"


def _shown_run(run: list[bytes]) -> str:
    piece = b"".join(run).decode("utf-8", "replace")
    return MASK if _digits(piece) >= _DIGIT_COUNT else piece


def _shown_token(text: bytes, token: Token) -> str:
    piece = text.decode("utf-8", "replace")
    if token.kind == "comment":
        return f"-- {MASK}" if piece.startswith("--") else f"/* {MASK} */"
    if token.kind == "string":
        return f"'{MASK}'"
    if token.kind == "quoted":
        inner = piece[1:-1]
        return piece if token.closed and shown_name(inner) == inner else f'"{MASK}"'
    if token.kind == "word" and _digits(piece) >= _DIGIT_COUNT:
        return MASK
    return piece


def _digits(piece: str) -> int:
    return sum(character.isdigit() for character in piece)
