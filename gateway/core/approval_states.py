"""The states of a ticket, as one table.

::

    pending ──grant──▶ granted ──spend──▶ spent
       │                  └────expire──▶ expired
       ├──refuse──▶ refused
       ├──expire──▶ expired
       └──cancel──▶ cancelled

Everything that is not in the table is refused. Nothing leads out of an ended
state, so a grant is spent at most once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from gateway.errors import Denied

State = Literal["pending", "granted", "refused", "expired", "cancelled", "spent"]
"""Where a ticket stands."""

Event = Literal["grant", "refuse", "expire", "cancel", "spend"]
"""What happens to a ticket."""

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        ("pending", "grant"): "granted",
        ("pending", "refuse"): "refused",
        ("pending", "expire"): "expired",
        ("pending", "cancel"): "cancelled",
        ("granted", "spend"): "spent",
        ("granted", "expire"): "expired",
    }
)

OPEN: Final[frozenset[State]] = frozenset({"pending", "granted"})
"""States that something can still follow."""

_WORDS: Final[Mapping[State, str]] = {
    "pending": "still waits for its votes",
    "granted": "has been granted already",
    "refused": "was refused",
    "expired": "has expired",
    "cancelled": "was cancelled",
    "spent": "has been used; a grant lets one command run once",
}

_ADVICE: Final[Mapping[State, str]] = {
    "pending": "Ask the groups that the ticket names, then send the command again",
    "granted": "Send the same command again to use it before it expires",
    "refused": "Read the reason that was given with the refusal",
    "expired": "Send the command again to get a new ticket",
    "cancelled": "Send the command again to get a new ticket",
    "spent": "Send the command again to get a new ticket",
}


def step(state: State, event: Event, ticket: str) -> State:
    """The state that follows.

    Args:
        state: where the ticket stands.
        event: what shall happen.
        ticket: its id, for the message.

    Raises:
        Denied: the table has no such transition; the reason says where the
            ticket stands.
    """
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise Denied(f"Ticket {ticket} {_WORDS[state]}", _ADVICE[state], rule=f"ticket.{state}")
    return following
