"""The masked view: what a reader would see of the cells, identifiers hidden.

Cells decide, not bytes: colours, cursor moves and the order of writing are gone
when the text is searched. Rows that read on are searched as one text, and each
row also alone, because a reader sees both.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pyte.screens import Char

from gateway.core.mask import findings
from gateway.core.patterns import Searcher
from gateway.core.plaintext import positions, shadow
from gateway.core.screen.controls import FILL
from gateway.core.screen.rows import Row
from gateway.core.screen.screen import Grid

HOLD_CHARS: Final = 320
"""How far a token is followed to either side; no e-mail address is longer (RFC 3696)."""

_TOKEN = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ@._%+'~()/#-")
# A space stays inside a number where groups of digits meet: 123 45 6789, (212) 555.
_BEFORE_SPACE = frozenset("0123456789).-+")
_AFTER_SPACE = frozenset("0123456789(+-.")
_DIGIT = re.compile("[0-9]")


@dataclass(frozen=True, slots=True)
class Cover:
    """Characters ``start`` to ``end`` of a text are hidden.

    Attributes:
        name: the pattern's, for the counts.
    """

    start: int
    end: int
    name: str
    tag: str


def covers(text: str, searcher: Searcher) -> list[Cover]:
    """All that is to be hidden in a text, in order, without overlaps.

    What is hidden changes its neighbours' neighbourhood, so that the rest is searched
    again until nothing is found.
    """
    found: list[Cover] = []
    # Ends: each round replaces digits or an @, and nothing puts one back.
    while spans := findings(text, searcher):
        pieces: list[str] = []
        done = 0
        for start, end, name, tag in spans:
            found.append(Cover(start, end, name, tag))
            pieces += [text[done:start], ";" * (end - start)]
            done = end
        text = "".join(pieces) + text[done:]
    return sorted(found, key=lambda cover: cover.start)


def label(tag: str, size: int) -> str:
    """The tag, padded with mask glyphs or cut to ``size`` cells."""
    return tag[:size].ljust(size, FILL)


def hidden(text: str, found: Sequence[Cover]) -> str:
    """The text, each character taken as one cell, with its tags."""
    out: list[str] = []
    done = 0
    for cover in found:
        out += [text[done : cover.start], label(cover.tag, cover.end - cover.start)]
        done = cover.end
    out.append(text[done:])
    return "".join(out)


def held(text: str, at: int) -> range:
    """The characters around the last written one that may become an identifier.

    The token that holds ``text[at]``, both ways, if it has three digits or an ``@``.
    Both ways, because a number may be written from its end. Two digits are the most
    that is ever shown of a number that is still being written.
    """
    seen = shadow(text).decode("ascii")
    if not seen:
        return range(0)
    places = range(len(text)) if len(seen) == len(text) else positions(text)
    middle = max(bisect_right(places, at) - 1, 0)
    if seen[middle] == " " and middle + 1 < len(seen):
        # A blank was put before a token: the next character may lengthen it there.
        middle += 1
    start = end = middle
    while start > 0 and middle - start < HOLD_CHARS and _joins(seen, start - 1):
        start -= 1
    while end < len(seen) and end - middle < HOLD_CHARS and _joins(seen, end):
        end += 1
    token = seen[start:end]
    if "@" not in token and len(_DIGIT.findall(token)) < 3:
        return range(0)
    return range(places[start], places[end - 1] + 1)


def _joins(seen: str, at: int) -> bool:
    """Whether a character lies inside a token."""
    if seen[at] in _TOKEN:
        return True
    if seen[at] != " ":
        return False
    before = seen[max(0, at - 2) : at].rstrip(" ")[-1:]
    after = seen[at + 1 : at + 3].lstrip(" ")[:1]
    # Nothing after: the next group of digits may be still to come.
    return before in _BEFORE_SPACE and (not after or after in _AFTER_SPACE) if before else False


def masked_rows(grid: Grid, searcher: Searcher, counts: Counter[str]) -> dict[int, list[Char]]:
    """The cells that a reader may see, of the rows that changed and of those they touch.

    Args:
        counts: what is found that was not there at the last masking is added.

    Returns:
        By row number, ``columns`` cells each; rows are counted over ``gone`` and then
        the screen.
    """
    above = len(grid.above)
    rows = [*grid.above, *grid.gone, *grid.rows()]
    anchor = grid.anchor
    ask = {
        at
        for at, row in enumerate(rows)
        if (row.dirty and at >= above) or row.held or (anchor is not None and row is anchor[0])
    }
    links = [_linked(one, other, grid.columns) for one, other in pairwise(rows)]
    out: dict[int, list[Char]] = {}
    begin = 0
    for at in range(len(rows)):
        if at + 1 < len(rows) and (links[at] or rows[at].linked):
            continue
        if any(index in ask for index in range(begin, at + 1)):
            _mask_group(grid, rows, range(begin, at + 1), links, searcher, counts, out)
        begin = at + 1
    return {at - above: cells for at, cells in out.items() if at >= above}


def _linked(row: Row, below: Row, columns: int) -> bool:
    """Whether a reader would read on from the end of one row at the start of the next."""
    if row.wraps:
        return True
    return row[columns - 1].data != " " and below[0].data != " "


def _mask_group(
    grid: Grid,
    rows: Sequence[Row],
    group: range,
    links: Sequence[bool],
    searcher: Searcher,
    counts: Counter[str],
    out: dict[int, list[Char]],
) -> None:
    """Mask rows that were or are read together."""
    for at in group:
        out[at] = [rows[at][x] for x in range(grid.columns)]
    before: Counter[str] = sum((rows[at].found for at in group), Counter())
    texts = [_Joined(rows, [at]) for at in group]
    begin = group.start
    for at in group:
        rows[at].found, rows[at].held = Counter(), False
        rows[at].linked = at < len(links) and links[at]
        if not rows[at].linked or at + 1 == group.stop:
            if at > begin:
                texts.insert(0, _Joined(rows, range(begin, at + 1)))
            begin = at + 1
    taken: set[tuple[int, int]] = set()
    for text in texts:
        for cover in covers(text.text, searcher):
            cells = text.cells(cover.start, cover.end)
            if taken.issuperset(cells):
                continue
            taken.update(cells)
            rows[cells[0][0]].found[cover.name] += 1
            for (at, x), char in zip(cells, label(cover.tag, len(cells)), strict=True):
                out[at][x] = _plain(out[at][x], char)
    for text in texts:
        _hold(grid, rows, text, taken, out)
    now: Counter[str] = sum((rows[at].found for at in group), Counter())
    counts.update(now - before)


def _hold(
    grid: Grid,
    rows: Sequence[Row],
    text: _Joined,
    taken: set[tuple[int, int]],
    out: dict[int, list[Char]],
) -> None:
    if grid.anchor is None:
        return
    row, x = grid.anchor
    at = text.index(row, x)
    if at is None:
        return
    around = held(text.text, at)
    for y, column in text.cells(around.start, around.stop):
        if (y, column) not in taken:
            rows[y].held = True
            out[y][column] = _plain(out[y][column], FILL)


def _plain(cell: Char, char: str) -> Char:
    return cell._replace(data=char)


class _Joined:
    """Rows joined to one text, and which cell each character came from."""

    def __init__(self, rows: Sequence[Row], members: Sequence[int]) -> None:
        self._rows = rows
        self._cells: list[tuple[int, int]] = []
        self._owners: list[int] = []
        parts: list[str] = []
        for at in members:
            row = rows[at]
            # A row that wraps reads on after its last written cell.
            end = max(row, default=-1) + 1 if row.wraps else row.used()
            for x in range(end):
                data = row[x].data
                self._owners += [len(self._cells)] * len(data)
                self._cells.append((at, x))
                parts.append(data)
        self.text = "".join(parts)

    def cells(self, start: int, end: int) -> list[tuple[int, int]]:
        """The cells of some characters, both halves of wide ones."""
        if start >= end:
            return []
        first, last = self._owners[start], self._owners[end - 1] + 1
        if last < len(self._cells):
            at, x = self._cells[last]
            last += self._rows[at][x].data == ""
        return self._cells[first:last]

    def index(self, row: Row, x: int) -> int | None:
        """The character of a cell, or before it; None if it is not in this text."""
        for number, (at, column) in enumerate(self._cells):
            if column == x and self._rows[at] is row:
                return max(bisect_right(self._owners, number) - 1, 0) if self.text else None
        return None
