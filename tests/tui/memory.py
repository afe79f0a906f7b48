"""``Tickets`` kept in memory: the port's rules without a gateway."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tui.tickets import Need, Refused, TicketView, Unreachable, VoteView

NOW = datetime(2026, 7, 15, 9, 30, tzinfo=UTC)


def ticket(number: int, command: str = "", **changes: Any) -> TicketView:
    """A pending ticket, asked 5 minutes ago for each that came after it."""
    command = command or f"delete from claims where id = {number}"
    view = TicketView(
        id=f"T-{number}",
        state="pending",
        identity="etl",
        target="claims-db",
        command=command,
        rule="etl-deletes",
        reason="deletes rows that may be PHI",
        why="monthly close",
        digest=hashlib.sha256(f"{number}:{command}".encode("utf-8", "surrogatepass")).hexdigest(),
        needs=(Need(("phi-approvers",), 1),),
        requested_at=NOW - timedelta(minutes=5),
        answer_by=NOW + timedelta(hours=23, minutes=55),
        expires_at=None,
        ended_at=None,
        votes=(),
    )
    return replace(view, **changes)


def fields(view: TicketView) -> dict[str, Any]:
    """The JSON of a view, as the gateway's desk writes it."""

    def time(moment: datetime | None) -> str | None:
        return None if moment is None else moment.isoformat()

    votes = [
        {"voter": v.voter, "approve": v.approve, "reason": v.reason, "at": time(v.at)}
        for v in view.votes
    ]
    names = ("state", "identity", "target", "command", "rule", "reason", "why", "digest")
    times = ("requested_at", "answer_by", "expires_at", "ended_at")
    return {
        "ticket": view.id,
        **{name: getattr(view, name) for name in names},
        **{name: time(getattr(view, name)) for name in times},
        "needs": [{"groups": list(need.groups), "count": need.count} for need in view.needs],
        "votes": votes,
    }


class MemoryTickets:
    """The port, answered from a dictionary.

    Attributes:
        views: by id; tests change it between two listings.
        votes: each as (id, approve, reason), in the order in which they came.
        lost: no question is answered while True.
        swapped: what a vote returns instead of the ticket, as a broken gateway might.
    """

    def __init__(self, *views: TicketView) -> None:
        self.views: dict[str, TicketView] = {view.id: view for view in views}
        self.votes: list[tuple[str, bool, str]] = []
        self.lost = False
        self.swapped: Mapping[str, TicketView] = {}

    async def listed(self, *, ended: bool) -> list[TicketView]:
        """See ``Tickets``."""
        self._reach()
        return [view for view in self.views.values() if ended or view.open]

    async def approve(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return self._vote(ticket, reason, approve=True)

    async def deny(self, ticket: str, reason: str) -> TicketView:
        """See ``Tickets``."""
        return self._vote(ticket, reason, approve=False)

    def end(self, ticket: str, state: str) -> None:
        """Somebody else ends a ticket."""
        self.views[ticket] = replace(self.views[ticket], state=state, ended_at=NOW, needs=())

    def _vote(self, ticket: str, reason: str, *, approve: bool) -> TicketView:
        self._reach()
        view = self.views[ticket]
        if view.state != "pending":
            raise Refused(f"Ticket {ticket} was decided already", rule="ticket.late")
        self.votes.append((ticket, approve, reason))
        votes = (*view.votes, VoteView("approver", approve, reason, NOW))
        left = view.needs[0].count - 1
        if not approve:
            view = replace(view, state="refused", needs=(), ended_at=NOW)
        elif left == 0:
            expires = NOW + timedelta(minutes=30)
            view = replace(view, state="granted", needs=(), expires_at=expires)
        else:
            view = replace(view, needs=(replace(view.needs[0], count=left),))
        self.views[ticket] = replace(view, votes=votes)
        return self.swapped.get(ticket, self.views[ticket])

    def _reach(self) -> None:
        if self.lost:
            raise Unreachable("the network is down")
