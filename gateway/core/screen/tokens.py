"""Terminal bytes as tokens: text, and the controls on a closed list.

Sequences follow ECMA-48 as xterm reads it. What is not on the list is dropped:
titles, clipboard writes, device strings, questions (which are never answered),
unknown finals, private forms. Nothing here raises, whatever the bytes.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

BODY_LIMIT_CHARS: Final = 256
"""Parameters of one sequence; past it the sequence is dropped, the rest is text."""

PARAMETER_LIMIT: Final = 32
"""A sequence with more parameters is dropped."""

VALUE_LIMIT: Final = 9_999
"""A larger parameter counts as this."""

MODES: Final = frozenset({1, 7, 25, 47, 1047, 1049, 2004})
"""Private modes that are understood; see ``Op.MODE``."""


class Op(Enum):
    """What a control does; arguments in the order of its parameters, 0 if left out."""

    RETURN = auto()
    FEED = auto()
    TAB = auto()
    BACK = auto()
    UP = auto()
    DOWN = auto()
    RIGHT = auto()
    LEFT = auto()
    PLACE = auto()
    COLUMN = auto()
    ROW = auto()
    ERASE_DISPLAY = auto()
    ERASE_LINE = auto()
    ERASE_CHARS = auto()
    INSERT_CHARS = auto()
    DELETE_CHARS = auto()
    INSERT_LINES = auto()
    DELETE_LINES = auto()
    SCROLL_UP = auto()
    SCROLL_DOWN = auto()
    MARGINS = auto()
    REPEAT = auto()
    STYLE = auto()
    SAVE = auto()
    RESTORE = auto()
    INDEX = auto()
    REVERSE_INDEX = auto()
    NEXT_LINE = auto()
    MODE = auto()
    """One of MODES and 1 (set) or 0 (reset)."""


@dataclass(frozen=True, slots=True)
class Control:
    """One understood control; every argument is 0 to VALUE_LIMIT."""

    op: Op
    args: tuple[int, ...] = ()


Token: TypeAlias = str | Control
"""Text without any control character, never empty; or a control."""

_SINGLE = {
    "\r": Control(Op.RETURN),
    "\n": Control(Op.FEED),
    "\t": Control(Op.TAB),
    "\b": Control(Op.BACK),
}
_ESCAPES = {
    "7": Control(Op.SAVE),
    "8": Control(Op.RESTORE),
    "D": Control(Op.INDEX),
    "E": Control(Op.NEXT_LINE),
    "M": Control(Op.REVERSE_INDEX),
}
_FINALS = {
    "A": Op.UP,
    "B": Op.DOWN,
    "C": Op.RIGHT,
    "D": Op.LEFT,
    "H": Op.PLACE,
    "f": Op.PLACE,
    "G": Op.COLUMN,
    "d": Op.ROW,
    "J": Op.ERASE_DISPLAY,
    "K": Op.ERASE_LINE,
    "X": Op.ERASE_CHARS,
    "@": Op.INSERT_CHARS,
    "P": Op.DELETE_CHARS,
    "L": Op.INSERT_LINES,
    "M": Op.DELETE_LINES,
    "S": Op.SCROLL_UP,
    "T": Op.SCROLL_DOWN,
    "r": Op.MARGINS,
    "b": Op.REPEAT,
    "m": Op.STYLE,
}
# The most parameters that an operation takes; a form with more is something else
# (CSI T with five is mouse tracking) and is dropped.
_ARITY = {Op.PLACE: 2, Op.MARGINS: 2, Op.STYLE: PARAMETER_LIMIT}

_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_SEQUENCE = re.compile(
    rf"(?:\x1b\[|\x9b)(?P<body>[\x20-\x3f]{{0,{BODY_LIMIT_CHARS}}})(?P<final>[\x40-\x7e])?"
    r"|\x1b(?P<between>[\x20-\x2f]{0,4})(?P<escape>[\x30-\x7e])?"
)
_BODY = re.compile(r"([<-?]?)([0-9;:]*)")
# OSC, DCS, SOS, PM and APC, and what ends one. A line feed does too, so that a
# string which is never ended swallows no more than its own line.
_STRING_START = re.compile(r"\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]")
_STRING_END = re.compile(r"[\x07\x1b\x9c\x18\x1a\n]")


class Tokeniser:
    """Splits one stream; holds at most one unfinished sequence.

    The same bytes give the same tokens however they are split, but for where
    text is cut. Invalid UTF-8 becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._in_string = False

    @property
    def idle(self) -> bool:
        """Whether the next byte starts a token."""
        return not (self._held or self._in_string or self._decoder.getstate()[0])

    def feed(self, data: bytes) -> list[Token]:
        """Take raw bytes of any length; return the tokens that are complete."""
        return self._split(self._decoder.decode(data))

    def finish(self) -> list[Token]:
        """The stream has ended: an unfinished sequence is dropped."""
        tokens = self._split(self._decoder.decode(b"", final=True))
        self._held, self._in_string = "", False
        return tokens

    def _split(self, text: str) -> list[Token]:
        text, self._held = self._held + text, ""
        tokens: list[Token] = []
        position = 0
        while position < len(text):
            if self._in_string:
                position = self._skip_string(text, position)
            elif found := _TEXT.match(text, position):
                tokens.append(found.group())
                position = found.end()
            elif single := _SINGLE.get(text[position]):
                tokens.append(single)
                position += 1
            elif _STRING_START.match(text, position):
                self._in_string = True
                position += 2 if text[position] == "\x1b" else 1
            elif sequence := _SEQUENCE.match(text, position):
                position = self._take(sequence, text, tokens)
            else:
                position += 1
        return tokens

    def _skip_string(self, text: str, position: int) -> int:
        """The position after a string, or the end of the text."""
        end = _STRING_END.search(text, position)
        if end is None:
            return len(text)
        at = end.start()
        if text[at] == "\x1b":
            if at + 1 == len(text):
                self._held = "\x1b"
                return len(text)
            self._in_string = False
            return at + 2 if text[at + 1] == "\\" else at
        self._in_string = False
        return at if text[at] == "\n" else at + 1

    def _take(self, sequence: re.Match[str], text: str, tokens: list[Token]) -> int:
        """Read one sequence; return the position after it."""
        final, escape = sequence["final"], sequence["escape"]
        if final is None and escape is None:
            if sequence.end() == len(text):
                self._held = sequence.group()
        elif final is not None:
            tokens.extend(_control(sequence["body"], final))
        elif not sequence["between"] and escape in _ESCAPES:
            tokens.append(_ESCAPES[escape])
        return sequence.end()


