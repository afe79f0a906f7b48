"""A scrolling sheet of rows that were laid out for its width; it cuts nothing of its own.

Only the rows in sight are drawn, so that 16 KB of escapes cost no more than a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

Layout = Callable[[int], Sequence[Content]]
"""From a width in cells to rows that are at most so wide, without line feeds."""


class Sheet(ScrollView, can_focus=False):
    """Shows what a layout gives for the width that there is."""

    DEFAULT_CSS = """
    Sheet { overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; }
    """

    def __init__(self, layout: Layout, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._lay = layout
        self._rows: Sequence[Content] = ()

    @property
    def at_end(self) -> bool:
        """Whether the last row is in sight."""
        return self.scroll_offset.y + self.size.height >= len(self._rows)

    def lay(self, *, top: bool = False) -> None:
        """Ask the layout again; drawn only where it differs. ``top`` scrolls to the first row."""
        rows = self._lay(self.size.width)
        same = len(rows) == len(self._rows) and all(map(Content.is_same, rows, self._rows))
        self._rows = rows
        if not same:
            self.virtual_size = Size(0, len(rows))
            self.refresh()
        if top:
            self.scroll_home(animate=False)

    def on_resize(self, event: events.Resize) -> None:
        """Another width has other rows."""
        self.lay()

    def render_line(self, y: int) -> Strip:
        """One row in sight."""
        at = self.scroll_offset.y + y
        base, width = self.visual_style, self.size.width
        if at >= len(self._rows):
            return Strip.blank(width, base.rich_style)
        parts = self._rows[at].render(base, "", self._get_style)
        segments = [Segment(text, style.rich_style) for text, style in parts]
        return Strip(segments).adjust_cell_length(width, base.rich_style)
