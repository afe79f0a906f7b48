"""The session's table, by playbook: an event in, exactly these effects out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.core import approval
from gateway.core.approval import BoundFields, Ticket
from gateway.core.events import (
    AwaitTicket,
    ClientGone,
    Close,
    Commit,
    Effect,
    Event,
    Failed,
    GrantFound,
    IntentDurable,
    Judge,
    Judged,
    Judgement,
    Killed,
    Line,
    LineArrived,
    Prepare,
    Prepared,
    Ran,
    RecordFinish,
    RecordRefusal,
    Run,
    SeekGrant,
    Stop,
    Summary,
    TellHeld,
    TellRefusal,
    TicketLost,
    TicketOpen,
    Unjudgeable,
)
from gateway.core.identity import Identity
from gateway.core.plan import Parsed, Unit
from gateway.core.session import ANYWHERE, TABLE, Session, State, diagram
from gateway.core.verdict import Approval, Verdict
from gateway.errors import BadCommand, Denied, RecorderFault

NOW = datetime(2026, 7, 15, 12, tzinfo=UTC)
LINE = Line(b"delete from claims where id = 1", "single")
FIELDS = BoundFields(LINE.text, "claims-db", "claims", "w", "iss|etl", "p", "m", "c")
ALLOW = Verdict("allow", "etl-reads", "permitted")
ASK = Verdict("ask", "etl-deletes", "deletes", approvals=(Approval("etl-deletes", ("phi",)),))
DENY = Verdict("deny", "no-ddl", "forbidden", "use a migration")
FAULT = RecorderFault("the disk is full", rule="recorder.cast")
SUMMARY = Summary(exit_code=3, rows=7)


def judgement(verdict: Verdict) -> Judgement:
    parsed = Parsed((Unit(LINE.text, ()),), (), "delete …", writes=True)
    return Judgement(LINE, parsed, verdict, FIELDS, "writer")


def ticket() -> Ticket:
    identity = Identity("etl", "iss", "etl", "machine", ("etl",), ("claims-db",), (), ("iss|boss",))
    request = approval.Request(identity, "s-1", FIELDS, "delete …", ASK)
    return approval.open_ticket(request, 1, b"s" * 32, NOW)


def standing(state: State) -> Session:
    """A session that stands somewhere, however it came there."""
    session = Session()
    session.state = state
    return session


class Play:
    """session >> event << effects, as a script."""

    def __init__(self, **options: Any) -> None:
        self.session = Session(**options)
        self.last: tuple[Effect, ...] = ()

    def __rshift__(self, event: Event) -> Play:
        self.last = self.session.handle(event)
        return self

    def __lshift__(self, effects: tuple[Effect, ...]) -> Play:
        assert self.last == effects
        return self


def allowed() -> Play:
    judged = judgement(ALLOW)
    play = Play() >> LineArrived(LINE) << (Judge(LINE),)
    return play >> Judged(judged) << (Prepare(judged),)


def test_an_allowed_line_runs_only_after_the_intent_is_durable() -> None:
    judged = judgement(ALLOW)
    grant = approval.allow(ALLOW, FIELDS)
    play = allowed() >> Prepared() << (Commit(judged, grant),)
    play = play >> IntentDurable() << (Run(judged, grant),)
    play >> Ran(SUMMARY) << (RecordFinish(SUMMARY), Close(3, "done"))
    assert play.session.state is State.CLOSED


def test_a_denied_line_is_recorded_told_and_ends_with_77() -> None:
    judged = judgement(DENY)
    play = Play() >> LineArrived(LINE) >> Judged(judged)
    record, tell, close = play.last
    assert isinstance(record, RecordRefusal)
    assert isinstance(tell, TellRefusal)
    assert (record.error.rule, record.error.advice) == ("no-ddl", "use a migration")
    assert close == Close(77, "refused")


def test_an_unreadable_line_ends_with_64() -> None:
    error = BadCommand("not SQL", rule="sql.syntax")
    play = Play() >> LineArrived(LINE) >> Unjudgeable(LINE, error)
    play << (RecordRefusal(LINE, None, error), TellRefusal(error, None), Close(64, "refused"))


def test_a_line_that_cannot_even_be_read_never_reaches_the_judge() -> None:
    error = BadCommand("flags", rule="psql.flag")
    play = Play() >> Unjudgeable(LINE, error)
    play << (RecordRefusal(LINE, None, error), TellRefusal(error, None), Close(64, "refused"))


def test_a_held_line_ends_with_75_and_its_ticket() -> None:
    judged, held = judgement(ASK), ticket()
    play = Play() >> LineArrived(LINE) >> Judged(judged) << (SeekGrant(judged),)
    play >> TicketOpen(held) << (TellHeld(judged, held, waits=False), Close(75, "held"))


def test_a_waiting_line_goes_on_when_it_is_granted() -> None:
    judged, held = judgement(ASK), ticket()
    grant = approval.allow(ALLOW, FIELDS)
    play = Play(waits=True) >> LineArrived(LINE) >> Judged(judged)
    play = play >> TicketOpen(held)
    play = play << (TellHeld(judged, held, waits=True), AwaitTicket(judged, held))
    play = play >> GrantFound(grant) << (Prepare(judged),)
    play >> Prepared() << (Commit(judged, grant),)


def test_a_waiting_line_whose_ticket_is_lost_is_refused() -> None:
    judged, error = judgement(ASK), Denied("refused by ann", rule="ticket.refused")
    play = Play(waits=True) >> LineArrived(LINE) >> Judged(judged) >> TicketOpen(ticket())
    play = play >> TicketLost(error)
    play << (RecordRefusal(LINE, judged, error), TellRefusal(error, judged), Close(77, "refused"))


def test_a_prompt_is_ready_again_after_a_refusal() -> None:
    play = Play(one_line=False) >> LineArrived(LINE) >> Judged(judgement(DENY))
    assert play.session.state is State.READY
    assert not any(isinstance(effect, Close) for effect in play.last)
    play >> LineArrived(LINE) << (Judge(LINE),)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_a_fault_closes_from_every_state(state: State) -> None:
    session = standing(state)
    assert session.handle(Failed(FAULT)) == (
        Stop(),
        TellRefusal(FAULT),
        Close(70, "recorder.cast"),
    )
    assert session.handle(Prepared()) == ()


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
@pytest.mark.parametrize("event", [ClientGone(), Killed("by ann")])
def test_leaving_and_killing_close_from_every_state(state: State, event: Event) -> None:
    effects = standing(state).handle(event)
    assert isinstance(effects[0], Stop)
    assert isinstance(effects[-1], Close)


def test_what_the_table_does_not_know_closes_and_runs_nothing() -> None:
    events: list[Event] = [
        LineArrived(LINE),
        Judged(judgement(ALLOW)),
        Unjudgeable(LINE, BadCommand("x")),
        GrantFound(approval.allow(ALLOW, FIELDS)),
        TicketOpen(ticket()),
        TicketLost(Denied("x")),
        Prepared(),
        IntentDurable(),
        Ran(SUMMARY),
    ]
    for state in State:
        for event in events:
            if (state, type(event)) in TABLE or state is State.CLOSED:
                continue
            session = standing(state)
            effects = session.handle(event)
            assert session.handle(event) == (), (state, event)
            assert not any(isinstance(each, Run | Commit | Prepare) for each in effects)
            assert effects[-1] == Close(70, "session.table")


def test_nothing_follows_the_end() -> None:
    play = allowed() >> Failed(FAULT)
    for event in (Prepared(), IntentDurable(), LineArrived(LINE), Failed(FAULT)):
        play >> event << ()


def test_only_one_way_leads_to_run() -> None:
    """Run is reached from committing alone, and committing from preparing alone."""
    into = {
        state: [row[0] for row, step in TABLE.items() if state in step.leads_to] for state in State
    }
    assert into[State.RUNNING] == [State.COMMITTING]
    assert into[State.COMMITTING] == [State.PREPARING]


def test_the_documented_diagram_is_the_table() -> None:
    architecture = Path(__file__).parents[2] / "docs" / "architecture.md"
    assert diagram() in architecture.read_text()
    assert all(event.__name__ in diagram() for event in ANYWHERE)
