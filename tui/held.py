"""The list of tickets: one row each, the chosen one marked by a sign as well as by colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from gateway.core.display import show
from tui.paper import cautions, fit, span
from tui.tickets import TicketView

_COLUMNS: Final = ("id", "state", "who", "target", "age", "rule", "command")
_NAME_SHOWN: Final = 100
_COMMAND_SHOWN: Final = 400
"""A row shows no more characters than these; a whole 16 KB command is for the detail."""


class Held(ScrollView, can_focus=False):
    """Draws the rows that it is given.

    Args:
        choose: a ticket was clicked.
        whole: one was clicked twice.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "held--head",
        "held--row",
        "held--chosen",
        "held--ended",
        "held--empty",
    }
    DEFAULT_CSS = """
    Held { overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; }
    Held > .held--head { text-style: bold; color: $text-muted; }
    Held > .held--row { color: $foreground; }
    Held > .held--chosen { text-style: bold; color: $foreground; background: $primary 35%; }
    Held > .held--ended { color: $text-muted; }
    Held > .held--empty { color: $text-muted; }
    Held:nocolor > .held--chosen { text-style: bold reverse; }
    Held:ansi > .held--chosen { text-style: bold reverse; background: ansi_default; }
    """

    class InTurn(Message, bubble=False):
        """Something to do once all clicks that came before are done."""

        def __init__(self, act: Callable[[], None]) -> None:
            super().__init__()
            self.act = act

    def __init__(self, choose: Callable[[str], None], whole: Callable[[], None]) -> None:
        super().__init__()
        self._choose = choose
        self._whole = whole
        self._rows: list[tuple[str, tuple[str, ...], bool]] = []
        self._chosen: int | None = None
        self._empty = ""

    def do_in_turn(self, act: Callable[[], None]) -> None:
        """Clicks and keys in the order in which they came.

        A click waits in this widget's queue while a key is seen by the application at
        once: a key for a vote must not overtake the click that chose its ticket.
        """
        self.post_message(self.InTurn(act))

    def on_held_in_turn(self, message: InTurn) -> None:
        """The turn has come."""
        message.act()

    def show_rows(
        self, views: Sequence[TicketView], chosen: str | None, now: datetime, *, empty: str
    ) -> None:
        """Draw these rows.

        Args:
            views: in their order.
            chosen: id of the marked one.
            now: the ages are counted to here.
            empty: what to say where there are none.
        """
        rows = [(view.id, _cells(view, now), view.open) for view in views]
        at = next((n for n, view in enumerate(views) if view.id == chosen), None)
        if (rows, at, empty) == (self._rows, self._chosen, self._empty):
            return
        self._rows, self._chosen, self._empty = rows, at, empty
        self.virtual_size = Size(0, len(rows) + 1)
        self._follow()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The head stays on top; below it the rows scroll."""
        width = self.scrollable_content_region.width
        if y == 0:
            return self._strip("  " + _line(_COLUMNS, width - 2), "held--head", width)
        at = self.scroll_offset.y + y - 1
        if not self._rows and at == 1:
            return self._strip(f"  {self._empty}", "held--empty", width)
        if at >= len(self._rows):
            return self._strip("", "held--row", width)
        _, cells, is_open = self._rows[at]
        kind = "held--row" if is_open else "held--ended"
        mark = "  "
        if at == self._chosen:
            kind, mark = "held--chosen", "> "
        return self._strip(mark + _line(cells, width - 2), kind, width)

    def on_resize(self, event: events.Resize) -> None:
        """Keep the chosen row in sight."""
        self._follow()

    def on_click(self, event: events.Click) -> None:
        """A click chooses, a second one opens; done at once, as its place in the queue is now."""
        at = self.scroll_offset.y + event.y - 1
        if event.y > 0 and at < len(self._rows):
            self._choose(self._rows[at][0])
            if event.chain > 1:
                self._whole()

    def _follow(self) -> None:
        if self._chosen is not None and self.size.height > 1:
            # One row above belongs to the head, which covers it.
            self.scroll_to_region(Region(0, self._chosen, 1, 2), animate=False, force=True)

    def _strip(self, text: str, kind: str, width: int) -> Strip:
        return Strip([Segment(fit(text, width), self.get_component_rich_style(kind))], width)


def _cells(view: TicketView, now: datetime) -> tuple[str, ...]:
    named = (show(text, limit=_NAME_SHOWN) for text in (view.state, view.identity, view.target))
    age = span(now - view.requested_at, short=True)
    return (view.id, *named, age, show(view.rule, limit=_NAME_SHOWN), _summary(view.command))


@lru_cache(maxsize=2048)
def _summary(command: str) -> str:
    """The beginning of a command on one line, after a ``!`` where it could deceive."""
    shown = show(command[:_COMMAND_SHOWN], newlines=True)
    lines = (" ".join(line.split()) for line in shown.split("\n"))
    more = " …" if len(command) > _COMMAND_SHOWN else ""
    return ("! " if cautions(command) else "") + " ↵ ".join(lines) + more


def _line(cells: Sequence[str], width: int) -> str:
    ticket, state, who, target, age, rule, command = cells
    rest = width - 25
    name, held = min(max(rest * 18 // 100, 6), 20), min(max(rest * 22 // 100, 6), 24)
    parts = [(ticket, 6), (state, 9), (who, name), (target, name), (age, 4), (rule, held)]
    line = " ".join(fit(text, cells) for text, cells in parts)
    return f"{line} {fit(command, max(width - cell_len(line) - 1, 0))}" if width > 0 else ""
