"""Approval: who may let a held line run, and the one object that lets it.

A line whose verdict is ``ask`` gets a `Ticket`. Votes move it through the table
in `approval_states`. The same line, sent again, is matched by its digest and
claims a `Grant`; only a Grant lets a line run. Grants are made here and nowhere
else; the store spends them in the transaction that records the intent.

Not protected here: code inside this process that forges objects on purpose
(``object.__new__``, pickle). The store therefore reads the ticket again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import rfc8785

from gateway.core.approval_states import OPEN, State, step
from gateway.core.identity import Identity
from gateway.core.verdict import Approval, Verdict
from gateway.errors import Denied

SALT_BYTES: Final = 32
ANSWER_S: Final = 24 * 3600
"""Seconds that a ticket waits for its votes unless configured otherwise."""

_MINT: Final = object()


@dataclass(frozen=True, slots=True)
class BoundFields:
    """Everything that a grant is bound to; one change and it does not fit.

    Attributes:
        text: the exact bytes of the whole line or script; may hold PHI, so it
            stays out of ``repr``.
        target: name of the target.
        database: name of the database; empty where there is none.
        upstream_role: login that the line would run under.
        identity_id: ``Identity.id`` of the requester.
        policy_version: ``Policies.version``.
        masking: hash of the masking configuration, hex.
        catalog: fingerprint of the catalog rows that were used, hex; may be empty.
    """

    text: bytes = field(repr=False)
    target: str
    database: str
    upstream_role: str
    identity_id: str
    policy_version: str
    masking: str
    catalog: str


def digest(salt: bytes, fields: BoundFields) -> str:
    """SHA-256(salt || JCS(fields)), lower case hex (docs/formats.md, "Digest").

    The object has one string per attribute of BoundFields, under its name;
    ``text`` is the lower case hex of its bytes, so that any bytes can be bound.

    Args:
        salt: 32 bytes, of this ticket only: short lines could be guessed else.
        fields: what the grant is bound to.

    Raises:
        Denied: the salt has another length, or a string is not valid Unicode.
    """
    if len(salt) != SALT_BYTES:
        raise Denied("The ticket's salt is damaged", rule="ticket.salt")
    members = {
        "catalog": fields.catalog,
        "database": fields.database,
        "identity_id": fields.identity_id,
        "masking": fields.masking,
        "policy_version": fields.policy_version,
        "target": fields.target,
        "text": fields.text.hex(),
        "upstream_role": fields.upstream_role,
    }
    try:
        canonical = rfc8785.dumps(members)
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise Denied("The line cannot be bound to a ticket", rule="ticket.digest") from error
    return hashlib.sha256(salt + canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Request:
    """A held line, before it has a ticket.

    Attributes:
        identity: who asks.
        session: id of the session that asks.
        fields: what a grant would be bound to.
        shown: the line as people see it, PHI literals masked.
        verdict: the ``ask`` that held it.
        why: the requester's own words; shown as claimed.
    """

    identity: Identity
    session: str
    fields: BoundFields
    shown: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's answer.

    Attributes:
        voter: the identity at the time of the vote.
        approve: True to grant, False to refuse.
        reason: in the voter's words.
        at: aware UTC.
    """

    voter: Identity
    approve: bool
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Ticket:
    """A held line and what people said about it.

    Attributes:
        id: ``T-<n>``.
        state: see `approval_states`.
        requester: who asked.
        session: id of the session that asked.
        target: name of the target.
        shown: the line, PHI literals masked.
        rule: the rule that held it.
        reason: why that rule asks.
        why: the requester's own words.
        approvals: all of them must be met.
        salt: 32 bytes, of this ticket only.
        digest: hex; what a grant is bound to.
        requested: aware UTC.
        answer_by: when a pending ticket expires.
        expires: when the grant can no longer be spent; None until granted.
        ended: when it was refused, spent, cancelled or found expired.
        votes: in the order in which they came.
    """

    id: str
    state: State
    requester: Identity
    session: str
    target: str
    shown: str
    rule: str
    reason: str
    why: str
    approvals: tuple[Approval, ...]
    salt: bytes = field(repr=False)
    digest: str
    requested: datetime
    answer_by: datetime
    expires: datetime | None = None
    ended: datetime | None = None
    votes: tuple[Vote, ...] = ()

    @property
    def ttl_s(self) -> int:
        """Seconds from the grant to its end: the smallest that a rule names."""
        return min(approval.ttl_s for approval in self.approvals)

    @property
    def max_rows(self) -> int | None:
        """The smallest row limit that a rule names; None for no limit."""
        limits = [a.max_rows for a in self.approvals if a.max_rows is not None]
        return min(limits, default=None)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that may vote, each once, in the rules' order."""
        return tuple(dict.fromkeys(g for a in self.approvals for g in a.groups))


