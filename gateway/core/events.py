"""What happens to a session, and what it wants done: events in, effects out.

``gateway.core.session`` maps one to the other; ``gateway.edge.runner`` performs
the effects. "Command" always means the user's line, so the machine's inputs and
outputs are called Event and Effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.core.action import Form
from gateway.core.approval import BoundFields, Grant, Ticket
from gateway.core.plan import Parsed
from gateway.core.verdict import Verdict
from gateway.errors import TollhouseError


@dataclass(frozen=True, slots=True)
class Line:
    """One command of the user's, or a whole script.

    Attributes:
        text: the exact bytes; what was decided is what runs.
        form: how it came.
        arguments: the client's own flags that were vetted (psql's), never text.
        parts: the texts that are sent one after the other, where the client's own
            syntax wraps them (``psql -c … -c …``); just ``text`` else.
        stop_on_error: a script ends at its first error, with 3.
        quiet: command tags are not shown (psql's ``-q``).
    """

    text: bytes
    form: Form
    arguments: tuple[str, ...] = ()
    parts: tuple[bytes, ...] = ()
    stop_on_error: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """A line with what it would do and whether it may.

    Attributes:
        line: what was judged.
        parsed: its units, actions and plans.
        verdict: of the policies.
        fields: what a grant for it is bound to: the exact bytes, and under which
            target, login, policies, masking and catalog they were judged.
        login: which of the target's logins would run it.
    """

    line: Line
    parsed: Parsed
    verdict: Verdict
    fields: BoundFields
    login: Literal["reader", "writer"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a command did, in numbers.

    Attributes:
        exit_code: as the child would have ended.
        rows: rows that the target sent or touched.
        out_bytes: masked bytes that went to the client.
        masked: how many cells or matches were masked, by rule.
    """

    exit_code: int
    rows: int = 0
    out_bytes: int = 0
    masked: tuple[tuple[str, int], ...] = ()


# Events


@dataclass(frozen=True, slots=True)
class LineArrived:
    """The user asked for something."""

    line: Line


@dataclass(frozen=True, slots=True)
class Judged:
    """The line was parsed and the policies spoke."""

    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Unjudgeable:
    """The line could not be parsed or may not even be asked about."""

    line: Line
    error: TollhouseError


@dataclass(frozen=True, slots=True)
class GrantFound:
    """A ticket that fits the line was granted and is not spent."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class TicketOpen:
    """The line waits for approval under this ticket."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class TicketLost:
    """The ticket that a waiting line hoped for was refused, expired or cancelled."""

    error: TollhouseError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The target answers and the guard stands; nothing was sent."""


@dataclass(frozen=True, slots=True)
class IntentDurable:
    """Cast, ledger and grant are on disk; only now may the child see a byte."""


@dataclass(frozen=True, slots=True)
class Ran:
    """The command came to its end."""

    summary: Summary


@dataclass(frozen=True, slots=True)
class Failed:
    """An effect could not be performed: the gate stays down."""

    error: TollhouseError


@dataclass(frozen=True, slots=True)
class ClientGone:
    """The channel or the connection was lost."""


@dataclass(frozen=True, slots=True)
class Left:
    """The user ended the prompt."""


@dataclass(frozen=True, slots=True)
class Killed:
    """Someone who may ended the session."""

    reason: str


Event = (
    LineArrived
    | Judged
    | Unjudgeable
    | GrantFound
    | TicketOpen
    | TicketLost
    | Prepared
    | IntentDurable
    | Ran
    | Failed
    | ClientGone
    | Left
    | Killed
)


# Effects


@dataclass(frozen=True, slots=True)
class Judge:
    """Parse the line and ask the policies."""

    line: Line


@dataclass(frozen=True, slots=True)
class SeekGrant:
    """Find a grant for the line, or open a ticket."""

    judgement: Judgement


@dataclass(frozen=True, slots=True)
class AwaitTicket:
    """Wait until the ticket is decided."""

    judgement: Judgement
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Prepare:
    """Reach the target and set up the guard, before anything is spent."""

    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the intent durable; a ticket's grant is spent in the same transaction."""

    judgement: Judgement
    grant: Grant


@dataclass(frozen=True, slots=True)
class Run:
    """Let the child run the line; only a Grant makes this effect."""

    judgement: Judgement
    grant: Grant


@dataclass(frozen=True, slots=True)
class RecordRefusal:
    """Record that the line did not run, and why."""

    line: Line
    judgement: Judgement | None
    error: TollhouseError


@dataclass(frozen=True, slots=True)
class RecordFinish:
    """Record how the command ended."""

    summary: Summary


@dataclass(frozen=True, slots=True)
class TellRefusal:
    """Explain to the client why nothing ran, or why it ended."""

    error: TollhouseError
    judgement: Judgement | None = None


@dataclass(frozen=True, slots=True)
class TellHeld:
    """Tell the client its ticket and how to go on."""

    judgement: Judgement
    ticket: Ticket
    waits: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """Cancel what runs: on the server, then the child."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the session: record it, exit with the code."""

    exit_code: int
    reason: str


Effect = (
    Judge
    | SeekGrant
    | AwaitTicket
    | Prepare
    | Commit
    | Run
    | RecordRefusal
    | RecordFinish
    | TellRefusal
    | TellHeld
    | Stop
    | Close
)