def _control(body: str, final: str) -> list[Token]:
    """What a CSI sequence asks for, if it is on the list."""
    parsed = _BODY.fullmatch(body)
    if parsed is None:
        return []
    private, parameters = parsed.groups()
    groups = parameters.split(";")
    if len(groups) > PARAMETER_LIMIT:
        return []
    if private:
        on = {"h": 1, "l": 0}.get(final)
        if private != "?" or on is None or ":" in parameters:
            return []
        wanted = [_value(group) for group in groups]
        return [Control(Op.MODE, (mode, on)) for mode in wanted if mode in MODES]
    op = _FINALS.get(final)
    if op is None:
        return []
    if op is Op.STYLE:
        return [Control(op, tuple(value for group in groups for value in _style(group)))]
    if ":" in parameters or len(groups) > _ARITY.get(op, 1):
        return []
    return [Control(op, tuple(_value(group) for group in groups))]


def _value(digits: str) -> int:
    # Six digits are enough to know that it is over the limit.
    return min(int(digits.lstrip("0")[:6] or "0"), VALUE_LIMIT)


def _style(group: str) -> tuple[int, ...]:
    """One parameter of SGR; forms with colons in their older spelling."""
    if ":" not in group:
        return (_value(group),)
    values = [_value(part) for part in group.split(":")]
    kind = values[:2]
    if values[0] == 4:
        return (24,) if values[1] == 0 else (4,)
    if kind in ([38, 5], [48, 5]) and len(values) == 3:
        return tuple(values)
    if kind in ([38, 2], [48, 2]) and len(values) >= 5:
        # A sixth value, in the middle, is the colour space's identifier.
        return (*kind, *(values[3:6] if len(values) > 5 else values[2:5]))
    return ()
