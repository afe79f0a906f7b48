r"""SQL cut into tokens, and a script into statements, byte for byte.

The rules are those of PostgreSQL's scan.l with ``standard_conforming_strings``
on, and of psqlscan.l for where a statement ends. psql itself never lexes the
user's text here: the guard sends it as it is. So what only psql would act on (a
backslash command, ``\;``, a ``:variable``) is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gateway.errors import BadCommand
from gateway.sql.limits import SqlLimits

TokenKind = Literal["space", "comment", "string", "quoted", "word", "number", "symbol"]


@dataclass(frozen=True, slots=True)
class Token:
    """A lexical unit of the text.

    Attributes:
        kind: ``string`` covers every literal in quotes (also ``$$``, ``E''``,
            ``B''``), ``quoted`` an identifier in double quotes, ``word`` a keyword
            or bare identifier, ``symbol`` one byte of anything else.
        start, end: byte offsets, end exclusive.
        closed: False where the text ends inside the quotes or the comment.
        depth: deepest nesting inside a block comment, else 0.
    """

    kind: TokenKind
    start: int
    end: int
    closed: bool = True
    depth: int = 0


class SqlUnreadable(BadCommand):
    """The text is not SQL that the gate can read; the message quotes no value of it.

    Attributes:
        what: the reason without the place.
        line, column: where, 1-based, in characters; 0 where the whole text is meant.
    """

    def __init__(
        self,
        reason: str,
        advice: str = "",
        rule: str = "sql.parse",
        place: tuple[int, int] = (0, 0),
    ) -> None:
        self.what = reason
        self.line, self.column = place
        where = f" at line {self.line}, column {self.column}" if self.line else ""
        super().__init__(reason + where, advice, rule)

    def moved(self, line: int, column: int) -> SqlUnreadable:
        """The same, for a text that begins at this place of a longer one."""
        if not self.line:
            return SqlUnreadable(
                f"{self.what}, in the statement", self.advice, self.rule, (line, column)
            )
        place = (self.line + line - 1, self.column + (column - 1 if self.line == 1 else 0))
        return SqlUnreadable(self.what, self.advice, self.rule, place)


def place_of(text: bytes, offset: int) -> tuple[int, int]:
    """Line and column of a byte, 1-based, the column in characters."""
    head = text[:offset].decode("utf-8", "replace")
    return head.count("\n") + 1, len(head) - (head.rfind("\n") + 1) + 1


_HIGH = rb"\x80-\xff"
_WORD = rb"[A-Za-z_" + _HIGH + rb"][A-Za-z0-9_$" + _HIGH + rb"]*"
# Two literals with only blanks, comments and at least one line break between
# them are one literal, and the second keeps the first one's escapes.
_JOINT = rb"(?:[ \t\f\v]|--[^\r\n]*+)*+[\r\n](?:[ \t\r\n\f\v]+|--[^\r\n]*+[\r\n])*+"
_ESCAPED = rb"'(?:[^'\\]|\\.|'')*+'"
_PLAIN = rb"'(?:[^']|'')*+'"

# The outer repeats are not possessive: Python 3.11.2 (Debian 12) would keep a joint
# that no second literal follows.
_TOKEN = re.compile(
    rb"(?P<space>[ \t\r\n\f\v]+)"
    rb"|(?P<line>--[^\r\n]*)"
    rb"|(?P<block>/\*)"
    rb"|(?P<escaped>[eE]" + _ESCAPED + rb"(?:" + _JOINT + _ESCAPED + rb")*)"
    rb"|(?P<plain>(?:[uU]&|[bBxXnN])?" + _PLAIN + rb"(?:" + _JOINT + _PLAIN + rb")*)"
    rb"|(?P<open_string>(?:[uU]&|[bBxXnNeE])?')"
    rb'|(?P<quoted>(?:[uU]&)?"(?:[^"]|"")*+")'
    rb'|(?P<open_quoted>(?:[uU]&)?")'
    rb"|(?P<dollar>\$(?:[A-Za-z_" + _HIGH + rb"][A-Za-z0-9_" + _HIGH + rb"]*)?\$)"
    rb"|(?P<word>" + _WORD + rb")"
    rb"|(?P<number>\.?[0-9](?:[eE][+-][0-9]|[0-9A-Za-z_." + _HIGH + rb"])*)"
    rb"|(?P<symbol>.)",
    re.DOTALL,
)
_KINDS: dict[str, TokenKind] = {
    "space": "space",
    "line": "comment",
    "escaped": "string",
    "plain": "string",
    "quoted": "quoted",
    "word": "word",
    "number": "number",
    "symbol": "symbol",
}
_COMMENT_EDGE = re.compile(rb"/\*|\*/")


def tokens(text: bytes) -> Iterator[Token]:
    """Cut the whole text into tokens, without gaps or overlaps; never raises."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        group = match.lastgroup if match else None
        if match is None or group is None:  # the last alternative takes any byte
            token = Token("symbol", position, position + 1)
        elif group in _KINDS:
            token = Token(_KINDS[group], position, match.end())
        elif group == "block":
            token = _block_comment(text, position)
        elif group == "dollar":
            end = text.find(match.group(), match.end())
            closed = end >= 0
            end = end + len(match.group()) if closed else len(text)
            token = Token("string", position, end, closed)
        else:
            kind: TokenKind = "string" if group == "open_string" else "quoted"
            token = Token(kind, position, len(text), closed=False)
        yield token
        position = token.end


