"""What a client's terminal shows: one masked screen; what is drawn is recorded first.

The editor, psql and the gateway's own notices all draw through it, in order. The
screen is the last net: what leaves are cells that were masked where they stand. The
echo of what the client types goes to the client only: the record shows the line.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.core.mask import Masked
from gateway.core.screen.terminal import MaskedTerminal
from gateway.edge.child import WindowSize
from gateway.edge.recording import ScreenRecording

MAX_COLS, MAX_ROWS = 500, 200
"""A window that claims more is treated as this; a screen costs memory by the cell."""


class Wire(Protocol):
    """The client's side of a terminal."""

    async def send_screen(self, data: Masked) -> None:
        """Write bytes as they are; waits while the client is slow."""
        ...


def bounded(cols: int, rows: int) -> WindowSize:
    """A window as the client claims it, within bounds; 80×24 where it claims nothing."""
    return WindowSize(
        cols=min(max(cols or 80, 20), MAX_COLS), rows=min(max(rows or 24, 2), MAX_ROWS)
    )


class View:
    """One terminal.

    Args:
        wire: to the client.
        recording: gets what is drawn first.
        size: of the window.
    """

    def __init__(self, wire: Wire, recording: ScreenRecording, size: WindowSize) -> None:
        self.size = size
        self._wire = wire
        self._recording = recording
        self._screen = MaskedTerminal(size.cols, size.rows)
        recording.begin(size.cols, size.rows)
        self._lock = asyncio.Lock()
        self._typed: list[str] = []
        self._painting: asyncio.Task[None] | None = None
        self._failed: BaseException | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Findings of the screen, by pattern name."""
        return dict(self._screen.counts)

    def write(self, text: str) -> None:
        """Draw what the editor echoes; never blocks, failures show at the next ``draw``."""
        self._typed.append(text)
        if self._painting is None or self._painting.done():
            self._painting = asyncio.get_running_loop().create_task(self._paint_typed())

    def begin_line(self, prompt: str) -> None:
        """The client types a line next; the record shows it after this prompt."""
        self._recording.prompt = prompt

    async def draw(self, data: bytes) -> None:
        """Draw output; returns once the client took it.

        Raises:
            RecorderFault: the record cannot be kept; nothing was sent.
        """
        await self.settle()
        async with self._lock:
            await self._recording.drawn(data)
            await self._leave(self._screen.feed(data))

    async def settle(self) -> None:
        """Wait until everything that was echoed has been drawn.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        if self._painting is not None:
            await self._painting
        if self._failed is not None:
            raise self._failed

    async def resize(self, size: WindowSize) -> None:
        """The window has another size."""
        async with self._lock:
            self.size = size
            await self._recording.resized(size.cols, size.rows)
            await self._leave(self._screen.resize(size.cols, size.rows))

    async def finish(self) -> None:
        """Draw what was held back; the session ends."""
        await self.settle()
        async with self._lock:
            await self._recording.drawn_all()
            await self._leave(self._screen.finish())

    async def _paint_typed(self) -> None:
        try:
            async with self._lock:
                while self._typed:
                    text, self._typed = "".join(self._typed), []
                    await self._leave(self._screen.feed(text.encode(), echo=True))
        except Exception as error:  # told by the next draw or settle; nothing was sent
            self._failed = error

    async def _leave(self, data: Masked) -> None:
        if data:
            await self._wire.send_screen(data)
