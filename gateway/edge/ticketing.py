"""What the ledger says about tickets (docs/formats.md, "Leaf types")."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.approval import Grant, Ticket, Vote
from gateway.core.mask import mask_text
from gateway.edge.ledger import Ledger
from recorder.leaf import Leaf


class TicketLeaves:
    """Makes the leaves that commit together with a change of a ticket.

    Args:
        ledger: gives them time and salt.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def requested(self, ticket: Ticket) -> Sequence[Leaf]:
        """A line is held."""
        body = {
            "answer_by": ticket.answer_by.isoformat(),
            "approvals": [
                {
                    "groups": list(approval.groups),
                    "max_rows": approval.max_rows,
                    "quorum": approval.quorum,
                    "rule": approval.rule,
                    "ttl_s": approval.ttl_s,
                }
                for approval in ticket.approvals
            ],
            "command": ticket.shown,
            "digest": ticket.digest,
            "identity": ticket.requester.name,
            "reason": ticket.reason,
            "rule": ticket.rule,
            "target": ticket.target,
            "ticket": ticket.id,
            "why": ticket.why,
        }
        return [self._ledger.leaf("approval.requested", ticket.session, body)]

    def voted(self, ticket: Ticket) -> Sequence[Leaf]:
        """The last vote of a ticket, and what it decided."""
        vote = ticket.votes[-1]
        leaves = [self._ledger.leaf("approval.voted", ticket.session, _vote(ticket, vote))]
        if ticket.state in ("granted", "refused"):
            body = {"digest": ticket.digest, "ticket": ticket.id}
            if ticket.expires is not None:
                body["expires"] = ticket.expires.isoformat()
            if ticket.state == "refused":
                body["reason"] = mask_text(vote.reason)
            leaves.append(self._ledger.leaf(f"approval.{ticket.state}", ticket.session, body))
        return leaves

    def expired(self, ticket: Ticket) -> Sequence[Leaf]:
        """A ticket's time is over."""
        body = {"digest": ticket.digest, "ticket": ticket.id}
        return [self._ledger.leaf("approval.expired", ticket.session, body)]

    def cancelled(self, ticket: Ticket) -> Sequence[Leaf]:
        """Its requester took it back."""
        body = {
            "digest": ticket.digest,
            "reason": "cancelled by its requester",
            "ticket": ticket.id,
        }
        return [self._ledger.leaf("approval.refused", ticket.session, body)]

    def spent(self, grant: Grant, session: str) -> Sequence[Leaf]:
        """A grant is used; empty where the line needed none."""
        if grant.ticket is None:
            return []
        body = {"digest": grant.digest, "ticket": grant.ticket}
        return [self._ledger.leaf("approval.spent", session, body)]


def _vote(ticket: Ticket, vote: Vote) -> dict[str, object]:
    return {
        "approve": vote.approve,
        "digest": ticket.digest,
        "issuer": vote.voter.issuer,
        "reason": mask_text(vote.reason),
        "subject": vote.voter.subject,
        "ticket": ticket.id,
        "voter": vote.voter.name,
    }
