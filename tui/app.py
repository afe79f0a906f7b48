"""The queue: asks the port each second, draws the board, sends votes.

All that is on the screen comes from ``Board``; all that is untrusted is laid out
by ``paper``. A vote is for the view that stood in the detail pane when its key was
pressed, and what the gateway then says it voted on is compared with that view.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from rich.cells import cell_len
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.query import NoMatches
from textual.widgets import Footer, Input, Static

from gateway.core.display import show
from gateway.errors import TollhouseError
from tui.ballot import Ballot, Clock, same
from tui.board import Board
from tui.held import Held
from tui.notices import HELP, Notice
from tui.paper import fit, span, ticket_rows
from tui.sheet import Sheet
from tui.tickets import Refused, Tickets, TicketView, Unreachable

POLL_S: Final = 1.0
LIVE: Final = timedelta(seconds=3)
"""Older data says its age, also while an answer may still come."""


def utc_now() -> datetime:
    """Aware now."""
    return datetime.now(UTC)


class Queue(App[None]):
    """The approver's screen.

    Args:
        tickets: where tickets come from and votes go.
        place: whose queue it is, for the first line; untrusted.
        light: the light theme.
        clock: aware now.
        poll_s: seconds between two listings.
    """

    TITLE = "Tollhouse approvals"
    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #top { height: 1; background: $primary 40%; text-style: bold; width: 1fr; }
    #lost { height: auto; padding: 0 1; background: $error; color: $text; text-style: bold;
        display: none; }
    #said { height: auto; padding: 0 1; color: $text-success; display: none; }
    #said.-bad { color: $text-error; text-style: bold; }
    #words { display: none; height: 1; border: none; padding: 0; background: $surface; }
    Held { height: 2fr; min-height: 4; }
    #detail { height: 3fr; min-height: 6; border-top: solid $primary; }
    Screen.-whole Held { display: none; }
    Screen.-whole #detail { height: 1fr; }
    Screen:nocolor #top { text-style: bold reverse; }
    Screen:nocolor #lost { text-style: bold reverse; }
    Footer { height: 1; }
    """
    # Priority: a key acts when it comes. Else it would travel through the widgets first,
    # and of two keys typed fast the second could act before the first.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, priority=True),
        Binding("down,j", "move(1)", "Down", show=False, priority=True),
        Binding("pageup", "page(-1)", "Page up", show=False, priority=True),
        Binding("pagedown", "page(1)", "Page down", show=False, priority=True),
        Binding("home,g", "move(-1000000)", "First", show=False, priority=True),
        Binding("end,G", "move(1000000)", "Last", show=False, priority=True),
        Binding("enter", "whole", "Whole", priority=True),
        Binding("a", "vote(True)", "Approve", priority=True),
        Binding("d", "vote(False)", "Deny", priority=True),
        Binding("h", "history", "History", priority=True),
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("r", "hurry", "Refresh", priority=True),
        Binding("space", "read(1)", "Read on", show=False, priority=True),
        Binding("b", "read(-1)", "Read back", show=False, priority=True),
        Binding("t", "theme", "Light or dark", show=False, priority=True),
        Binding("escape", "back", "Back", show=False, priority=True),
        Binding("question_mark", "help", "Help", key_display="?", priority=True),
        Binding("q", "quit", "Quit", priority=True),
        Binding("ctrl+c", "leave", "Quit", show=False, priority=True),
    ]

    def __init__(
        self,
        tickets: Tickets,
        place: str,
        *,
        light: bool = False,
        clock: Clock = utc_now,
        poll_s: float = POLL_S,
    ) -> None:
        # Textual turns colours into greys for NO_COLOR; the terminal's own two are meant.
        no_color = "NO_COLOR" in os.environ
        super().__init__(ansi_color=True if no_color else None)
        self.theme = "textual-light" if light else "textual-dark"
        self.animation_level = "none"
        self.board = Board()
        self._tickets = tickets
        self._place = place
        self._clock = clock
        self._poll_s = poll_s
        self._hurry = asyncio.Event()
        self._fresh_at: datetime | None = None
        self._lost: TollhouseError | None = None
        self._painted: str | None = None

    def compose(self) -> ComposeResult:
        """From top to bottom: state, banners, list, detail, keys."""
        yield Static(id="top", markup=False)
        yield Static(id="lost", markup=False)
        yield Static(id="said", markup=False)
        yield Input(placeholder="Filter: words that a ticket must hold", id="words", compact=True)
        yield Held(self._choose, self.action_whole)
        yield Sheet(self._detail_rows, id="detail")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Start asking and ticking."""
        self.screen.set_focus(None)
        self.set_interval(1.0, self.paint)
        self.paint()
        self.watch_gateway()

    # Asking

    @work
    async def watch_gateway(self) -> None:
        """List each second, sooner when hurried, for as long as the screen lives."""
        while True:
            await self._list()
            self._hurry.clear()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._hurry.wait()
            except TimeoutError:
                continue

    async def _list(self) -> None:
        try:
            views = await self._listed()
        except (Unreachable, Refused) as error:
            self._lost = error
        else:
            self._lost = None
            self._fresh_at = self._clock()
            self.board.refresh(views)
        self.paint()

    async def _listed(self) -> Sequence[TicketView]:
        views = await self._tickets.listed(ended=self.board.history)
        chosen = self.board.chosen
        if self.board.history or chosen is None or any(view.id == chosen for view in views):
            return views
        # The chosen one has ended: it stays in sight, and says how it ended.
        ended = await self._tickets.listed(ended=True)
        return [*views, *(view for view in ended if view.id == chosen)]

    @work
    async def send_vote(self, shown: TicketView, reason: str, *, approve: bool) -> None:
        """Vote, then compare what was voted on with what was shown."""
        self._say(f"{shown.id}: sending the vote …")
        try:
            send = self._tickets.approve if approve else self._tickets.deny
            told = await send(shown.id, reason)
        except Refused as error:
            self._say(f"{shown.id}: not counted. {error}", bad=True)
        except Unreachable as error:
            self._say(
                f"{shown.id}: the vote may have counted or not; look again. {error}", bad=True
            )
        else:
            self.board.replace(told)
            if same(shown, told):
                self._say(_outcome(told))
            else:
                self._say(f"{shown.id}: THE VOTE WAS COUNTED FOR ANOTHER TEXT", bad=True)
                self.push_screen(Notice(*_alarm(shown, told), alarm=True))
        self._hurry.set()
        self.paint()

    # Drawing

    def paint(self) -> None:
        """Bring the screen up to the board and the clock."""
        try:
            held = self.screen_stack[0].query_one(Held)
            detail = self.screen_stack[0].query_one("#detail", Sheet)
        except (NoMatches, IndexError):
            # The screen is being put up or taken down.
            return
        now = self._clock()
        held.show_rows(self.board.rows, self.board.chosen, now, empty=self._empty())
        detail.lay(top=self._painted != self.board.chosen)
        self._painted = self.board.chosen
        self._paint_top(now)
        if isinstance(self.screen, Ballot):
            view = self.board.known(self.screen.view.id)
            self.screen.follow(None if self.board.gone else view)

    def _paint_top(self, now: datetime) -> None:
        base = self.screen_stack[0]
        age = "" if self._fresh_at is None else span(now - self._fresh_at)
        mode = "all tickets" if self.board.history else f"{self.board.pending} pending"
        state = f"{age} old" if age else "connecting …"
        if self._lost is not None:
            state = "LOST"
        elif self._fresh_at is not None and now - self._fresh_at < LIVE:
            state = "live"
        words = f" · filter: {show(self.board.words)}" if self.board.words else ""
        right = f"{mode}{words} · {state} "
        width = self.size.width
        left = fit(f" {self.TITLE} · {show(self._place)}", max(width - cell_len(right), 0))
        _update(base.query_one("#top", Static), fit(left + right, width))
        lost = base.query_one("#lost", Static)
        lost.display = self._lost is not None
        if self._lost is not None:
            old = f"What you see is {age} old." if age else "Nothing was seen yet."
            _update(lost, f"CONNECTION LOST. {old} Trying again. {show(str(self._lost))}")

    def _detail_rows(self, width: int) -> Sequence[Content]:
        view = self.board.shown
        if view is None:
            return [Content.styled(fit("No ticket is chosen.", width), "$text-muted")]
        return ticket_rows(view, self._clock(), width, gone=self.board.gone)

    def _empty(self) -> str:
        if self._fresh_at is None:
            return "Asking the gateway …"
        if self.board.words:
            return "No ticket holds these words. / changes them, Esc ends the filter."
        if self.board.history:
            return "No ticket concerns you yet."
        return "Nothing is held. What comes appears here by itself; h shows what has ended."

    def _say(self, text: str, *, bad: bool = False) -> None:
        said = self.screen_stack[0].query_one("#said", Static)
        _update(said, show(text))
        said.set_class(bad, "-bad")
        said.display = bool(text)

    # Keys and clicks

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The queue's keys are letters to the filter, and nothing under another screen."""
        if action in ("leave", "focus_next", "focus_previous"):
            return True
        if len(self.screen_stack) > 1:
            return False
        return action == "back" or not isinstance(self.focused, Input)

    def action_move(self, steps: int) -> None:
        """Another row; of the text, where it stands alone."""
        if self.screen.has_class("-whole"):
            detail = self.query_one("#detail", Sheet)
            detail.scroll_relative(y=steps, animate=False)
        else:
            self.query_one(Held).do_in_turn(lambda: self._move(steps))

    def action_page(self, pages: int) -> None:
        """As many rows as are in sight."""
        if self.screen.has_class("-whole"):
            self.action_read(pages)
        else:
            self.action_move(pages * max(self.query_one(Held).size.height - 2, 1))

    def action_whole(self) -> None:
        """The ticket alone, or not any more."""
        self.screen.toggle_class("-whole")

    def action_vote(self, approve: bool) -> None:
        """Ask for the reason of a vote on what is shown."""
        self.query_one(Held).do_in_turn(lambda: self._ask(approve=approve))

    def action_history(self) -> None:
        """Ended tickets too, or only the open ones."""
        self.query_one(Held).do_in_turn(self._turn)

    def _choose(self, ticket: str) -> None:
        self.board.choose(ticket)
        self.paint()

    def _move(self, steps: int) -> None:
        self.board.move(steps)
        self.paint()

    def _turn(self) -> None:
        self.board.turn()
        self._hurry.set()
        self.paint()

    def _ask(self, *, approve: bool) -> None:
        """Only a ticket that waits and is known fresh can be voted on."""
        shown = self.board.shown
        if len(self.screen_stack) > 1:
            return
        if shown is None:
            self._say("There is no ticket to vote on.", bad=True)
        elif self._lost is not None:
            self._say("No vote while the gateway cannot be reached; r tries again.", bad=True)
        elif self.board.gone or shown.state != "pending":
            state = "gone" if self.board.gone else shown.state
            self._say(f"{shown.id} is {state}; there is nothing to decide.", bad=True)
        else:
            self._say("")

            def voted(reason: str | None) -> None:
                if reason is not None:
                    self.send_vote(shown, reason, approve=approve)

            self.push_screen(Ballot(shown, approve=approve, clock=self._clock), voted)

    def action_filter(self) -> None:
        """Type words."""
        words = self.query_one("#words", Input)
        words.display = True
        # At once, so that the next key is a letter already.
        self.screen.set_focus(words)

    @on(Input.Changed, "#words")
    def filter_rows(self, event: Input.Changed) -> None:
        """List what holds the words typed so far."""
        self.board.filter(event.value)
        self.paint()

    @on(Input.Submitted, "#words")
    def end_typing(self, event: Input.Submitted) -> None:
        """Back to the list; the filter stays until Esc."""
        event.input.display = bool(event.value)
        self.screen.set_focus(None)

    async def action_back(self) -> None:
        """Out of the whole ticket first, then out of the filter."""
        if self.screen.has_class("-whole"):
            self.screen.remove_class("-whole")
        else:
            words = self.query_one("#words", Input)
            words.value = ""
            words.display = False
            self._say("")
        self.screen.set_focus(None)

    def action_read(self, pages: int) -> None:
        """The detail further down or back up."""
        detail = self.query_one("#detail", Sheet)
        detail.scroll_relative(y=pages * max(detail.size.height - 1, 1), animate=False)

    def action_hurry(self) -> None:
        """Ask now."""
        self._hurry.set()

    def action_theme(self) -> None:
        """Light or dark."""
        self.theme = "textual-dark" if self.theme == "textual-light" else "textual-light"

    async def action_leave(self) -> None:
        """Quit from anywhere; no vote leaves an open question."""
        self.exit()

    def action_help(self) -> None:
        """What the keys do."""
        self.push_screen(Notice("Keys", HELP))


