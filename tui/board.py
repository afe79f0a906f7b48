"""What is listed and which ticket is chosen; pure, so that it can be tested as a table.

One promise matters: only the approver moves the choice. A refresh may add, change
and remove tickets around the chosen one, which stays listed until one moves away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tui.tickets import TicketView


@dataclass
class Board:
    """The listed tickets.

    Attributes:
        history: ended tickets are listed too, the newest first.
        words: only tickets that hold all these words are listed; any case.
        chosen: id of the ticket that the detail shows; None where there is none.
        gone: the chosen ticket is no longer listed by the gateway; what is shown
            of it is the last that was known.
    """

    history: bool = False
    words: str = ""
    chosen: str | None = None
    gone: bool = False
    _known: dict[str, TicketView] = field(default_factory=dict)

    @property
    def rows(self) -> list[TicketView]:
        """The listed tickets in their order, the chosen one always among them."""
        found = [view for view in self._known.values() if self._fits(view)]
        if (shown := self.shown) is not None and shown not in found:
            found.append(shown)
        return sorted(found, key=lambda view: view.number, reverse=self.history)

    @property
    def shown(self) -> TicketView | None:
        """The ticket that the detail shows, and the only one that can be voted on."""
        return None if self.chosen is None else self._known[self.chosen]

    @property
    def pending(self) -> int:
        """How many wait for votes."""
        return sum(view.state == "pending" for view in self._known.values())

    def known(self, ticket: str) -> TicketView | None:
        """The latest of one ticket, listed or not."""
        return self._known.get(ticket)

    def refresh(self, views: Iterable[TicketView]) -> None:
        """Take a new listing; the choice stays where it is."""
        before = self.shown
        self._known = {view.id: view for view in views}
        self.gone = before is not None and before.id not in self._known
        if before is not None and self.gone:
            self._known[before.id] = before
        if self.chosen is None:
            self._choose_first()

    def replace(self, view: TicketView) -> None:
        """Take a newer view of one ticket, as a vote returns it."""
        self._known[view.id] = view
        if view.id == self.chosen:
            self.gone = False

    def choose(self, ticket: str) -> None:
        """Choose a listed ticket; nothing happens if it is not known."""
        if ticket in self._known and ticket != self.chosen:
            self.chosen, self.gone = ticket, False

    def move(self, steps: int) -> None:
        """Choose a row below, or above where ``steps`` is negative; stops at the ends."""
        rows = self.rows
        if not rows:
            return
        at = next((n for n, view in enumerate(rows) if view.id == self.chosen), 0)
        self.choose(rows[min(max(at + steps, 0), len(rows) - 1)].id)

    def filter(self, words: str) -> None:
        """List only what holds these words; a choice that does not is given up."""
        self.words = words
        self._choose_again()

    def turn(self) -> None:
        """Between open tickets and all of them."""
        self.history = not self.history
        self._choose_again()

    def _choose_again(self) -> None:
        if (shown := self.shown) is None or not self._fits(shown):
            self._choose_first()

    def _choose_first(self) -> None:
        self.chosen, self.gone = None, False
        if rows := self.rows:
            self.chosen = rows[0].id

    def _fits(self, view: TicketView) -> bool:
        if not (self.history or view.open):
            return False
        if not self.words:
            return True
        parts = (view.id, view.state, view.identity, view.target, view.rule, view.reason)
        text = "\n".join((*parts, view.why, view.command)).casefold()
        return all(word in text for word in self.words.casefold().split())
