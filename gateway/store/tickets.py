"""Tickets and votes. What they mean is decided in `gateway.core.approval`.

A ticket that is open but whose row or end does not hold is refused and reported.
A vote that does not hold is as if it had never been cast.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.approval import Ticket, Vote
from gateway.core.approval_states import OPEN, State
from gateway.core.verdict import Approval
from gateway.errors import Denied
from gateway.store import schema
from gateway.store.columns import (
    all_rows,
    identity_from,
    identity_text,
    one_row,
    optional_text,
    optional_time,
)
from gateway.store.ledger import Writing
from gateway.store.seal import Row, RowMac
from recorder.leaf import time_text

MAX_OPEN: Final = 50
"""Open tickets of one identity on one target; a line sent again is tried against each."""


def ticket_number(ticket_id: str) -> int | None:
    """The n of ``T-<n>``; None for anything else."""
    digits = ticket_id.removeprefix("T-")
    canonical = digits.isascii() and digits.isdigit() and not digits.startswith("0")
    # SQLite's integers have 64 bits; no counter comes near that.
    return int(digits) if canonical and ticket_id == f"T-{digits}" and len(digits) <= 15 else None


def ticket_row(ticket: Ticket, sealed: bytes | None) -> Row:
    """A ticket's columns, all but ``mac``; its votes have a table of their own."""
    return {
        "number": int(ticket.id.removeprefix("T-")),
        "state": ticket.state,
        "requester_id": ticket.requester.id,
        "requester": identity_text(ticket.requester),
        "session": ticket.session,
        "target": ticket.target,
        "shown": ticket.shown,
        "rule": ticket.rule,
        "reason": ticket.reason,
        "why": ticket.why,
        "approvals": json.dumps([asdict(approval) for approval in ticket.approvals]),
        "salt": ticket.salt,
        "digest": ticket.digest,
        "requested": time_text(ticket.requested),
        "answer_by": time_text(ticket.answer_by),
        "expires": optional_text(ticket.expires),
        "ended": optional_text(ticket.ended),
        "text": sealed,
    }


def ticket_from(row: Mapping[str, Any], votes: Sequence[Vote]) -> Ticket:
    """The ticket of a row and of its votes."""
    approvals = [
        Approval(**{**entry, "groups": tuple(entry["groups"])})
        for entry in json.loads(row["approvals"])
    ]
    return Ticket(
        id=f"T-{row['number']}",
        state=row["state"],
        requester=identity_from(row["requester"]),
        session=row["session"],
        target=row["target"],
        shown=row["shown"],
        rule=row["rule"],
        reason=row["reason"],
        why=row["why"],
        approvals=tuple(approvals),
        salt=row["salt"],
        digest=row["digest"],
        requested=datetime.fromisoformat(row["requested"]),
        answer_by=datetime.fromisoformat(row["answer_by"]),
        expires=optional_time(row["expires"]),
        ended=optional_time(row["ended"]),
        votes=tuple(votes),
    )


def vote_row(ticket: Ticket, position: int, vote: Vote) -> Row:
    """A vote's columns, all but ``mac``."""
    return {
        "ticket": int(ticket.id.removeprefix("T-")),
        "position": position,
        "digest": ticket.digest,
        "voter_id": vote.voter.id,
        "voter": identity_text(vote.voter),
        "approve": int(vote.approve),
        "reason": vote.reason,
        "at": time_text(vote.at),
    }


def vote_from(row: Mapping[str, Any]) -> Vote:
    """The vote of a row."""
    return Vote(
        voter=identity_from(row["voter"]),
        approve=bool(row["approve"]),
        reason=row["reason"],
        at=datetime.fromisoformat(row["at"]),
    )


async def load(
    connection: AsyncConnection, mac: RowMac, ended: Collection[str], ticket_id: str
) -> tuple[Ticket, bytes | None]:
    """A ticket with its votes, and its sealed text.

    Raises:
        Denied: there is no such ticket, or its row does not hold.
    """
    number = ticket_number(ticket_id)
    row = None
    if number is not None:
        query = select(schema.ticket).where(schema.ticket.c.number == number)
        row = one_row(await connection.execute(query))
    if row is None:
        raise Denied(
            "There is no such ticket", "See `ssh gateway@… tickets`", rule="ticket.unknown"
        )
    if not _holds(row, mac, ended):
        raise Denied(
            f"Ticket {ticket_id} was changed outside of the gateway",
            "Tell the operator, and send the command again for a new ticket",
            rule="ticket.forged",
        )
    return (await _with_votes(connection, mac, [row]))[0], row["text"]


