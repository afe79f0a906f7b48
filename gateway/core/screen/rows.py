"""Rows of cells, and how logical lines lie over them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Final

from pyte.screens import Char, StaticDefaultDict
from wcwidth import wcwidth

from gateway.core.screen.style import BLANK

MARKS_LIMIT: Final = 2
"""Combining marks that one cell keeps; more are dropped."""

CONTEXT_CELLS: Final = 1_024
"""Cells kept of a logical line whose beginning has scrolled away; twice what any
pattern matches."""


class Row(StaticDefaultDict[int, Char]):
    """One row of cells; a cell that was never written is missing.

    Attributes:
        wraps: the text went on in the next row by itself.
        linked: at the last masking this row was searched with the next one.
        held: at the last masking cells of it were held back.
        found: what was found to begin in it at the last masking, by pattern name.
        wide: it may hold a wide character.
        dirty: it changed, or came to stand elsewhere, since the last painting.
    """

    def __init__(self) -> None:
        super().__init__(BLANK)
        self.wraps = False
        self.linked = False
        self.held = False
        self.wide = False
        self.dirty = True
        self.found: Counter[str] = Counter()

    def used(self) -> int:
        """Columns up to the last that is not blank."""
        end = max(self, default=-1) + 1
        while end and self[end - 1].data == " ":
            end -= 1
        return end


@lru_cache(maxsize=4096)
def width_of(char: str) -> int:
    """Cells that a character takes: 0 to 2; -1 for one that is never shown.

    Format characters (soft hyphen, joiners, bidi controls) are never shown.
    """
    if unicodedata.category(char) in ("Cf", "Cc", "Cs", "Zl", "Zp"):
        return -1
    return min(wcwidth(char), 2)


def continued(rows: list[Row], columns: int) -> list[Row]:
    """The end of these rows that belongs to the logical line which goes on below."""
    start = len(rows)
    while start > 0 and (rows[start - 1].wraps or columns - 1 in rows[start - 1]):
        start -= 1
    return rows[start:][-max(2, -(-CONTEXT_CELLS // columns)) :]


def rewrapped(
    rows: list[Row], cursor: tuple[int, int], columns: int, lines: int
) -> tuple[list[Row], list[Row], int, int]:
    """Wrap logical lines at a new width.

    Args:
        rows: from the top, rows above the screen included.
        cursor: its index in rows, and its column.

    Returns:
        ``lines`` rows, the rows above that they continue, the cursor's y and x.
    """
    out: list[Row] = []
    place = (0, 0)
    index = 0
    last = max([cursor[0], *(at for at, row in enumerate(rows) if row.used())])
    while index <= last:
        cells: list[Char] = []
        goal = -1
        wraps = True
        while wraps and index <= last:
            row = rows[index]
            wraps = row.wraps
            end = max(row, default=-1) + 1 if wraps else row.used()
            if index == cursor[0]:
                goal = len(cells) + cursor[1]
                end = max(end, min(cursor[1], columns))
            cells += [row[x] for x in range(end)]
            index += 1
        y, x = _wrap(out, cells, columns, goal)
        if goal >= 0:
            place = (y, x)
    drop = max(0, min(len(out) - lines, place[0]), place[0] - lines + 1)
    shown = out[drop : drop + lines]
    shown += [Row() for _ in range(lines - len(shown))]
    return shown, continued(out[:drop], columns), place[0] - drop, place[1]


def _wrap(out: list[Row], cells: list[Char], columns: int, goal: int) -> tuple[int, int]:
    """Append cells as rows; return where the cell number ``goal`` came to stand."""
    row = Row()
    out.append(row)
    place = (len(out) - 1, 0)
    x = 0
    for at, cell in enumerate(cells):
        wide = at + 1 < len(cells) and cells[at + 1].data == ""
        if x + (2 if wide else 1) > columns:
            row.wraps = True
            row, x = Row(), 0
            out.append(row)
        row[x] = cell
        row.wide = row.wide or wide
        if at == goal:
            place = (len(out) - 1, x)
        x += 1
    if goal >= len(cells):
        place = (len(out) - 1, min(x + goal - len(cells), columns - 1))
    return place
