"""What happens to tickets, each inside a transaction of the caller's.

Every step reads the ticket again, decides by `gateway.core.approval` and writes
the ticket, its votes and its leaves together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from gateway.core import approval
from gateway.core.approval import SALT_BYTES, Grant, Request, Ticket, Vote
from gateway.core.approval_states import OPEN
from gateway.core.identity import Identity
from gateway.errors import Denied
from gateway.store import tickets
from gateway.store.ledger import Writing
from gateway.store.seal import TextSeal
from recorder.leaf import Leaf

LeavesOf = Callable[[Ticket], Sequence[Leaf]]
"""Makes the leaves of a change from the ticket as the change leaves it; must not block."""


async def request(
    writing: Writing,
    seal: TextSeal,
    asked: Request,
    now: datetime,
    leaves_of: LeavesOf,
    answer_s: int,
) -> Ticket:
    """The open ticket that fits a held line, or a new one.

    Raises:
        Denied: see `approval.open_ticket`; or too many tickets are open.
    """
    fields = asked.fields
    held = await tickets.listed(
        writing.connection,
        writing.mac,
        writing.ended,
        states=OPEN,
        requester_id=fields.identity_id,
        target=fields.target,
        limit=tickets.MAX_OPEN,
    )
    found = approval.find(held, fields, now, asked.verdict.approvals)
    if found is not None:
        return found
    if len(held) >= tickets.MAX_OPEN:
        raise Denied(
            f"{asked.identity.name} has {len(held)} open tickets on {fields.target}",
            "Cancel some, or wait until they are answered or expire",
            rule="ticket.limit",
        )
    salt = secrets.token_bytes(SALT_BYTES)
    ticket = approval.open_ticket(asked, writing.next_ticket(), salt, now, answer_s)
    await tickets.add(writing, ticket, seal.seal(fields.text, ticket.id))
    await writing.append(leaves_of(ticket))
    return ticket


async def vote(writing: Writing, ticket_id: str, cast: Vote, leaves_of: LeavesOf) -> Ticket:
    """Add a vote and what follows from it.

    Raises:
        Denied: there is no such ticket, or the voter may not vote on it now.
    """
    ticket, sealed = await _load(writing, ticket_id)
    refusal = approval.may_vote(approval.expire(ticket, cast.at), cast.voter)
    if refusal is not None:
        raise Denied(refusal, rule="ticket.vote")
    after = approval.tally(ticket, (*ticket.votes, cast), cast.at)
    await tickets.add_vote(writing, ticket, cast)
    await tickets.change(writing, after, sealed)
    await writing.append(leaves_of(after))
    return after


async def cancel(
    writing: Writing, ticket_id: str, identity: Identity, now: datetime, leaves_of: LeavesOf
) -> Ticket:
    """Withdraw a pending ticket.

    Raises:
        Denied: there is no such ticket, it is not pending, or somebody else's.
    """
    ticket, _ = await _load(writing, ticket_id)
    after = approval.cancel(approval.expire(ticket, now), identity, now)
    await tickets.change(writing, after, None)
    await writing.append(leaves_of(after))
    return after


async def expire(writing: Writing, now: datetime, leaves_of: LeavesOf) -> list[Ticket]:
    """Expire every ticket that is due; returns them."""
    expired = []
    for ticket, sealed in await tickets.open_rows(writing):
        after = approval.expire(ticket, now)
        if after is not ticket:
            await tickets.change(writing, after, sealed)
            await writing.append(leaves_of(after))
            expired.append(after)
    return expired


async def spend(writing: Writing, grant: Grant, now: datetime) -> None:
    """Use up the grant of a ticket; a grant without a ticket has nothing to use up.

    Raises:
        Denied: the ticket is not granted any more, or of another line.
    """
    if grant.ticket is None:
        return
    ticket, _ = await _load(writing, grant.ticket)
    await tickets.change(writing, approval.spend(ticket, grant, now), None)


async def reveal(writing: Writing, seal: TextSeal, ticket_id: str) -> bytes:
    """The exact text of a ticket that has not ended.

    Raises:
        Denied: there is no such ticket, or its text is destroyed.
        RecorderFault: the text was sealed under another key, or changed.
    """
    _, sealed = await _load(writing, ticket_id)
    if sealed is None:
        raise Denied(
            f"Ticket {ticket_id} has ended and its text is destroyed",
            "The masked form is still shown",
            rule="ticket.text",
        )
    return seal.open(sealed, ticket_id)


async def _load(writing: Writing, ticket_id: str) -> tuple[Ticket, bytes | None]:
    return await tickets.load(writing.connection, writing.mac, writing.ended, ticket_id)
