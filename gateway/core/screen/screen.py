"""The screen's cells: pyte's model, driven only with what it does well.

pyte keeps the cells and the cursor. What it gets wrong is done here: drawing
(wide, zero-width and combining characters, wraps), erasing, inserting, deleting
and scrolling, margins, the saved cursor, the alternate screen, resizing.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, cast

import pyte
from pyte.screens import Char, StaticDefaultDict

from gateway.core.screen.rows import MARKS_LIMIT, Row, continued, rewrapped, width_of
from gateway.core.screen.style import BLANK, restyled
from gateway.core.screen.tokens import Control, Op

GONE_LIMIT: Final = 100
"""Rows that may scroll away before they are painted."""


class Grid(pyte.Screen):
    """One terminal's screen, main and alternate.

    Attributes:
        above: rows of the logical line that the top row, or the first of ``gone``, continues.
        gone: rows that scrolled away since the last painting, oldest first.
        anchor: the row and column last written by the child, not by an echo;
            None when that line has ended.
        alternate: the alternate screen is shown.
        scrolled: called when GONE_LIMIT rows are gone; it is to paint and call ``forget``.
            Without it rows that scroll away are not kept.
    """

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines)
        self.buffer = cast("dict[int, StaticDefaultDict[int, Char]]", defaultdict(Row))
        self.above: list[Row] = []
        self.gone: list[Row] = []
        self.anchor: tuple[Row, int] | None = None
        self.autowrap = True
        self.scrolled: Callable[[], None] | None = None
        self._saved: tuple[int, int, Char] = (0, 0, BLANK)
        self._last = ""
        self._main: tuple[list[Row], list[Row], tuple[int, int, Char]] | None = None

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return self._main is not None

    def row(self, y: int) -> Row:
        """One row, 0 to lines - 1; made if it was never written."""
        return cast("Row", self.buffer[y])

    def rows(self) -> list[Row]:
        """All rows of the screen that is shown."""
        return [self.row(y) for y in range(self.lines)]

    def load(self, rows: Sequence[Row]) -> None:
        """Show these rows, of which there are ``lines``."""
        self.buffer.clear()
        self.buffer.update(enumerate(rows))
        self.touch()

    def touch(self) -> None:
        """All rows are to be painted again."""
        for row in self.rows():
            row.dirty = True

    def forget(self) -> None:
        """All is painted."""
        self.above = continued([*self.above, *self.gone], self.columns)
        self.gone = []
        for row in self.rows():
            row.dirty = False

    # --- text ---------------------------------------------------------------

    def write(self, text: str, *, echo: bool = False) -> None:
        """Draw text at the cursor, as a terminal does."""
        drawn = False
        for char in text:
            width = width_of(char)
            if width > 0:
                self._put(char, width)
                self._last = char
                drawn = True
            elif width == 0:
                self._combine(char)
        if drawn and not echo:
            self.anchor = (self.row(self.cursor.y), self.cursor.x - 1)

    def _put(self, char: str, width: int) -> None:
        cursor = self.cursor
        if cursor.x + width > self.columns:
            if self.autowrap:
                self.row(cursor.y).wraps = True
                cursor.x = 0
                self._index()
            else:
                cursor.x = self.columns - width
        row, x = self.row(cursor.y), cursor.x
        row.dirty = True
        if row.wide:
            # Blank the halves of wide characters whose other half is written over.
            if x > 0 and row[x].data == "":
                row[x - 1] = row[x - 1]._replace(data=" ")
            if x + width < self.columns and row[x + width].data == "":
                row[x + width] = row[x + width]._replace(data=" ")
        row[x] = Char(char, *cursor.attrs[1:])
        if width == 2:
            row.wide = True
            row[x + 1] = Char("", *cursor.attrs[1:])
        cursor.x = x + width

    def _combine(self, mark: str) -> None:
        row, x = self.row(self.cursor.y), self.cursor.x - 1
        if x >= 0 and row[x].data == "":
            x -= 1
        if x < 0 or x not in row:
            return
        data = unicodedata.normalize("NFC", row[x].data + mark)
        # Terminals disagree about marks on wide characters and in the last column.
        plain = width_of(data[0]) == 1 and x < self.columns - 1
        if len(data) <= len(row[x].data) or (plain and len(data) <= 1 + MARKS_LIMIT):
            row[x] = row[x]._replace(data=data)
            row.dirty = True

    def _mend(self, y: int) -> None:
        """Blank the halves of wide characters that lost their other half."""
        row = self.row(y)
        row.dirty = True
        if not row.wide:
            return
        before = ""
        for x in range(self.columns):
            data = row[x].data
            after = row[x + 1].data if x + 1 < self.columns else None
            is_wide = data != "" and width_of(data[0]) == 2
            if (data == "" and before != "wide") or (is_wide and after != ""):
                row[x] = row[x]._replace(data=" ")
                is_wide = False
            before = "wide" if is_wide else ""

    # --- controls -----------------------------------------------------------

    def perform(self, control: Control, *, echo: bool = False) -> None:
        """Do what a control asks for; modes of the client's terminal do nothing here."""
        first = control.args[0] if control.args else 0
        if control.op is Op.REPEAT:
            self.write(self._last * min(first or 1, self.columns), echo=echo)
        elif control.op is Op.STYLE:
            self.cursor.attrs = restyled(self.cursor.attrs, control.args)
        elif control.op is Op.MODE:
            self._set_mode(first, bool(control.args[1]))
        elif control.op in _PAIRS:
            _PAIRS[control.op](self, first, control.args[1] if len(control.args) > 1 else 0)
        elif control.op in _ERASES:
            _ERASES[control.op](self, first)
        elif control.op in _COUNTED:
            _COUNTED[control.op](self, first or 1)

    @property
    def region(self) -> tuple[int, int]:
        """First and last row that scroll."""
        return (self.margins.top, self.margins.bottom) if self.margins else (0, self.lines - 1)

    def _move(self, y: int, x: int) -> None:
        self.cursor.y, self.cursor.x = y, x
        self.ensure_hbounds()
        self.cursor.y = min(max(0, y), self.lines - 1)

    def _vertical(self, delta: int) -> None:
        top, bottom = self.region
        y = self.cursor.y
        if delta < 0:
            self._move(max(y + delta, top if y >= top else 0), self.cursor.x)
        else:
            self._move(min(y + delta, bottom if y <= bottom else self.lines - 1), self.cursor.x)

    def _horizontal(self, delta: int) -> None:
        self._move(self.cursor.y, min(self.cursor.x, self.columns - 1) + delta)

    def _tab(self) -> None:
        self._move(self.cursor.y, (self.cursor.x // 8 + 1) * 8)

    def _feed(self) -> None:
        self.anchor = None
        self.ensure_hbounds()
        self._index()

    def _next_line(self) -> None:
        self.cursor.x = 0
        self._feed()

    def _index(self) -> None:
        top, bottom = self.region
        if self.cursor.y == bottom:
            self._scroll(top, bottom, 1)
        elif self.cursor.y < self.lines - 1:
            self.cursor.y += 1

    def _reverse_index(self) -> None:
        top, bottom = self.region
        if self.cursor.y == top:
            self._scroll(top, bottom, -1)
        elif self.cursor.y > 0:
            self.cursor.y -= 1

    def _scroll(self, top: int, bottom: int, count: int) -> None:
        """Move the rows of a region up by ``count``, or down when it is negative."""
        size = bottom - top + 1
        count = max(-size, min(count, size))
        if count > 0 and size == self.lines and not self.alternate:
            for _ in range(count):
                self._leave()
            return
        kept = [self.row(y) for y in range(top, bottom + 1)]
        if count > 0:
            kept = kept[count:] + [Row() for _ in range(count)]
        else:
            kept = [Row() for _ in range(-count)] + kept[: size + count]
        self.buffer.update(zip(range(top, bottom + 1), kept, strict=True))
        for row in kept:
            row.dirty = True

    def _leave(self) -> None:
        """The main screen's top row goes to the scrollback."""
        rows = self.rows()
        self.buffer.update(enumerate([*rows[1:], Row()]))
        self.gone.append(rows[0])
        if self.scrolled is None:
            self.above = continued([*self.above, *self.gone], self.columns)
            self.gone = []
        elif len(self.gone) >= GONE_LIMIT:
            self.scrolled()

    def _scroll_region(self, count: int) -> None:
        self._scroll(*self.region, count)

    def _shift_lines(self, count: int) -> None:
        top, bottom = self.region
        if top <= self.cursor.y <= bottom:
            at_top = self.cursor.y == 0 and bottom == self.lines - 1
            if at_top and count > 0 and not self.alternate:
                # Deleted lines are gone; only scrolling sends them to the scrollback.
                self.load([*self.rows()[count:], *(Row() for _ in range(min(count, self.lines)))])
            else:
                self._scroll(self.cursor.y, bottom, count)
            self.cursor.x = 0

    def _erase(self, y: int, start: int, end: int) -> None:
        row = self.row(y)
        background = self.cursor.attrs.bg
        for x in range(start, min(end, self.columns)):
            if background == "default":
                row.pop(x, None)
            else:
                row[x] = BLANK._replace(bg=background)
        if end >= self.columns:
            row.wraps = False
        self._mend(y)

    def _erase_line(self, how: int) -> None:
        x = min(self.cursor.x, self.columns - 1)
        bounds = {0: (x, self.columns), 1: (0, x + 1), 2: (0, self.columns)}.get(how)
        if bounds:
            self._erase(self.cursor.y, *bounds)

    def _erase_display(self, how: int) -> None:
        rows = {
            0: range(self.cursor.y + 1, self.lines),
            1: range(self.cursor.y),
            2: range(self.lines),
        }.get(how, range(0))
        for y in rows:
            self._erase(y, 0, self.columns)
        if how in (0, 1):
            self._erase_line(how)

    def _erase_chars(self, count: int) -> None:
        x = min(self.cursor.x, self.columns - 1)
        self._erase(self.cursor.y, x, x + count)

    def _shift_chars(self, count: int) -> None:
        """Delete characters at the cursor, or insert blanks when negative."""
        y, at = self.cursor.y, min(self.cursor.x, self.columns - 1)
        row = self.row(y)
        moved = {
            x - count: cell for x, cell in row.items() if x >= (at + count if count > 0 else at)
        }
        for x in range(at, self.columns):
            row.pop(x, None)
        row.update({x: cell for x, cell in moved.items() if x < self.columns})
        self._mend(y)

    def _set_margins(self, top: int, bottom: int) -> None:
        top, bottom = max(top, 1), min(bottom or self.lines, self.lines)
        if top < bottom:
            whole = (top, bottom) == (1, self.lines)
            self.margins = None if whole else pyte.screens.Margins(top - 1, bottom - 1)
            self._move(0, 0)

    def _save(self) -> None:
        self._saved = (self.cursor.y, self.cursor.x, self.cursor.attrs)

    def _restore(self) -> None:
        y, x, self.cursor.attrs = self._saved
        self._move(y, x)

    def _set_mode(self, number: int, on: bool) -> None:
        if number == 7:
            self.autowrap = on
        elif number in (47, 1047, 1049) and on != self.alternate:
            self._switch(restore=number == 1049)

    def _switch(self, *, restore: bool) -> None:
        """Show the other screen; the alternate one is always empty at first."""
        self.anchor = None
        place = (self.cursor.y, self.cursor.x, self.cursor.attrs)
        if self._main is None:
            self._main = (self.rows(), self.above, place)
            self.above = []
            self.load([Row() for _ in range(self.lines)])
            return
        rows, self.above, place = self._main
        self._main = None
        self.load(rows)
        if restore:
            self._move(place[0], place[1])
            self.cursor.attrs = place[2]

    # --- size ---------------------------------------------------------------

    def fit(self, columns: int, lines: int) -> None:
        """Change the size: the main screen's lines are wrapped anew, the alternate's cut."""
        if self._main is None:
            rows, self.above, y, x = rewrapped(
                [*self.above, *self.rows()],
                (len(self.above) + self.cursor.y, self.cursor.x),
                columns,
                lines,
            )
        else:
            kept, above, (y, x, attrs) = self._main
            kept, above, y, x = rewrapped([*above, *kept], (len(above) + y, x), columns, lines)
            self._main = (kept, above, (y, x, attrs))
            rows = self.rows()[:lines]
            rows += [Row() for _ in range(lines - len(rows))]
            for row in rows:
                for gone in [at for at in row if at >= columns]:
                    del row[gone]
            y, x = self.cursor.y, self.cursor.x
        self.columns, self.lines, self.margins = columns, lines, None
        self.load(rows)
        for at in range(lines):
            self._mend(at)
        self._move(y, x)


_PAIRS: dict[Op, Callable[[Grid, int, int], None]] = {
    Op.PLACE: lambda grid, y, x: grid._move(max(y, 1) - 1, max(x, 1) - 1),
    Op.MARGINS: Grid._set_margins,
}
_ERASES: dict[Op, Callable[[Grid, int], None]] = {
    Op.ERASE_DISPLAY: Grid._erase_display,
    Op.ERASE_LINE: Grid._erase_line,
}
_COUNTED: dict[Op, Callable[[Grid, int], None]] = {
    Op.RETURN: lambda grid, _: grid._move(grid.cursor.y, 0),
    Op.FEED: lambda grid, _: grid._feed(),
    Op.TAB: lambda grid, _: grid._tab(),
    Op.BACK: lambda grid, _: grid._horizontal(-1),
    Op.UP: lambda grid, count: grid._vertical(-count),
    Op.DOWN: lambda grid, count: grid._vertical(count),
    Op.RIGHT: lambda grid, count: grid._horizontal(count),
    Op.LEFT: lambda grid, count: grid._horizontal(-count),
    Op.COLUMN: lambda grid, x: grid._move(grid.cursor.y, x - 1),
    Op.ROW: lambda grid, y: grid._move(y - 1, grid.cursor.x),
    Op.ERASE_CHARS: Grid._erase_chars,
    Op.INSERT_CHARS: lambda grid, count: grid._shift_chars(-count),
    Op.DELETE_CHARS: Grid._shift_chars,
    Op.INSERT_LINES: lambda grid, count: grid._shift_lines(-count),
    Op.DELETE_LINES: Grid._shift_lines,
    Op.SCROLL_UP: Grid._scroll_region,
    Op.SCROLL_DOWN: lambda grid, count: grid._scroll_region(-count),
    Op.SAVE: lambda grid, _: grid._save(),
    Op.RESTORE: lambda grid, _: grid._restore(),
    Op.INDEX: lambda grid, _: grid._feed(),
    Op.REVERSE_INDEX: lambda grid, _: grid._reverse_index(),
    Op.NEXT_LINE: lambda grid, _: grid._next_line(),
}
