"""The session: one SSH channel's way through the house, as a table.

State × Event → State and Effects. What is not in the table closes the session:
there is no transition by accident. ``docs/architecture.md`` shows the diagram
that ``diagram()`` draws from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.core import approval
from gateway.core.approval import Grant
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
    Left,
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
    TellHeld,
    TellRefusal,
    TicketLost,
    TicketOpen,
    Unjudgeable,
)
from gateway.errors import Denied, ExitCode, GatewayFault, TollhouseError


class State(StrEnum):
    """Where a session stands."""

    READY = "ready"
    JUDGING = "judging"
    ASKING = "asking"
    WAITING = "waiting"
    PREPARING = "preparing"
    COMMITTING = "committing"
    RUNNING = "running"
    CLOSED = "closed"


class Session:
    """One channel. Feed it events, perform what it answers.

    Args:
        waits: a held line waits for its ticket instead of ending with 75.
        one_line: the session ends after its first line (exec and scripts); a
            prompt goes on.
    """

    def __init__(self, *, waits: bool = False, one_line: bool = True) -> None:
        self.state = State.READY
        self.waits = waits
        self.one_line = one_line
        self._judgement: Judgement | None = None
        self._grant: Grant | None = None

    def handle(self, event: Event) -> tuple[Effect, ...]:
        """Take one event; the effects are to be performed in order.

        An event that the table does not know in this state is a fault of the
        gateway: the session stops what runs and closes with 70.
        """
        if self.state is State.CLOSED:
            return ()
        transition = TABLE.get((self.state, type(event))) or ANYWHERE.get(type(event))
        if transition is None:
            fault = GatewayFault(
                f"{type(event).__name__} while {self.state}",
                "The session was closed; report this to the gateway's operator",
                rule="session.table",
            )
            return self._fail(fault)
        step = transition.step(self, event)
        self.state = step.state
        return step.effects

    # What several transitions share

    def _ended(self, code: int, reason: str) -> Step:
        """The line is over: a one-line session closes, a prompt is ready again."""
        self._judgement = None
        self._grant = None
        if self.one_line:
            return Step(State.CLOSED, (Close(code, reason),))
        return Step(State.READY)

    def _refused(self, line: Line, judgement: Judgement | None, error: TollhouseError) -> Step:
        end = self._ended(error.exit_code, "refused")
        told = (RecordRefusal(line, judgement, error), TellRefusal(error, judgement))
        return Step(end.state, told + end.effects)

    def _fail(self, error: TollhouseError) -> tuple[Effect, ...]:
        self.state = State.CLOSED
        told = TellRefusal(error, self._judgement)
        return (Stop(), told, Close(error.exit_code, error.rule))


@dataclass(frozen=True, slots=True)
class Step:
    """Where a transition leads and what is to be done."""

    state: State
    effects: tuple[Effect, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table.

    Attributes:
        leads_to: every state that ``step`` may choose, for the diagram and the tests.
        step: makes the effects; may read and set the session's judgement and grant.
    """

    leads_to: tuple[State, ...]
    step: Callable[[Session, Event], Step]


def _judge(session: Session, event: Event) -> Step:
    assert isinstance(event, LineArrived)
    return Step(State.JUDGING, (Judge(event.line),))


def _by_verdict(session: Session, event: Event) -> Step:
    assert isinstance(event, Judged)
    judgement = event.judgement
    session._judgement = judgement
    verdict = judgement.verdict
    if verdict.verdict == "allow":
        session._grant = approval.allow(verdict, judgement.fields)
        return Step(State.PREPARING, (Prepare(judgement),))
    if verdict.verdict == "ask":
        return Step(State.ASKING, (SeekGrant(judgement),))
    error = Denied(verdict.reason, verdict.advice, verdict.rule)
    return session._refused(judgement.line, judgement, error)


def _unjudgeable(session: Session, event: Event) -> Step:
    assert isinstance(event, Unjudgeable)
    return session._refused(event.line, None, event.error)


def _granted(session: Session, event: Event) -> Step:
    assert isinstance(event, GrantFound)
    assert session._judgement is not None
    session._grant = event.grant
    return Step(State.PREPARING, (Prepare(session._judgement),))