@dataclass(frozen=True, slots=True)
class Grant:
    """The leave to run one line once; made only by `allow` and `claim`.

    Attributes:
        fields: what may run, and as whom; the runner compares the bytes.
        ticket: id of the ticket that is spent; None where the verdict was allow.
        digest: the ticket's digest; None without a ticket.
        max_rows: the guard rolls back above it; None for no limit.
        expires: when it can no longer be spent; None without a ticket.
        mint: this module's private token; anything else raises.
    """

    fields: BoundFields
    ticket: str | None
    digest: str | None
    max_rows: int | None
    expires: datetime | None
    mint: InitVar[object]

    def __post_init__(self, mint: object) -> None:
        """Refuse any maker but this module."""
        if mint is not _MINT:
            raise Denied("A grant was made outside of approval", rule="approval.mint")


def allow(verdict: Verdict, fields: BoundFields) -> Grant:
    """The grant of a line that needs nobody's leave.

    Raises:
        Denied: the verdict is not ``allow``.
    """
    if verdict.verdict != "allow" or verdict.approvals:
        raise Denied(verdict.reason, verdict.advice, rule=verdict.rule)
    return Grant(fields, None, None, None, None, _MINT)


def open_ticket(
    request: Request, number: int, salt: bytes, now: datetime, answer_s: int = ANSWER_S
) -> Ticket:
    """A pending ticket for a held line.

    Args:
        request: the held line.
        number: makes the id ``T-<number>``; never used before.
        salt: 32 fresh random bytes.
        now: aware UTC.
        answer_s: seconds until a ticket that nobody answered expires.

    Raises:
        Denied: the verdict is not ``ask``, a rule demands nothing that people
            could meet, or nobody answers for the machine that asks (then nobody
            could be kept from voting on their own request).
    """
    verdict = request.verdict
    if verdict.verdict != "ask" or not verdict.approvals:
        raise Denied(verdict.reason, verdict.advice, rule=verdict.rule)
    for approval in verdict.approvals:
        if not approval.groups or approval.quorum < 1 or approval.ttl_s < 1:
            raise Denied(
                f"Rule {approval.rule} asks for an approval that nobody can give",
                "Have the policy name a group, a quorum and a time of at least one",
                rule=approval.rule,
            )
    if request.identity.kind != "person" and not request.identity.accountable:
        raise Denied(
            f"Nobody answers for {request.identity.name}, so nobody can be asked",
            "Give its role an owner in the configuration",
            rule="approval.owner",
        )
    return Ticket(
        id=f"T-{number}",
        state="pending",
        requester=request.identity,
        session=request.session,
        target=request.fields.target,
        shown=request.shown,
        rule=verdict.rule,
        reason=verdict.reason,
        why=request.why,
        approvals=verdict.approvals,
        salt=salt,
        digest=digest(salt, request.fields),
        requested=now,
        answer_by=now + timedelta(seconds=answer_s),
    )


def humans(identity: Identity) -> frozenset[str]:
    """The persons behind an identity, ``issuer|subject`` each, itself included."""
    return frozenset({identity.id, *identity.accountable})


def owns(ticket: Ticket, identity: Identity) -> bool:
    """Whether the ticket is this identity's own, or of a machine that this person answers for.

    Another machine of the same owner is somebody else: it sees and cancels its own only.
    """
    answers = identity.kind == "person" and identity.id in ticket.requester.accountable
    return identity.id == ticket.requester.id or answers


def may_vote(ticket: Ticket, identity: Identity) -> str | None:
    """Why this identity may not vote on this ticket now; None when it may."""
    barred = _bar(ticket, identity)
    if barred is not None:
        return barred
    if ticket.state != "pending":
        return f"Ticket {ticket.id} is {ticket.state}; only a pending one takes votes"
    if any(humans(vote.voter) & humans(identity) for vote in ticket.votes):
        return f"You have voted on ticket {ticket.id}; one person counts once"
    return None


def _bar(ticket: Ticket, identity: Identity) -> str | None:
    """Why this identity's vote never counts on this ticket; None when it can."""
    if identity.kind != "person":
        return f"Only persons vote, and {identity.name} is not one"
    if humans(ticket.requester) & humans(identity):
        return f"Ticket {ticket.id} is your own request, or of a machine you answer for"
    if not set(identity.groups) & set(ticket.groups):
        wanted = ", ".join(ticket.groups)
        return f"Ticket {ticket.id} is for {wanted}, and you are in none of these groups"
    return None


def due(ticket: Ticket, now: datetime) -> bool:
    """Whether an open ticket's time is over."""
    if ticket.state == "pending":
        return now >= ticket.answer_by
    return ticket.state == "granted" and (ticket.expires is None or now >= ticket.expires)


