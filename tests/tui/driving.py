"""The queue driven as a person would, over tickets in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from textual._context import visible_screen_stack
from textual.pilot import Pilot
from textual.strip import Strip

from tests.tui.memory import NOW, MemoryTickets
from tui.app import Queue

SIZES = [(80, 24), (200, 50)]


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.now += timedelta(seconds=seconds)


class Driver:
    """A running queue.

    Attributes:
        tickets: what it lists; changed by tests.
        clock: what it takes for now.
    """

    def __init__(self, queue: Queue, pilot: Pilot[None], tickets: MemoryTickets, clock: Clock):
        self.queue = queue
        self.pilot = pilot
        self.tickets = tickets
        self.clock = clock

    async def press(self, *keys: str) -> None:
        """Press keys and let the screen settle."""
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type a text."""
        names = {" ": "space", "-": "minus", "'": "apostrophe"}
        await self.press(*(names.get(char, char) for char in text))

    async def poll(self) -> None:
        """Have the gateway asked now, and the answer drawn."""
        await self.queue._list()
        self.queue.paint()
        await self.pilot.pause()

    @property
    def chosen(self) -> str | None:
        """The ticket that the detail shows."""
        return self.queue.board.chosen

    @property
    def strips(self) -> list[Strip]:
        """What is drawn, row by row, with its styles."""
        visible_screen_stack.set(self.queue._background_screens)
        return self.queue.screen._compositor.render_strips()

    @property
    def text(self) -> str:
        """What stands on the screen, row by row."""
        return "\n".join(strip.text for strip in self.strips)


@asynccontextmanager
async def driving(
    tickets: MemoryTickets, size: tuple[int, int] = (80, 24), *, light: bool = False
) -> AsyncIterator[Driver]:
    """Start the queue; it asks by itself only once, then when a test says so."""
    clock = Clock()
    queue = Queue(tickets, "gate.example.org", light=light, clock=clock, poll_s=3600)
    async with queue.run_test(size=size) as pilot:
        await pilot.pause()
        yield Driver(queue, pilot, tickets, clock)