async def listed(
    connection: AsyncConnection,
    mac: RowMac,
    ended: Collection[str],
    *,
    states: Collection[State],
    requester_id: str | None = None,
    target: str | None = None,
    limit: int,
) -> list[Ticket]:
    """The newest tickets first, at most ``limit``; rows that do not hold are left out."""
    table = schema.ticket
    query = select(table).where(table.c.state.in_(states))
    if requester_id is not None:
        query = query.where(table.c.requester_id == requester_id)
    if target is not None:
        query = query.where(table.c.target == target)
    result = await connection.execute(query.order_by(table.c.number.desc()).limit(limit))
    rows = [row for row in all_rows(result) if _holds(row, mac, ended)]
    return await _with_votes(connection, mac, rows)


async def add(writing: Writing, ticket: Ticket, sealed: bytes) -> None:
    """Insert a new ticket."""
    row = writing.mac.sign("ticket", ticket_row(ticket, sealed))
    await writing.connection.execute(insert(schema.ticket).values(row))


async def add_vote(writing: Writing, ticket: Ticket, vote: Vote) -> None:
    """Insert a vote; the same voter twice is a fault."""
    table = schema.vote
    number = int(ticket.id.removeprefix("T-"))
    # Counted over all rows, so that a row that does not hold takes no one's place.
    query = select(table.c.position).where(table.c.ticket == number)
    taken = (await writing.connection.execute(query)).scalars().all()
    position = max(taken, default=-1) + 1
    row = writing.mac.sign("vote", vote_row(ticket, position, vote))
    await writing.connection.execute(insert(table).values(row))


async def change(writing: Writing, ticket: Ticket, sealed: bytes | None) -> None:
    """Write what became of a ticket; one that has ended loses its text for good."""
    if ticket.state not in OPEN:
        sealed = None
        last = ticket.answer_by if ticket.expires is None else max(ticket.answer_by, ticket.expires)
        await writing.end(_key(ticket.id), time_text(last))
    row = writing.mac.sign("ticket", ticket_row(ticket, sealed))
    number = schema.ticket.c.number == row["number"]
    await writing.connection.execute(update(schema.ticket).where(number).values(row))


async def open_rows(writing: Writing) -> list[tuple[Ticket, bytes | None]]:
    """Every open ticket that holds, oldest first, with its sealed text."""
    table = schema.ticket
    query = select(table).where(table.c.state.in_(OPEN)).order_by(table.c.number)
    result = await writing.connection.execute(query)
    rows = [row for row in all_rows(result) if _holds(row, writing.mac, writing.ended)]
    found = await _with_votes(writing.connection, writing.mac, rows)
    return [(ticket, row["text"]) for ticket, row in zip(found, rows, strict=True)]


def _holds(row: Mapping[str, Any], mac: RowMac, ended: Collection[str]) -> bool:
    if not mac.holds("ticket", row):
        return False
    if row["state"] in OPEN and _key(f"T-{row['number']}") in ended:
        mac.report("ticket")
        return False
    return True


async def _with_votes(
    connection: AsyncConnection, mac: RowMac, rows: Sequence[Mapping[str, Any]]
) -> list[Ticket]:
    table = schema.vote
    numbers = [row["number"] for row in rows]
    result = await connection.execute(
        select(table).where(table.c.ticket.in_(numbers)).order_by(table.c.ticket, table.c.position)
    )
    votes: dict[int, list[Vote]] = {number: [] for number in numbers}
    digests = {row["number"]: row["digest"] for row in rows}
    for row in all_rows(result):
        if mac.holds("vote", row) and row["digest"] == digests[row["ticket"]]:
            votes[row["ticket"]].append(vote_from(row))
    return [ticket_from(row, votes[row["number"]]) for row in rows]


def _key(ticket_id: str) -> str:
    return f"ticket {ticket_id}"