def expire(ticket: Ticket, now: datetime) -> Ticket:
    """The ticket, expired if its time is over; else as it was."""
    if not due(ticket, now):
        return ticket
    return replace(ticket, state=step(ticket.state, "expire", ticket.id), ended=now)


def cancel(ticket: Ticket, identity: Identity, now: datetime) -> Ticket:
    """The ticket, withdrawn by its requester or by who answers for it.

    Raises:
        Denied: it is somebody else's, or no longer pending.
    """
    if not owns(ticket, identity):
        raise Denied(
            f"Ticket {ticket.id} is not yours to cancel",
            "Approvers refuse a ticket with `deny`",
            rule="ticket.owner",
        )
    return replace(ticket, state=step(ticket.state, "cancel", ticket.id), ended=now)


def tally(ticket: Ticket, votes: Sequence[Vote], now: datetime) -> Ticket:
    """The ticket as these votes leave it.

    One refusal refuses. A person in the groups of several rules counts for each
    of them, and once for each. Votes that `may_vote` bars for good do not count.

    Args:
        ticket: pending, or the ticket comes back as it is (expired if due).
        votes: all votes on it, in order; they replace ``ticket.votes``.
        now: aware UTC.
    """
    counted = replace(ticket, votes=tuple(votes))
    if counted.state != "pending" or due(counted, now):
        return expire(counted, now)
    valid = [vote for vote in votes if _bar(ticket, vote.voter) is None]
    if any(not vote.approve for vote in valid):
        return replace(counted, state=step("pending", "refuse", ticket.id), ended=now)
    if any(_missing(approval, valid) for approval in ticket.approvals):
        return counted
    return replace(
        counted,
        state=step("pending", "grant", ticket.id),
        expires=now + timedelta(seconds=ticket.ttl_s),
    )


def missing(ticket: Ticket) -> tuple[tuple[tuple[str, ...], int], ...]:
    """What a pending ticket still needs: groups, and how many more of them."""
    valid = [vote for vote in ticket.votes if _bar(ticket, vote.voter) is None]
    left = ((a.groups, _missing(a, valid)) for a in ticket.approvals)
    return tuple((groups, count) for groups, count in left if count)


def _missing(approval: Approval, votes: Iterable[Vote]) -> int:
    """How many more persons this rule needs."""
    seen: set[str] = set()
    count = 0
    for vote in votes:
        persons = humans(vote.voter)
        if vote.approve and set(vote.voter.groups) & set(approval.groups) and not persons & seen:
            seen |= persons
            count += 1
    return max(0, approval.quorum - count)


def matches(ticket: Ticket, fields: BoundFields) -> bool:
    """Whether this ticket was given for exactly these fields."""
    return hmac.compare_digest(ticket.digest, digest(ticket.salt, fields))


def find(
    tickets: Iterable[Ticket],
    fields: BoundFields,
    now: datetime,
    approvals: tuple[Approval, ...] | None = None,
) -> Ticket | None:
    """The open ticket that was given for these fields; a granted one first.

    Args:
        tickets: of the identity and the target.
        fields: of the line.
        now: aware UTC.
        approvals: what the line's verdict asks for. A rule may ask more of a script than
            of one command, and of one role than of another, while the fields are the same;
            a ticket that asked for something else does not fit. None looks at the fields only.
    """
    fitting = [
        t
        for t in tickets
        if t.state in OPEN
        and not due(t, now)
        and (approvals is None or t.approvals == approvals)
        and matches(t, fields)
    ]
    return min(fitting, key=lambda t: t.state != "granted", default=None)


def claim(ticket: Ticket, fields: BoundFields, now: datetime) -> Grant:
    """The grant that this ticket gives to exactly these fields.

    Claiming spends nothing: the store does, with the intent.

    Raises:
        Denied: the ticket is for something else, is not granted, or its time is
            over; the reason says which.
    """
    if not matches(ticket, fields):
        raise Denied(
            f"Ticket {ticket.id} is for another command, identity, policy or catalog",
            "Send the command exactly as it was approved, or ask for a new ticket",
            rule="ticket.mismatch",
        )
    current = expire(ticket, now)
    step(current.state, "spend", ticket.id)
    return Grant(fields, ticket.id, ticket.digest, ticket.max_rows, ticket.expires, _MINT)


def spend(ticket: Ticket, grant: Grant, now: datetime) -> Ticket:
    """The ticket after its grant was used.

    Args:
        ticket: as the store holds it now, not as it was when it was claimed.
        grant: what was claimed.
        now: aware UTC.

    Raises:
        Denied: the grant is of another ticket, or the ticket is not granted any more.
    """
    if grant.ticket != ticket.id or not matches(ticket, grant.fields):
        raise Denied(f"The grant is not of ticket {ticket.id}", rule="ticket.mismatch")
    current = expire(ticket, now)
    return replace(current, state=step(current.state, "spend", ticket.id), ended=now)
