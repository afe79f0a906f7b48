"""A grant fits only a line that asks for what was given: not another form of the same bytes."""

from __future__ import annotations

from dataclasses import replace

from gateway.core import approval
from tests.tickets import APPROVAL, APPROVER, ETL, FIELDS, NOW, ask

SALT = b"s" * approval.SALT_BYTES


def test_a_grant_of_one_form_is_not_found_by_a_form_that_asks_for_more() -> None:
    request = approval.Request(ETL, "s-1", FIELDS, "delete …", ask())
    ticket = approval.open_ticket(request, 1, SALT, NOW)
    vote = approval.Vote(APPROVER, approve=True, reason="ok", at=NOW)
    granted = approval.tally(ticket, (vote,), NOW)
    assert granted.state == "granted"
    # The same text as a script, of which the rules want two persons.
    stricter = (replace(APPROVAL, quorum=2),)
    assert approval.find([granted], FIELDS, NOW, stricter) is None
    assert approval.find([granted], FIELDS, NOW, (APPROVAL,)) is granted
