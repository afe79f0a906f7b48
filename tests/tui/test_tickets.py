"""A view is made strictly from the desk's JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.approval import Ticket
from gateway.edge.desk import ticket_fields
from tests.tickets import APPROVAL, APPROVER, ETL, after, vote
from tests.tui.memory import NOW, fields, ticket
from tui.tickets import Need, Unreachable, VoteView, read_ticket, read_tickets

VOTED = replace(
    ticket(7),
    votes=(VoteView("approver", True, "fine", NOW),),
    expires_at=NOW,
    ended_at=NOW,
)


def test_a_view_comes_back_from_its_json() -> None:
    for view in (ticket(1), VOTED, ticket(2, "select\n'é'", needs=())):
        assert read_ticket(json.loads(json.dumps(fields(view)))) == view


def test_unknown_members_are_ignored() -> None:
    assert read_ticket({**fields(VOTED), "later": [1, 2]}) == VOTED


WRONG: list[tuple[str, Any]] = [
    *((name, 7) for name in fields(VOTED)),
    *((name, None) for name in fields(VOTED) if name not in ("expires_at", "ended_at")),
    ("ticket", "T-1; reboot"),
    ("ticket", "--all"),
    ("ticket", "T-1\n"),
    ("digest", ""),
    ("digest", "A" * 64),
    ("requested_at", "yesterday"),
    ("requested_at", "2026-07-15T09:30:00"),
    ("needs", ["phi-approvers"]),
    ("needs", [{"groups": "phi-approvers", "count": 1}]),
    ("needs", [{"groups": [1], "count": 1}]),
    ("needs", [{"groups": ["a"], "count": True}]),
    ("needs", [{"groups": ["a"], "count": -1}]),
    ("votes", [[]]),
    ("votes", [{"voter": "a", "approve": "yes", "reason": "", "at": NOW.isoformat()}]),
    ("votes", [{"voter": "a", "approve": True, "reason": "", "at": None}]),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_another_shape_is_told_by_its_place(name: str, value: Any) -> None:
    with pytest.raises(Unreachable, match=rf"tickets\[1\]\.{name}"):
        read_tickets({"tickets": [fields(VOTED), {**fields(VOTED), name: value}]})


@pytest.mark.parametrize("name", sorted(fields(VOTED)))
def test_a_missing_member_is_told(name: str) -> None:
    short = fields(VOTED)
    del short[name]
    if name in ("expires_at", "ended_at"):
        assert getattr(read_ticket(short), name) is None
    else:
        with pytest.raises(Unreachable, match=name):
            read_ticket(short)


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"tickets": None}, {"tickets": ["T-1"]}])
def test_an_answer_that_is_no_listing(answer: object) -> None:
    with pytest.raises(Unreachable, match="cannot be read"):
        read_tickets(answer)


def test_the_message_never_quotes_the_value() -> None:
    with pytest.raises(Unreachable) as caught:
        read_ticket({**fields(VOTED), "digest": "536-22-8726"})
    assert "536" not in str(caught.value)


def test_the_desks_own_fields_are_read() -> None:
    """The writer is the gateway's real one; only its words meet this reader."""
    made = Ticket(
        id="T-3",
        state="granted",
        requester=ETL,
        session="s",
        target="claims-db",
        shown="delete from x\nwhere y",
        rule="etl-deletes",
        reason="why held",
        why="",
        approvals=(APPROVAL,),
        salt=b"s" * 32,
        digest="ab" * 32,
        requested=after(0),
        answer_by=after(60),
        expires=after(30),
        votes=(vote(APPROVER),),
    )
    view = read_ticket(json.loads(json.dumps(ticket_fields(made))))
    assert (view.id, view.number, view.open) == ("T-3", 3, True)
    assert (view.command, view.expires_at) == ("delete from x\nwhere y", after(30))
    assert view.votes == (VoteView("approver", True, "looked at it", after(0)),)
    waiting = read_ticket(ticket_fields(replace(made, state="pending", votes=())))
    assert waiting.needs == (Need(("phi-approvers",), 1),)
