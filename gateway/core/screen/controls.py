"""All that the screen may send: checked text and a closed set of controls.

``core.mask.painted`` is the only reader. Controls hold numbers and never text,
so nothing that came from a child can travel in one. Sequences are ECMA-48's and
xterm's (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

FILL: Final = "█"
"""The mask glyph: one cell of something that is hidden."""

CLIENT_MODES: Final = frozenset({1, 25, 1049, 2004})
"""Private modes that reach the client's terminal: cursor keys, cursor shown,
alternate screen, bracketed paste."""

_NUMBER_LIMIT = 9_999


def _number(value: int) -> int:
    if not 0 <= value <= _NUMBER_LIMIT:
        raise ValueError("a control's number is out of bounds")
    return value


class Fixed(Enum):
    """Controls without a number; the value is what is sent."""

    RETURN = "\r"
    FEED = "\n"
    HOME = "\x1b[H"
    CLEAR_BELOW = "\x1b[J"
    CLEAR_RIGHT = "\x1b[K"


@dataclass(frozen=True, slots=True)
class Text:
    """The cells ``line[start:end]`` of one row.

    Attributes:
        line: the whole row, masked already; it is searched whole, because what
            stands beside a number decides whether it is an identifier.
    """

    line: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Lines:
    """Complete lines, masked already; each line feed is sent as CR LF."""

    text: str


@dataclass(frozen=True, slots=True)
class Up:
    """The cursor goes up, at least one row."""

    count: int

    def sequence(self) -> str:
        """What is sent."""
        return f"\x1b[{_number(self.count)}A"


@dataclass(frozen=True, slots=True)
class Down:
    """The cursor goes down, at least one row, and never scrolls."""

    count: int

    def sequence(self) -> str:
        """What is sent."""
        return f"\x1b[{_number(self.count)}B"


@dataclass(frozen=True, slots=True)
class Column:
    """The cursor goes to a column, counted from 0."""

    x: int

    def sequence(self) -> str:
        """What is sent."""
        return f"\x1b[{_number(self.x + 1)}G"


@dataclass(frozen=True, slots=True)
class Mode:
    """One of CLIENT_MODES is set or reset."""

    number: int
    on: bool

    def sequence(self) -> str:
        """What is sent.

        Raises:
            ValueError: not one of CLIENT_MODES.
        """
        if self.number not in CLIENT_MODES:
            raise ValueError("this mode does not reach the client")
        return f"\x1b[?{self.number}{'h' if self.on else 'l'}"


@dataclass(frozen=True, slots=True)
class Style:
    """All attributes of the text that follows; no parameters: the default."""

    parameters: tuple[int, ...]

    def sequence(self) -> str:
        """What is sent: a reset and the parameters."""
        return "\x1b[" + ";".join(str(_number(value)) for value in (0, *self.parameters)) + "m"


Segment: TypeAlias = Text | Lines | Fixed | Up | Down | Column | Mode | Style
"""One piece of output, in order."""
