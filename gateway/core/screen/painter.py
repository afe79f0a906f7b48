"""What to send so that the client's terminal shows the masked cells.

The painter keeps what the client shows and sends the difference. It moves up and
down relatively, so a screen may begin in the middle of the client's window: rows
that were never visited are reached by line feeds, which scroll the client where
the window ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyte.screens import Char

from gateway.core.screen.controls import (
    Column,
    Down,
    Fixed,
    Mode,
    Segment,
    Style,
    Text,
    Up,
)
from gateway.core.screen.rows import width_of
from gateway.core.screen.style import BLANK, style_of

_GAP = 4  # unchanged cells that cost no more to send than to step over
_DEFAULT = Style(())


class Painter:
    """The client's terminal, as far as we know it; one screen (main or alternate).

    Attributes:
        shown: the cells that the client shows.
        lowest: the lowest row visited so far; the client has it and all above it.
    """

    def __init__(self, columns: int, lines: int, *, whole: bool = False) -> None:
        self.columns = columns
        self.shown: list[list[Char]] = [[BLANK] * columns for _ in range(lines)]
        self.lowest = lines - 1 if whole else 0
        self._y = self._x = 0
        self._style = _DEFAULT
        self._out: list[Segment] = []

    def take(self) -> list[Segment]:
        """What is to be sent, once."""
        out, self._out = self._out, []
        return out

    def adopt(self, shown: list[list[Char]], y: int) -> None:
        """The client shows these cells, its cursor in row y, by what was sent otherwise."""
        self.shown = shown
        self._y, self._x = y, -1
        self.lowest = max(self.lowest, y)

    def mode(self, number: int, on: bool) -> None:
        """Set or reset a mode of the client's terminal."""
        self._restyle(_DEFAULT)
        self._out.append(Mode(number, on))

    def clear(self) -> None:
        """Start again on an empty window, whose first row is the screen's first."""
        self._restyle(_DEFAULT)
        self._out += [Fixed.HOME, Fixed.CLEAR_BELOW]
        self._y = self._x = 0
        self.lowest = len(self.shown) - 1
        self.shown = [[BLANK] * self.columns for _ in self.shown]

    def settle(self) -> None:
        """Make the window's first row the screen's first, by scrolling what is older away."""
        self.go(len(self.shown) - 1, 0)

    def scroll(self) -> None:
        """The top row goes to the client's scrollback."""
        self.go(len(self.shown) - 1, 0)
        self._out.append(Fixed.FEED)
        self.shown = [*self.shown[1:], [BLANK] * self.columns]

    def paint(self, rows: Mapping[int, Sequence[Char]]) -> None:
        """Send what differs in these rows; the cursor is left anywhere."""
        for y in sorted(rows):
            self._paint_row(y, rows[y])
        self._restyle(_DEFAULT)

    def go(self, y: int, x: int) -> None:
        """Move the client's cursor."""
        if y > self.lowest:
            self._restyle(_DEFAULT)
            self.go(self.lowest, 0)
            # What the window still shows down there is none of this screen's.
            self._out += [Fixed.FEED, Fixed.CLEAR_RIGHT] * (y - self.lowest)
            self.lowest = self._y = y
        if y < self._y:
            self._out.append(Up(self._y - y))
        elif y > self._y:
            self._out.append(Down(y - self._y))
        if x != self._x:
            self._out.append(Column(x) if x else Fixed.RETURN)
        self._y, self._x = y, x

    def _restyle(self, style: Style) -> None:
        if style != self._style:
            self._out.append(style)
            self._style = style

    def _paint_row(self, y: int, cells: Sequence[Char]) -> None:
        old = self.shown[y]
        changed = [x for x in range(self.columns) if old[x] != cells[x]]
        if not changed:
            return
        text = [cell.data for cell in cells]
        starts = [0]
        for data in text:
            starts.append(starts[-1] + len(data))
        line = "".join(text)
        blank_from = next((x + 1 for x in range(self.columns - 1, -1, -1) if cells[x] != BLANK), 0)
        for start, end in _runs(changed):
            shown_end = min(end, max(blank_from, start))
            if shown_end > start:
                self._paint_run(y, start, shown_end, cells, line, starts)
            if shown_end < end:
                self.go(y, shown_end)
                self._restyle(_DEFAULT)
                self._out.append(Fixed.CLEAR_RIGHT)
                break
        self.shown[y] = list(cells)

    def _paint_run(
        self,
        y: int,
        start: int,
        end: int,
        cells: Sequence[Char],
        line: str,
        starts: Sequence[int],
    ) -> None:
        """Write some columns; a terminal that counts a character otherwise is put right."""
        x = start
        while x < end:
            stop = x + 1
            style = style_of(cells[x])
            sure = _is_sure(cells[x].data)
            while (
                stop < end
                and (cells[stop].data == "" or (sure and _is_sure(cells[stop].data)))
                and style_of(cells[stop]) == style
            ):
                stop += 1
            self.go(y, x)
            self._restyle(style)
            self._out.append(Text(line, starts[x], starts[stop]))
            # Past the last column a terminal's cursor is at no place we can name.
            self._x = stop if sure and stop < self.columns else -1
            x = stop


def _is_sure(data: str) -> bool:
    """Whether every terminal takes one cell for it."""
    if data.isascii():
        return data != ""
    return len(data) == 1 and "\u2500" <= data <= "\u259f" and width_of(data) == 1


def _runs(changed: Sequence[int]) -> list[tuple[int, int]]:
    """Columns to write, with small gaps filled.

    A wide character's halves change together, because the screen blanks a half alone.
    """
    runs: list[tuple[int, int]] = []
    for x in changed:
        if runs and x <= runs[-1][1] + _GAP:
            runs[-1] = (runs[-1][0], x + 1)
        else:
            runs.append((x, x + 1))
    return runs
