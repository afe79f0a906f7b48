"""A sheet of rows that were laid out for its width; it scrolls and cuts nothing of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

Layout = Callable[[int], Sequence[Content]]
"""From a width in cells to rows that are at most so wide."""


class _Rows(Widget):
    """Rows laid out anew for each width."""

    DEFAULT_CSS = """
    _Rows { width: 1fr; height: auto; text-wrap: nowrap; text-overflow: clip; }
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._lay = layout
        self._drawn: Sequence[Content] = ()

    def lay(self, layout: Layout) -> None:
        """Show other rows; drawn again only where they differ from what stands there."""
        self._lay = layout
        rows = layout(self.size.width)
        if len(rows) != len(self._drawn):
            self.refresh(layout=True)
        elif not all(map(Content.is_same, rows, self._drawn)):
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row each."""
        return len(self._lay(width))

    def render(self) -> Content:
        """The rows as one content, whose markup nobody reads."""
        self._drawn = self._lay(self.size.width)
        return Content("\n").join(self._drawn)


class Sheet(VerticalScroll):
    """A scrolling pane of laid out rows."""

    DEFAULT_CSS = """
    Sheet { scrollbar-size-vertical: 1; }
    """

    def __init__(self, layout: Layout, *, id: str | None = None) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._rows = _Rows(layout)

    def compose(self) -> ComposeResult:
        """The rows alone."""
        yield self._rows

    def lay(self, layout: Layout, *, top: bool = False) -> None:
        """Show other rows; ``top`` scrolls back to the first."""
        self._rows.lay(layout)
        if top:
            self.scroll_home(animate=False)

    @property
    def at_end(self) -> bool:
        """Whether the last row is in sight."""
        return self.scroll_offset.y >= self.max_scroll_y