def _update(line: Static, text: str) -> None:
    """Put shown text into a line, redrawn only if it differs."""
    if str(line.content) != text:
        line.update(Content(text))


def _outcome(told: TicketView) -> str:
    if told.state == "granted":
        return f"{told.id} is granted. {told.identity} may run it once by sending it again."
    if told.state == "pending":
        missing = "; ".join(f"{need.count} of {' or '.join(need.groups)}" for need in told.needs)
        return f"{told.id}: your vote counts. It still needs {missing}."
    return f"{told.id} is {told.state}."


def _alarm(shown: TicketView, told: TicketView) -> tuple[str, str]:
    """Title and text where the gateway counted a vote for something else than was shown."""
    text = (
        f"You voted on {shown.id} as it was shown to you, but the gateway answers with "
        "another ticket, text or digest. Do not trust this approval: deny or cancel it by "
        "another way if you can, and tell security now.\n\n"
        f"Shown     {shown.id}  {shown.digest}\n"
        f"Counted   {told.id}  {told.digest}\n\n"
        f"Shown to you:\n{show(shown.command, limit=1000, newlines=True)}\n\n"
        f"Counted for:\n{show(told.command, limit=1000, newlines=True)}"
    )
    return "YOUR VOTE WAS COUNTED FOR SOMETHING ELSE", text