def _held(session: Session, event: Event) -> Step:
    assert isinstance(event, TicketOpen)
    judgement = session._judgement
    assert judgement is not None
    told = TellHeld(judgement, event.ticket, session.waits)
    if session.waits:
        return Step(State.WAITING, (told, AwaitTicket(judgement, event.ticket)))
    end = session._ended(ExitCode.HELD, "held")
    return Step(end.state, (told, *end.effects))


def _ticket_lost(session: Session, event: Event) -> Step:
    assert isinstance(event, TicketLost)
    judgement = session._judgement
    assert judgement is not None
    return session._refused(judgement.line, judgement, event.error)


def _prepared(session: Session, event: Event) -> Step:
    assert session._judgement is not None
    assert session._grant is not None
    return Step(State.COMMITTING, (Commit(session._judgement, session._grant),))


def _run(session: Session, event: Event) -> Step:
    assert session._judgement is not None
    assert session._grant is not None
    return Step(State.RUNNING, (Run(session._judgement, session._grant),))


def _ran(session: Session, event: Event) -> Step:
    assert isinstance(event, Ran)
    end = session._ended(event.summary.exit_code, "done")
    return Step(end.state, (RecordFinish(event.summary), *end.effects))


def _left(session: Session, event: Event) -> Step:
    return Step(State.CLOSED, (Stop(), Close(ExitCode.OK, "left")))


def _failed(session: Session, event: Event) -> Step:
    assert isinstance(event, Failed)
    return Step(State.CLOSED, session._fail(event.error))


def _gone(session: Session, event: Event) -> Step:
    return Step(State.CLOSED, (Stop(), Close(ExitCode.GATEWAY_FAULT, "client gone")))


def _killed(session: Session, event: Event) -> Step:
    assert isinstance(event, Killed)
    error = GatewayFault("This session was ended", event.reason, rule="session.killed")
    return Step(State.CLOSED, session._fail(error))


_REFUSED = (State.CLOSED, State.READY)

TABLE: dict[tuple[State, type[Event]], Transition] = {
    (State.READY, LineArrived): Transition((State.JUDGING,), _judge),
    (State.READY, Left): Transition((State.CLOSED,), _left),
    (State.READY, Unjudgeable): Transition(_REFUSED, _unjudgeable),
    (State.JUDGING, Judged): Transition((State.PREPARING, State.ASKING, *_REFUSED), _by_verdict),
    (State.JUDGING, Unjudgeable): Transition(_REFUSED, _unjudgeable),
    (State.ASKING, GrantFound): Transition((State.PREPARING,), _granted),
    (State.ASKING, TicketLost): Transition(_REFUSED, _ticket_lost),
    (State.ASKING, TicketOpen): Transition((State.WAITING, *_REFUSED), _held),
    (State.WAITING, GrantFound): Transition((State.PREPARING,), _granted),
    (State.WAITING, TicketLost): Transition(_REFUSED, _ticket_lost),
    (State.PREPARING, Prepared): Transition((State.COMMITTING,), _prepared),
    (State.COMMITTING, IntentDurable): Transition((State.RUNNING,), _run),
    (State.RUNNING, Ran): Transition(_REFUSED, _ran),
}
"""The ways through; from any state there are also those of ANYWHERE."""

ANYWHERE: dict[type[Event], Transition] = {
    Failed: Transition((State.CLOSED,), _failed),
    ClientGone: Transition((State.CLOSED,), _gone),
    Killed: Transition((State.CLOSED,), _killed),
}
"""What may happen in every state but ``closed``; all of it closes."""


def diagram() -> str:
    """The table as a Mermaid state diagram, for docs/architecture.md."""
    rows = ["stateDiagram-v2", "    [*] --> ready"]
    for (state, event), transition in TABLE.items():
        rows += [f"    {state} --> {to}: {event.__name__}" for to in transition.leads_to]
    rows += [f"    any --> closed: {event.__name__}" for event in ANYWHERE]
    return "\n".join([*rows, "    closed --> [*]"])