def _block_comment(text: bytes, start: int) -> Token:
    depth = deepest = 0
    for edge in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if edge.group() == b"/*" else -1
        deepest = max(deepest, depth)
        if depth == 0:
            return Token("comment", start, edge.end(), depth=deepest)
    return Token("comment", start, len(text), closed=False, depth=deepest)


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement of a script: ``text[start:end]``, its semicolon included."""

    start: int
    end: int


_BLOCK_WORDS = frozenset({b"create", b"or", b"replace", b"function", b"procedure"})


class _Statement:
    """The state of psql's lexer within one statement."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.parens = 0
        self.blocks = 0
        self._words = 0
        self._head = b""

    def see_word(self, word: bytes) -> None:
        """Track BEGIN ... END in the body of a CREATE FUNCTION, as psqlscan.l does."""
        if self._words < 4:
            self._head += word[:1] if word in _BLOCK_WORDS else b"."
        self._words += 1
        if not self._head.startswith((b"cf", b"cp", b"corf", b"corp")) or self.parens:
            return
        if word == b"begin" or (word == b"case" and self.blocks):
            self.blocks += 1
        elif word == b"end" and self.blocks:
            self.blocks -= 1

    def ends(self, symbol: bytes) -> bool:
        """Take one symbol; True if it ends the statement."""
        if symbol == b"(":
            self.parens += 1
        elif symbol == b")":
            self.parens = max(0, self.parens - 1)
        return symbol == b";" and not self.parens and not self.blocks


def split(text: bytes, limits: SqlLimits) -> Iterator[Piece]:
    """Cut a script into statements where psql would, one at a time.

    Empty statements are left out; between the pieces lie only blanks, comments
    and surplus semicolons. The last statement needs no semicolon.

    Raises:
        SqlUnreadable: the script is too long, has too many statements, ends inside
            quotes or a comment, or holds a backslash command; at the place where the
            cutting gets to it, so what was yielded before holds.
    """
    if len(text) > limits.script_bytes:
        raise SqlUnreadable(
            f"the script is longer than {limits.script_bytes} bytes", _IN_PARTS, "sql.size"
        )
    for count, piece in enumerate(_pieces(text), 1):
        if count > limits.statements:
            raise SqlUnreadable(
                f"the script has more than {limits.statements} statements", _IN_PARTS, "sql.size"
            )
        yield piece


_IN_PARTS = "Send it in parts, each as a script of its own."


def _pieces(text: bytes) -> Iterator[Piece]:
    current: _Statement | None = None
    for token in tokens(text):
        if not token.closed:
            what = "a comment" if token.kind == "comment" else "quotes"
            place = place_of(text, token.start)
            raise SqlUnreadable(f"the script ends inside {what} opened", "Close it.", place=place)
        if token.kind in ("space", "comment"):
            continue
        symbol = text[token.start : token.end]
        if symbol == b"\\":
            raise backslash_refusal(text, token.start)
        current = current or _Statement(token.start)
        if token.kind == "word":
            current.see_word(symbol.lower())
        elif token.kind == "symbol" and current.ends(symbol):
            if current.start != token.start:
                yield Piece(current.start, token.end)
            current = None
    if current is not None:
        yield Piece(current.start, len(text.rstrip(b" \t\r\n\f\v")))


_META = re.compile(rb"\\([A-Za-z]{1,20}|[!?;])")
_INSTEAD = {
    "d": "Query information_schema.tables and information_schema.columns.",
    "copy": "Use COPY (query) TO STDOUT and redirect the output of ssh.",
    "g": "End the statement with a semicolon.",
    "gx": "Ask for expanded output: psql -x -c '...'.",
    "x": "Ask for expanded output: psql -x -c '...'.",
    "t": "Ask for rows only: psql -t -c '...'.",
    "a": "Ask for unaligned output: psql -A -c '...'.",
    "pset": "Give the format as a flag: psql --csv -c '...'.",
    "i": "Send the file on standard input: ssh gateway < file.sql.",
    "ir": "Send the file on standard input: ssh gateway < file.sql.",
    "o": "Redirect the output of ssh.",
    "c": "Open another session for another target.",
    "set": "Only psql -v ON_ERROR_STOP=1 is taken; write values into the text.",
    "timing": "Time the ssh command.",
    "watch": "Repeat the ssh command.",
    "q": "Leave it out; the session ends with the input.",
    ";": "Use a semicolon without the backslash.",
}


def backslash_refusal(text: bytes, offset: int) -> SqlUnreadable:
    """The refusal of the backslash at ``offset``, naming the command if it is psql's."""
    match = _META.match(text, offset)
    name = match.group(1).decode("ascii") if match else ""
    known = name if name in _INSTEAD else name[:1] if name[:1] == "d" else ""
    if known:
        reason = f"psql's backslash command \\{known} does not run here"
    else:
        reason = "psql's backslash commands do not run here, and one stands"
    advice = _INSTEAD.get(known, "Send SQL only.")
    return SqlUnreadable(reason, advice, "sql.meta-command", place_of(text, offset))
