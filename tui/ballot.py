"""The question before a vote: the whole ticket again, the reason, and Enter twice.

What is asked about is the view that the approver had on the screen, kept here as
it was. If the gateway tells of another text or digest under the same id, or of a
ticket that no longer waits, no vote leaves this screen.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from gateway.core.display import show
from tui.paper import about_rows, command_rows
from tui.sheet import Sheet
from tui.tickets import TicketView

Clock = Callable[[], datetime]
"""Aware now."""

REASON_LIMIT = 500
"""Most characters of a reason."""


class Ballot(ModalScreen[str | None]):
    """Asks for the reason of one vote; its result is the reason, or None to go back.

    Args:
        view: the ticket as it was shown.
        approve: which vote it is.
        clock: aware now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]
    AUTO_FOCUS = "#reason"
    DEFAULT_CSS = """
    Ballot { align: center middle; }
    Ballot > Vertical { width: 100%; max-width: 140; height: 100%; max-height: 50;
        border: heavy $warning; padding: 0 1; background: $surface; }
    Ballot.-deny > Vertical { border: heavy $error; }
    Ballot #question { text-style: bold; height: auto; }
    Ballot Sheet { height: 1fr; margin: 1 0; }
    Ballot Horizontal { height: 1; margin: 0 0 1 0; }
    Ballot #label { width: 8; text-style: bold; }
    Ballot Input { width: 1fr; background: $panel; padding: 0 1; }
    Ballot #hint { height: auto; min-height: 1; }
    Ballot #hint.-stop { color: $text-error; text-style: bold; }
    Ballot #hint.-armed { color: $text-warning; text-style: bold; }
    Ballot:ansi > Vertical { background: ansi_default; }
    """

    def __init__(self, view: TicketView, *, approve: bool, clock: Clock) -> None:
        super().__init__(classes="" if approve else "-deny")
        self.view = view
        self._approve = approve
        self._opened_at = clock()
        self._armed = ""
        self._read = False
        self._stopped = ""

    def compose(self) -> ComposeResult:
        """The question, the ticket, the reason and what Enter does now."""
        verb = "Approve" if self._approve else "Deny"
        effect = "lets exactly this run once" if self._approve else "ends this ticket"
        with Vertical():
            yield Static(Content(f"{verb} {self.view.id}?  It {effect}."), id="question")
            yield Sheet(self._rows, id="text")
            with Horizontal():
                yield Static("Reason", id="label", markup=False)
                yield Input(
                    placeholder="kept in the record, shown to the requester",
                    max_length=REASON_LIMIT,
                    compact=True,
                    id="reason",
                )
            yield Static(id="hint", markup=False)

    def on_mount(self) -> None:
        """The reason is typed first; reading goes on with the arrow keys."""
        self.watch(self.query_one(Sheet), "scroll_y", self._note_reading, init=False)
        self._hint()

    def follow(self, latest: TicketView | None) -> None:
        """Take the newest word on this ticket; None if it is no longer listed."""
        if self._stopped:
            return
        if latest is None:
            self._stop_at("The gateway no longer lists this ticket.")
        elif not same(self.view, latest):
            self._stop_at("The gateway now shows ANOTHER TEXT under this number: tell security.")
        elif latest.state != "pending":
            self._stop_at(f"{latest.id} is {show(latest.state)} now; there is nothing to decide.")

    def action_leave(self) -> None:
        """Go back without a vote."""
        self.dismiss(None)

    def action_scroll(self, rows: int) -> None:
        """Read on by rows."""
        self.query_one(Sheet).scroll_relative(y=rows, animate=False)

    def action_page(self, pages: int) -> None:
        """Read on by pages, one row of overlap."""
        sheet = self.query_one(Sheet)
        sheet.scroll_relative(y=pages * max(sheet.size.height - 1, 1), animate=False)

    @on(Input.Changed)
    def disarm(self) -> None:
        """Another reason asks for another Enter."""
        self._armed = ""
        self._hint()

    @on(Input.Submitted)
    def press(self, event: Input.Submitted) -> None:
        """The first Enter asks back, the second votes."""
        reason = event.value.strip()
        self._note_reading()
        if self._stopped or not reason or (self._approve and not self._read):
            self._hint(stop=True)
        elif self._armed == reason:
            self.dismiss(reason)
        else:
            self._armed = reason
            self._hint()

    def _rows(self, width: int) -> list[Content]:
        about = about_rows(self.view, self._opened_at, width)
        return [*about, Content(""), *command_rows(self.view.command, width)]

    def _note_reading(self) -> None:
        if not self._read and self.query_one(Sheet).at_end:
            self._read = True
            self._hint()

    def _stop_at(self, why: str) -> None:
        self._stopped, self._armed = why, ""
        self._hint(stop=True)

    def _hint(self, *, stop: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        verb = "approve" if self._approve else "deny"
        if self._stopped:
            text = f"{self._stopped} Esc goes back."
        elif stop and not self.query_one(Input).value.strip():
            text = "A vote needs a reason. Esc goes back."
        elif stop:
            text = "The text goes on below: PgDn to its end, then Enter."
        elif self._armed:
            text = f"Enter once more to {verb} {self.view.id}. Esc goes back."
        else:
            text = f"Enter, twice, to {verb}; ↑ ↓ PgUp PgDn to read; Esc goes back."
        hint.update(Content(text))
        hint.set_class(stop, "-stop")
        hint.set_class(bool(self._armed) and not stop, "-armed")


def same(shown: TicketView, told: TicketView) -> bool:
    """Whether two views are of one ticket with one text, for one asker and one target."""
    return (shown.id, shown.digest, shown.command, shown.identity, shown.target) == (
        *(told.id, told.digest, told.command, told.identity, told.target),
    )
