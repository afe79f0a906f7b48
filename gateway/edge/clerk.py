"""The clerk of one session: has lines judged, and keeps their tickets."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.approval import Grant, Request, Ticket, claim, expire, find
from gateway.core.events import Judgement, Line
from gateway.core.mask import mask_text
from gateway.edge.door import Admission
from gateway.edge.judging import Judges
from gateway.edge.ledger import Ledger
from gateway.edge.ticketing import TicketLeaves
from gateway.errors import Denied

WAIT_SLICE_S = 30.0
"""How long one wait for a ticket lasts before its time is looked at again."""


class Clerk:
    """Judges and seeks grants on behalf of one admitted client.

    Args:
        judges: decide.
        ledger: leaves, and the store behind them.
        admission: who asks.
        session: id of the session, for the record.
        why: the requester's own words (``TOLLHOUSE_REASON``).
        answer_s: seconds that a ticket waits for its votes.
        pinned: the login whose transaction is open at a prompt, or None.
    """

    def __init__(
        self,
        judges: Judges,
        ledger: Ledger,
        admission: Admission,
        session: str,
        *,
        why: str,
        answer_s: int,
        pinned: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._judges = judges
        self._ledger = ledger
        self._admission = admission
        self._session = session
        self._why = why
        self._pinned = pinned
        self._leaves = TicketLeaves(ledger)
        self._answer_s = answer_s

    async def judge(self, line: Line) -> Judgement:
        """See ``Judges.judge``."""
        admission = self._admission
        return await self._judges.judge(line, admission.target, admission.identity, self._pinned())

    async def seek(self, judgement: Judgement) -> Grant | Ticket:
        """A grant for exactly this line if there is one, else the ticket it waits under.

        Raises:
            Denied: nobody could ever grant it, or a limit of rows could not be kept.
            RecorderFault: the store cannot be read or written.
        """
        check_countable(judgement)
        if self._pinned() is not None:
            raise Denied(
                "A line that needs a grant cannot run inside an open transaction",
                "COMMIT or ROLLBACK first: nobody's locks wait for a human",
                rule="grant.transaction",
            )
        store, now = self._ledger.store, self._ledger.now()
        identity = self._admission.identity
        tickets = await store.open_tickets(identity.id, self._admission.target)
        found = find(tickets, judgement.fields, now, judgement.verdict.approvals)
        if found is None:
            request = Request(
                identity=identity,
                session=self._session,
                fields=judgement.fields,
                shown=mask_text(judgement.parsed.shown),
                verdict=judgement.verdict,
                why=mask_text(self._why),
            )
            found = await store.request_ticket(
                request, now, self._leaves.requested, answer_s=self._answer_s
            )
        if found.state == "granted":
            return claim(found, judgement.fields, now)
        return found

    async def settled(self, judgement: Judgement, ticket: Ticket) -> Grant:
        """Wait until the ticket is decided.

        Raises:
            Denied: it was refused, expired or cancelled; the reason says which.
        """
        while ticket.state == "pending":
            found = await self._ledger.store.wait_ticket(ticket.id, WAIT_SLICE_S)
            ticket = expire(found, self._ledger.now())
        return claim(ticket, judgement.fields, self._ledger.now())


def check_countable(judgement: Judgement) -> None:
    """Refuse a line whose changed rows the guard could not count, where a rule limits them.

    The guard counts by command tags inside a transaction of its own. Rows that foreign
    keys cascade to are in no tag (docs/threats.md).

    Raises:
        Denied: rule ``grant.uncountable``.
    """
    if all(approval.max_rows is None for approval in judgement.verdict.approvals):
        return
    parsed = judgement.parsed
    if any(action.kind == "transaction" for action in parsed.actions):
        what = "a line with transaction statements"
    elif any(not result.counts_rows for unit in parsed.units for result in unit.results):
        what = "a statement that changes rows its command tag does not count"
    else:
        return
    raise Denied(
        f"the rule that asks limits the rows, and {what} cannot be held to it",
        "Send plain INSERT, UPDATE, DELETE or MERGE statements, without a writing WITH and "
        "without BEGIN and COMMIT.",
        rule="grant.uncountable",
    )
