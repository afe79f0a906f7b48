"""PostgreSQL's own grammar, through the libpg_query that postgast bundles.

Called by ctypes and read as JSON: postgast's protobuf path fails at some 25
nested subqueries. Deep nesting overflows the C stack and ends the process, so
this runs in a worker that may die; the checks before it keep that rare.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from postgast.native import lib

from gateway.sql.lexing import SqlUnreadable, backslash_refusal, place_of, tokens
from gateway.sql.limits import SqlLimits


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement of a text.

    Attributes:
        kind: its node, as ``SelectStmt``.
        fields: what libpg_query's JSON has inside the node. Fields that are zero,
            false or empty are left out by it.
        start, end: byte offsets in the text, without the semicolon.
    """

    kind: str
    fields: dict[str, Any]
    start: int
    end: int

    @property
    def tree(self) -> dict[str, Any]:
        """The statement as libpg_query's JSON has it: ``{kind: fields}``."""
        return {self.kind: self.fields}


def parse(text: bytes, limits: SqlLimits | None = None) -> list[RawStatement]:
    """Parse a text of any number of statements.

    Args:
        text: UTF-8, as the server would get it.
        limits: the defaults if None.

    Returns:
        The statements in order; empty for a text of blanks and comments.

    Raises:
        SqlUnreadable: the text is not UTF-8, holds a NUL, is over a limit, or the
            grammar refuses it. The message quotes nothing of the text but
            keywords and punctuation.
    """
    limits = limits or SqlLimits()
    _check(text, limits)
    result = lib.pg_query_parse(text)
    try:
        if result.error:
            error = result.error.contents
            message = (error.message or b"").decode("utf-8", "replace")
            raise _unreadable(message, text, int(error.cursorpos))
        raw: bytes = result.parse_tree
    finally:
        lib.pg_query_free_parse_result(result)
    try:
        statements = json.loads(raw)["stmts"]
    except (RecursionError, ValueError, KeyError) as error:
        raise too_deep() from error
    if len(statements) > limits.statements:
        raise SqlUnreadable(
            f"the text has more than {limits.statements} statements",
            "Send fewer at once.",
            "sql.size",
        )
    return [_statement(entry, len(text)) for entry in statements]


def _statement(entry: dict[str, Any], size: int) -> RawStatement:
    ((kind, fields),) = entry["stmt"].items()
    start = int(entry.get("stmt_location", 0))
    length = int(entry.get("stmt_len", 0)) or size - start
    return RawStatement(kind, fields, start, start + length)


def check_encoding(text: bytes) -> None:
    """Accept UTF-8 without NUL only.

    Raises:
        SqlUnreadable: rule ``sql.encoding``.
    """
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SqlUnreadable("the text is not valid UTF-8", "Send UTF-8.", "sql.encoding") from error
    if b"\0" in text:
        raise SqlUnreadable("the text holds a NUL byte", "Remove it.", "sql.encoding")


def _check(text: bytes, limits: SqlLimits) -> None:
    if len(text) > limits.statement_bytes:
        raise SqlUnreadable(
            f"the statement is longer than {limits.statement_bytes} bytes",
            "Shorten it, or send a script of shorter statements.",
            "sql.size",
        )
    check_encoding(text)
    brackets = 0
    for token in tokens(text):
        if token.depth > limits.comments:
            raise too_deep()
        if token.kind == "symbol":
            symbol = text[token.start]
            brackets += (symbol in b"([") - (symbol in b")]")
            if brackets > limits.brackets:
                raise too_deep()


def too_deep() -> SqlUnreadable:
    """The refusal of a text whose nesting is over a limit."""
    return SqlUnreadable("the text is nested too deeply", "Write it flatter.", "sql.size")


_VARIABLE = re.compile(r""":(?:[A-Za-z_\x80-\U0010ffff]|'[A-Za-z0-9_]+'|"[A-Za-z0-9_]+"|\{\?)""")
_NEAR = {
    "string": "a string",
    "number": "a number",
    "quoted": "a quoted name",
    "comment": "a comment",
}
# The only words that a message may quote: none of them can be a value.
_PLAIN_WORDS = """
    all and any as asc by case create cross default delete desc distinct do drop else end
    except false for from full group having if in inner insert intersect into is join left
    like limit natural not null offset on or order outer returning right select set table
    then true union update using values when where window with
"""
_QUOTABLE = frozenset(_PLAIN_WORDS.split())


def _unreadable(message: str, text: bytes, cursor: int) -> SqlUnreadable:
    """Turn libpg_query's message into one that quotes no value.

    Args:
        cursor: 1-based, in characters, as PostgreSQL counts.
    """
    characters = text.decode("utf-8")
    if not 0 < cursor <= len(characters) + 1:
        return SqlUnreadable("the text is not PostgreSQL's SQL", "Check the syntax.")
    head, rest = characters[: cursor - 1], characters[cursor - 1 :]
    offset = len(head.encode())
    if rest.startswith("\\"):
        return backslash_refusal(text, offset)
    place = place_of(text, offset)
    if _VARIABLE.match(rest) or (head.endswith(":") and _VARIABLE.match(":" + rest)):
        return SqlUnreadable(
            "psql's :variables are not filled in here, and one stands",
            "Write the value into the text.",
            "sql.variable",
            place,
        )
    reason = message.split(" at or near ")[0].split('"')[0].strip() or "syntax error"
    advice = "The text is read by PostgreSQL 18's grammar; check the syntax."
    return SqlUnreadable(f"{reason} near {_near(rest.encode())}", advice, place=place)


def _near(rest: bytes) -> str:
    token = next(iter(tokens(rest)), None)
    if token is None:
        return "the end"
    shown = rest[token.start : token.end].decode("utf-8", "replace")
    if token.kind == "word":
        return f'"{shown}"' if shown.lower() in _QUOTABLE else "a word"
    if token.kind == "symbol":
        return f'"{shown}"' if shown.isprintable() else "a symbol"
    return _NEAR.get(token.kind, "a blank")
