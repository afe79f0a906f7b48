"""The terminal between a child and a reader: raw bytes in, ``Masked`` out.

While the output is plain lines it leaves as lines. When anything moves the cursor,
a screen is built from the last lines, and from then on what changes on it is painted;
after a plain line at the end of the screen, lines leave as lines again. Which of
the two it is depends on the bytes alone, never on how they were split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.core.mask import Masked, painted
from gateway.core.patterns import Searcher
from gateway.core.screen.controls import Mode, Segment
from gateway.core.screen.lines import LINE_LIMIT_CHARS, Plain, is_plain, plain_block
from gateway.core.screen.painter import Painter
from gateway.core.screen.screen import Grid
from gateway.core.screen.style import BLANK
from gateway.core.screen.tokens import Control, Op, Token, Tokeniser
from gateway.core.screen.view import masked_rows

COLS_BOUNDS: Final = (2, 1_000)
ROWS_BOUNDS: Final = (1, 500)

_ALTERNATE: Final = (47, 1047, 1049)
_CLIENT_MODES: Final = {1: False, 25: True, 2004: False}
_ALL_PATTERNS: Final = Searcher()


class MaskedTerminal:
    """One PTY session's output; one object a session, not shared between tasks.

    Complete plain lines (text and CR LF, nothing else) leave as soon as they are read.
    What is shown of anything else is the masked screen. What could still become an
    identifier (``view.held``) shows as mask glyphs until more output disproves it.
    The screen that a reader ends with depends on the bytes and echo flags, not on splits.

    Input is what a terminal would get: lines end in CR LF, as a PTY makes them.

    Attributes:
        counts: findings by pattern name, each time one appears.
        restarts: times that the screen failed and began again, empty.
    """

    def __init__(self, cols: int, rows: int, searcher: Searcher = _ALL_PATTERNS) -> None:
        """Start on a client's terminal of this size, its cursor at a line's start.

        Args:
            cols: columns; taken into COLS_BOUNDS.
            rows: rows; taken into ROWS_BOUNDS.
            searcher: what is hidden.
        """
        self.counts: Counter[str] = Counter()
        self.restarts = 0
        self._searcher = searcher
        self._tokens = Tokeniser()
        self._cols, self._rows = _bounded(cols, rows)
        self._modes = dict(_CLIENT_MODES)
        self._out: list[Segment] = []
        self._grid = self._new_grid()
        self._painter = Painter(self._cols, self._rows)
        self._main_painter = self._painter
        self._plain = self._new_plain()
        self._is_plain = True
        self._return_pending = False
        self._calm = False

    def feed(self, data: bytes, *, echo: bool = False) -> Masked:
        """Take raw bytes of any length; return what the client's terminal gets now.

        Args:
            data: what the child or the gateway's prompt wrote.
            echo: it shows what the reader types, so it is not held back; complete
                findings are masked all the same.
        """
        data = self._take_block(data)
        if self._is_plain and self._plain.raw:
            # The rest of a line that was cut between two reads; then lines again.
            cut = data.find(b"\n") + 1
            self._take_tokens(self._tokens.feed(data[:cut]), echo)
            data = self._take_block(data[cut:])
        self._take_tokens(self._tokens.feed(data), echo)
        return self._show()

    def resize(self, cols: int, rows: int) -> Masked:
        """The client's window has this size now; bounds as at the start."""
        size = _bounded(cols, rows)
        if size == (self._cols, self._rows):
            return painted(())
        if self._is_plain and (self._plain.raw or self._return_pending):
            self._leave_lines()
        self._cols, self._rows = size
        if self._is_plain:
            # The client wraps its lines anew by itself; the next screen begins below them.
            self._grid = self._new_grid()
            self._main_painter = self._painter = Painter(*size)
            self._plain = self._new_plain()
            return painted(())
        self._attempt(lambda: self._grid.fit(*size))
        self._collect()
        self._painter = Painter(*size, whole=True)
        self._painter.clear()
        if not self._grid.alternate:
            self._main_painter = self._painter
        self._grid.touch()
        return self._show()

    def finish(self) -> Masked:
        """The output has ended: show what was held, put the client's modes back.

        Nothing may be fed afterwards.
        """
        self._take_tokens(self._tokens.finish(), echo=True)
        if self._grid.alternate:
            self._step(Control(Op.MODE, (1049, 0)), echo=True)
        self._grid.anchor = None
        if self._is_plain:
            self._out += self._plain.close()
        shown = [number for number, on in self._modes.items() if on != _CLIENT_MODES[number]]
        for number in shown:
            self._set_client_mode(number, _CLIENT_MODES[number])
        return self._show()

    def shown(self) -> list[str]:
        """The rows that the client shows, without trailing blanks.

        Rows from where the session began; as it is after what was last returned.
        """
        cells = self._client_grid() if self._is_plain else None
        rows = [[row[x] for x in range(self._cols)] for row in cells.rows()] if cells else []
        return ["".join(cell.data for cell in row).rstrip() for row in rows or self._painter.shown]

    # --- plain lines --------------------------------------------------------

    def _take_block(self, data: bytes) -> bytes:
        """Let leading plain lines leave; return the rest of the data."""
        ready = self._is_plain and not self._plain.raw and not self._return_pending
        if ready and self._tokens.idle and (text := plain_block(data)):
            self._out.append(self._plain.block(text))
            return data[data.rfind(b"\r\n") + 2 :]
        return data

    def _take_tokens(self, tokens: list[Token], echo: bool) -> None:
        for token in tokens:
            if not (self._is_plain and self._take_plain(token, echo)):
                self._step(token, echo)

    def _take_plain(self, token: Token, echo: bool) -> bool:
        """Take a token of a plain line; False if it needs a screen, which is then there."""
        if isinstance(token, str):
            fits = len(self._plain.raw) + len(token) <= LINE_LIMIT_CHARS
            if fits and not self._return_pending and is_plain(token):
                self._plain.add(token, echo=echo)
                return True
        elif token.op is Op.RETURN:
            self._return_pending = True
            return True
        elif token.op is Op.FEED and (self._return_pending or not self._plain.raw):
            self._out += self._plain.end()
            self._return_pending = False
            return True
        elif token.op is Op.STYLE and not any(token.args):
            return True
        elif token.op is Op.MODE and token.args[0] in self._modes:
            self._set_client_mode(token.args[0], bool(token.args[1]))
            return True
        self._leave_lines()
        return False

    def _leave_lines(self) -> None:
        """Build the screen as plain lines have left it."""
        self._out += self._plain.flush()
        self._plain.tally()
        client = self._client_grid()
        if self._plain.count >= self._rows:
            self._grid = self._new_grid()
            self._main_painter = self._painter = Painter(self._cols, self._rows)
        self._grid.scrolled = None
        for raw, _ in self._plain.tail:
            _type(self._grid, raw, ends=True)
        seen = self._plain.anchor + 1
        self._grid.write(self._plain.raw[:seen])
        self._grid.write(self._plain.raw[seen:], echo=True)
        self._grid.scrolled = self._on_scrolled
        self._painter.adopt(
            [[row[x] for x in range(self._cols)] for row in client.rows()], client.cursor.y
        )
        self._is_plain = self._calm = False
        if self._return_pending:
            self._grid.perform(Control(Op.RETURN))
        self._return_pending = False
        self._grid.touch()
        # What these lines hold was counted when they left.
        self._paint(Counter())

    def _client_grid(self) -> Grid:
        """What the client shows, while lines are plain."""
        client = Grid(self._cols, self._rows)
        if self._plain.count < self._rows:
            for y, cells in enumerate(self._painter.shown):
                client.row(y).update({x: cell for x, cell in enumerate(cells) if cell is not BLANK})
            client.cursor.y = self._grid.cursor.y
        for _, sent in self._plain.tail:
            _type(client, sent, ends=True)
        _type(client, self._plain.sent, ends=False)
        return client

    def _return_to_lines(self) -> None:
        """Let lines leave as lines again, if the screen is at rest at its end."""
        grid = self._grid
        rest = grid.margins is None and grid.autowrap and not grid.alternate
        if rest and grid.cursor.x == 0 and grid.cursor.attrs == BLANK:
            below = (grid.row(y) for y in range(grid.cursor.y, self._rows))
            if all(cell == BLANK for row in below for cell in row.values()):
                self._paint(self.counts)
                self._painter.go(grid.cursor.y, 0)
                self._collect()
                self._plain = self._new_plain()
                self._is_plain = True

    # --- the screen ---------------------------------------------------------

    def _step(self, token: Token, echo: bool) -> None:
        """Do on the screen what one token asks for."""
        if isinstance(token, str):
            self._calm = self._calm and is_plain(token)
            self._attempt(lambda: self._grid.write(token, echo=echo))
            return
        if token.op is Op.MODE and token.args[0] in self._modes:
            self._set_client_mode(token.args[0], bool(token.args[1]))
        elif token.op is Op.MODE and token.args[0] in _ALTERNATE:
            self._switch(token)
        else:
            if self._is_absolute(token):
                self._painter.settle()
            self._attempt(lambda: self._grid.perform(token, echo=echo))
        if token.op is Op.FEED:
            if self._calm:
                self._return_to_lines()
            self._calm = True
        elif token.op is not Op.RETURN:
            self._calm = False

    def _is_absolute(self, token: Control) -> bool:
        """Whether a control speaks of the window's rows, so the screen must fill it."""
        whole = token.op is Op.ERASE_DISPLAY and token.args[0] == 2
        return whole or token.op in (Op.PLACE, Op.ROW, Op.MARGINS)

    def _switch(self, token: Control) -> None:
        """Change between the main and the alternate screen, on the client too."""
        on = bool(token.args[1])
        if on == self._grid.alternate:
            return
        self._paint(self.counts)
        self._painter.go(self._grid.cursor.y, min(self._grid.cursor.x, self._cols - 1))
        self._painter.mode(1049, on)
        self._attempt(lambda: self._grid.perform(token))
        self._collect()
        if on:
            self._painter = Painter(self._cols, self._rows, whole=True)
            self._painter.clear()
        else:
            self._painter = self._main_painter
            if (self._painter.columns, len(self._painter.shown)) != (self._cols, self._rows):
                self._painter = Painter(self._cols, self._rows, whole=True)
                self._painter.clear()
                self._main_painter = self._painter

    def _attempt(self, work: Callable[[], None]) -> None:
        """Work on the screen's model; if it fails, begin again with an empty screen."""
        try:
            work()
        except Exception:  # whatever it was, what the screen held is not shown
            self.restarts += 1
            self._collect()
            if self._grid.alternate:
                self._out.append(Mode(1049, False))
            self._grid = self._new_grid()
            self._main_painter = self._painter = Painter(self._cols, self._rows, whole=True)
            self._painter.clear()

    def _on_scrolled(self) -> None:
        self._paint(self.counts)

    def _paint(self, counts: Counter[str]) -> None:
        """Show what changed: the window as it was, then each row that scrolled in."""
        rows = masked_rows(self._grid, self._searcher, counts)
        self._painter.paint({y: cells for y, cells in rows.items() if y < self._rows})
        for gone in range(len(self._grid.gone)):
            self._painter.scroll()
            if (below := rows.get(self._rows + gone)) is not None:
                self._painter.paint({self._rows - 1: below})
        self._grid.forget()

    def _set_client_mode(self, number: int, on: bool) -> None:
        self._modes[number] = on
        self._collect()
        self._out.append(Mode(number, on))

    def _collect(self) -> None:
        self._out += self._painter.take()

    def _show(self) -> Masked:
        """All that is to be sent now, the cursor last."""
        if self._is_plain:
            self._out += self._plain.flush()
        else:
            self._paint(self.counts)
            cursor = self._grid.cursor
            self._painter.go(cursor.y, min(cursor.x, self._cols - 1))
            self._collect()
        out, self._out = self._out, []
        return painted(out)

    def _new_grid(self) -> Grid:
        grid = Grid(self._cols, self._rows)
        grid.scrolled = self._on_scrolled
        return grid

    def _new_plain(self) -> Plain:
        return Plain(self._searcher, self.counts, self._cols, self._rows)


def _bounded(cols: int, rows: int) -> tuple[int, int]:
    return (
        max(COLS_BOUNDS[0], min(cols, COLS_BOUNDS[1])),
        max(ROWS_BOUNDS[0], min(rows, ROWS_BOUNDS[1])),
    )


def _type(grid: Grid, text: str, *, ends: bool) -> None:
    """Write plain text; a line's end after it if it ends."""
    grid.write(text)
    if ends:
        grid.perform(Control(Op.NEXT_LINE))
