"""Approval: the table, the digest, who votes, and what a grant lets run."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import approval
from gateway.core.approval import BoundFields, Grant, Ticket
from gateway.core.approval_states import OPEN, TRANSITIONS, Event, State, step
from gateway.core.identity import Identity
from gateway.core.verdict import Approval, Verdict
from gateway.errors import Denied
from tests.tickets import (
    APPROVAL,
    APPROVER,
    APPROVER2,
    ETL,
    FIELDS,
    NOW,
    OWNER,
    STRANGER,
    after,
    request,
    vote,
    who,
)

SALT = bytes(range(32))
TWICE = replace(APPROVAL, quorum=2)
DBA = Approval("drops", ("dba",), 1, 600, 10, "drops a table")


def pending(*approvals: Approval) -> Ticket:
    return approval.open_ticket(request(FIELDS.text, *approvals), 7, SALT, NOW)


def granted() -> Ticket:
    return approval.tally(pending(), [vote(APPROVER)], NOW)


@pytest.mark.parametrize(
    ("state", "event"), list(itertools.product(get_args(State), get_args(Event)))
)
def test_only_what_the_table_names_can_happen(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert state in OPEN
        assert step(state, event, "T-7") == TRANSITIONS[state, event]
    else:
        with pytest.raises(Denied, match="Ticket T-7 ") as refusal:
            step(state, event, "T-7")
        assert refusal.value.rule == f"ticket.{state}"
        assert refusal.value.advice


@given(st.lists(st.sampled_from(get_args(Event)), max_size=12))
def test_no_sequence_of_events_spends_twice_or_leaves_an_end(events: list[Event]) -> None:
    state: State = "pending"
    spent = 0
    for event in events:
        try:
            following = step(state, event, "T-1")
        except Denied:
            continue
        assert state in OPEN
        spent += following == "spent"
        state = following
    assert spent <= 1


def test_digest_is_what_the_format_says() -> None:
    # For plain ASCII members, sorted compact JSON is RFC 8785's form.
    members = {f.name: getattr(FIELDS, f.name) for f in fields(FIELDS)}
    members["text"] = FIELDS.text.hex()
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    assert approval.digest(SALT, FIELDS) == hashlib.sha256(SALT + canonical).hexdigest()


@pytest.mark.parametrize("name", [f.name for f in fields(BoundFields)])
def test_each_field_is_bound(name: str) -> None:
    value = getattr(FIELDS, name)
    changed = replace(FIELDS, **{name: value + (b" " if isinstance(value, bytes) else " ")})
    assert approval.digest(SALT, changed) != approval.digest(SALT, FIELDS)
    assert not approval.matches(pending(), changed)
    with pytest.raises(Denied, match="another command") as refusal:
        approval.claim(granted(), changed, NOW)
    assert refusal.value.rule == "ticket.mismatch"


def test_digest_depends_on_the_salt_and_takes_any_bytes() -> None:
    assert approval.digest(bytes(32), FIELDS) != approval.digest(SALT, FIELDS)
    assert approval.digest(SALT, replace(FIELDS, text=b"\xff\x00"))
    with pytest.raises(Denied, match="salt"):
        approval.digest(b"short", FIELDS)
    with pytest.raises(Denied, match="cannot be bound"):
        approval.digest(SALT, replace(FIELDS, catalog="\ud800"))


def test_the_exact_text_is_in_no_repr() -> None:
    grant = approval.claim(granted(), FIELDS, NOW)
    for thing in (FIELDS, request(), grant, pending()):
        assert "078-05-1120" not in repr(thing)
        assert b"078-05-1120".hex() not in repr(thing)


def test_nobody_else_makes_a_grant() -> None:
    with pytest.raises(Denied, match="outside of approval"):
        Grant(FIELDS, "T-7", "00", None, None, object())
    grant = approval.claim(granted(), FIELDS, NOW)
    with pytest.raises(Denied, match="outside of approval"):
        replace(grant, max_rows=None, mint=None)
    with pytest.raises(FrozenInstanceError):
        grant.max_rows = None  # type: ignore[misc]


def test_allow_needs_no_ticket_and_takes_no_other_verdict() -> None:
    grant = approval.allow(Verdict("allow", "etl-reads", "may"), FIELDS)
    assert (grant.ticket, grant.digest, grant.expires, grant.fields) == (None, None, None, FIELDS)
    for verdict in (
        Verdict("deny", "default-deny", "nothing permits it"),
        Verdict("ask", "etl-deletes", "asks", approvals=(APPROVAL,)),
        Verdict("allow", "odd", "asks and allows", approvals=(APPROVAL,)),
    ):
        with pytest.raises(Denied) as refusal:
            approval.allow(verdict, FIELDS)
        assert refusal.value.rule == verdict.rule


def test_a_ticket_says_what_was_asked() -> None:
    ticket = pending(TWICE, DBA)
    assert ticket.id == "T-7"
    assert ticket.state == "pending"
    assert ticket.answer_by == after(24 * 3600)
    assert ticket.groups == ("phi-approvers", "dba")
    assert (ticket.ttl_s, ticket.max_rows) == (600, 10)
    assert pending(replace(APPROVAL, max_rows=None)).max_rows is None
    assert approval.missing(ticket) == ((("phi-approvers",), 2), (("dba",), 1))


@pytest.mark.parametrize(
    "hopeless",
    [
        replace(APPROVAL, groups=()),
        replace(APPROVAL, quorum=0),
        replace(APPROVAL, ttl_s=0),
    ],
)
def test_an_approval_that_nobody_could_give_or_need_is_refused(hopeless: Approval) -> None:
    with pytest.raises(Denied, match="nobody can give"):
        pending(APPROVAL, hopeless)


def test_a_ticket_is_for_a_held_line_of_somebody() -> None:
    allowed = replace(request(), verdict=Verdict("allow", "etl-reads", "may"))
    with pytest.raises(Denied):
        approval.open_ticket(allowed, 1, SALT, NOW)
    orphan = request(identity=who("orphan", "agent"))
    with pytest.raises(Denied, match="Nobody answers for orphan"):
        approval.open_ticket(orphan, 1, SALT, NOW)


@pytest.mark.parametrize(
    ("voter", "reason"),
    [
        (APPROVER, None),
        (STRANGER, "in none of these groups"),
        (OWNER, "your own request"),
        (who("alias", groups=("phi-approvers",), accountable=(OWNER.id,)), "your own request"),
        (who("bot", "machine", groups=("phi-approvers",), accountable=("x|y",)), "Only persons"),
        (who("ai", "agent", groups=("phi-approvers",), accountable=("x|y",)), "Only persons"),
    ],
    ids=lambda value: value.name if isinstance(value, Identity) else str(value)[:12],
)
def test_who_may_vote(voter: Identity, reason: str | None) -> None:
    refusal = approval.may_vote(pending(TWICE), voter)
    if reason is None:
        assert refusal is None
    else:
        assert refusal is not None
        assert reason in refusal
        # What may not be cast does not count either, and refuses nothing.
        for approve in (True, False):
            votes = [vote(voter, approve=approve)]
            assert approval.tally(pending(), votes, NOW).state == "pending"


def test_a_person_does_not_vote_on_their_own_request() -> None:
    asked = request(identity=APPROVER)
    ticket = approval.open_ticket(asked, 1, SALT, NOW)
    assert "your own request" in (approval.may_vote(ticket, APPROVER) or "")
    assert approval.may_vote(ticket, APPROVER2) is None


def test_one_person_counts_once_under_any_name() -> None:
    second_name = who("badge-7", groups=("phi-approvers",), accountable=(APPROVER.id,))
    votes = [vote(APPROVER), vote(second_name), vote(APPROVER)]
    ticket = approval.tally(pending(TWICE), votes, NOW)
    assert ticket.state == "pending"
    assert approval.missing(ticket) == ((("phi-approvers",), 1),)
    for again in (APPROVER, second_name):
        assert "one person counts once" in (approval.may_vote(ticket, again) or "")
    assert approval.tally(ticket, [*votes, vote(APPROVER2)], NOW).state == "granted"


def test_every_rule_must_be_met_and_one_person_may_meet_two() -> None:
    both = pending(APPROVAL, DBA)
    assert approval.tally(both, [vote(APPROVER)], NOW).state == "pending"
    ticket = approval.tally(both, [vote(APPROVER2)], after(5))
    assert ticket.state == "granted"
    assert ticket.expires == after(5 + 600)


def test_one_refusal_refuses_for_good() -> None:
    votes = [vote(APPROVER), vote(APPROVER2, approve=False)]
    ticket = approval.tally(pending(TWICE), votes, after(9))
    assert (ticket.state, ticket.ended) == ("refused", after(9))
    assert approval.may_vote(ticket, who("third", groups=("dba",))) is not None
    assert approval.tally(ticket, [vote(APPROVER), vote(APPROVER2)], after(10)).state == "refused"
    with pytest.raises(Denied, match="was refused"):
        approval.claim(ticket, FIELDS, after(10))


def test_an_answer_that_comes_too_late_grants_nothing() -> None:
    late = after(24 * 3600)
    ticket = approval.tally(pending(), [vote(APPROVER, at=late)], late)
    assert (ticket.state, ticket.expires) == ("expired", None)
    just = approval.tally(pending(), [vote(APPROVER)], after(24 * 3600 - 1))
    assert just.state == "granted"


def test_a_grant_carries_the_limits_and_ends_on_time() -> None:
    ticket = granted()
    grant = approval.claim(ticket, FIELDS, after(1799))
    assert (grant.ticket, grant.digest) == (ticket.id, ticket.digest)
    assert (grant.max_rows, grant.expires) == (1000, after(1800))
    with pytest.raises(Denied, match="has expired"):
        approval.claim(ticket, FIELDS, after(1800))
    with pytest.raises(Denied, match="has expired"):
        approval.spend(ticket, grant, after(1800))
    with pytest.raises(Denied, match="still waits"):
        approval.claim(pending(), FIELDS, NOW)


def test_spending_looks_at_the_ticket_as_it_is_now() -> None:
    ticket = granted()
    grant = approval.claim(ticket, FIELDS, NOW)
    spent = approval.spend(ticket, grant, after(1))
    assert (spent.state, spent.ended) == ("spent", after(1))
    with pytest.raises(Denied, match="lets one command run once"):
        approval.spend(spent, grant, after(2))
    other = replace(ticket, id="T-8")
    with pytest.raises(Denied, match="not of ticket T-8"):
        approval.spend(other, grant, after(1))
    swapped = replace(ticket, digest="00" * 32)
    with pytest.raises(Denied, match="not of ticket T-7"):
        approval.spend(swapped, grant, after(1))


def test_cancelling_is_for_those_who_asked() -> None:
    for identity in (ETL, OWNER):
        assert approval.cancel(pending(), identity, NOW).state == "cancelled"
    sibling = who("etl2", "machine", accountable=(OWNER.id,))
    for identity in (APPROVER, sibling):
        with pytest.raises(Denied, match="not yours"):
            approval.cancel(pending(), identity, NOW)
    with pytest.raises(Denied, match="granted already"):
        approval.cancel(granted(), ETL, NOW)


def test_find_prefers_the_grant_and_skips_what_is_over() -> None:
    young, given_ = replace(pending(), id="T-9"), granted()
    assert approval.find([young, given_], FIELDS, NOW) is given_
    assert approval.find([young, given_], FIELDS, after(1800)) is young
    assert approval.find([young], FIELDS, after(24 * 3600)) is None
    assert approval.find([young], replace(FIELDS, text=b"select 1"), NOW) is None
    spent = replace(given_, state="spent")
    assert approval.find([spent], FIELDS, NOW) is None


PEOPLE = [OWNER, APPROVER, APPROVER2, STRANGER, ETL, who("third", groups=("phi-approvers",))]


@given(
    votes=st.lists(st.tuples(st.sampled_from(PEOPLE), st.booleans()), max_size=8),
    quorum=st.integers(1, 3),
)
def test_granted_means_that_enough_different_people_said_yes(
    votes: list[tuple[Identity, bool]], quorum: int
) -> None:
    cast = [vote(voter, approve=approve) for voter, approve in votes]
    ticket = approval.tally(pending(replace(APPROVAL, quorum=quorum)), cast, NOW)
    able = {"approver", "approver2", "third"}
    yes = {voter.name for voter, approve in votes if approve} & able
    no = {voter.name for voter, approve in votes if not approve} & able
    expected = "refused" if no else "granted" if len(yes) >= quorum else "pending"
    assert ticket.state == expected
