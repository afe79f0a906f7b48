"""The guard between psql and the server: only queued units pass, only masked rows return.

===========  ===============================  =====================================
phase        what psql may send               what the server may send
===========  ===============================  =====================================
GREETING     its startup messages             nothing but notices and settings
IDLE         the next ticket, or its          the same
             sentinel once the unit is done
CHECKING     nothing                          the catalog's fingerprint
OPENING      nothing                          the answer to the guard's BEGIN
RUNNING      nothing                          the unit's results
SETTLING     nothing                          the answer to COMMIT or ROLLBACK
CLOSED       nothing                          nothing
===========  ===============================  =====================================

psql may always say Terminate. Anything else raises GuardBroken and the guard is
CLOSED for good. A unit goes CHECKING (if it names a fingerprint and the transaction is
not aborted) → OPENING (if it has ``max_rows``) → RUNNING → SETTLING (likewise) → IDLE.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import GuardBroken
from gateway.guards.pgwire import codec, notices
from gateway.guards.pgwire.answer import Answer
from gateway.guards.pgwire.codec import FrameReader, Message, Run, Startup
from gateway.guards.pgwire.notices import ServerError, TextFilter
from gateway.guards.pgwire.outputs import (
    CatalogChanged,
    ChildDone,
    ChildReady,
    Output,
    RowsExceeded,
    SentinelPassed,
    ServerGone,
    ToChild,
    ToServer,
    UnitDone,
    UnitStarted,
    WireTicket,
)
from gateway.guards.pgwire.rows import Origins, split_cells
from gateway.guards.pgwire.text import clean
from gateway.sql.catalog import Catalog

MAX_CHILD_BYTES = 4096
"""The longest message of psql's: a ticket has some sixty bytes."""

_SHOWN_PARAMETERS = frozenset(
    {
        "server_version",
        "server_encoding",
        "client_encoding",
        "DateStyle",
        "IntervalStyle",
        "TimeZone",
        "integer_datetimes",
        "standard_conforming_strings",
    }
)
_PINNED_PARAMETERS = frozenset(
    {
        "client_encoding",
        "default_transaction_read_only",
        "is_superuser",
        "search_path",
        "session_authorization",
        "standard_conforming_strings",
    }
)


class Phase(Enum):
    """Where the conversation stands; see the module's table."""

    GREETING = auto()
    IDLE = auto()
    CHECKING = auto()
    OPENING = auto()
    RUNNING = auto()
    SETTLING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What one guard works with.

    Attributes:
        parameters: what the server told at login; a later change of one that is pinned
            (search_path, encoding, read-only, role) ends the session.
        catalog: what the units were decided with.
        fingerprint_sql: one SELECT with one text cell; compared with each ticket's
            ``catalog``.
        text_filter: masks patterns in the server's messages.
        quiet_marker: stands in for every command tag, so that the caller can strip the
            lines for ``psql -q`` (psql itself must run without ``-q``: it would hide
            the nonce too). Letters and digits; None leaves the tags.
        max_row_bytes: the longest row or message of the server.
    """

    parameters: Mapping[str, str]
    catalog: Catalog | None = None
    fingerprint_sql: str = ""
    text_filter: TextFilter = clean
    quiet_marker: str | None = None
    max_row_bytes: int = 16 * 1024 * 1024


class Guard:
    """One session's guard. Feed it what each side sent; do what it returns, in order.

    Not thread-safe; never blocks. After GuardBroken every call raises it again.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._origins = Origins(settings.catalog)
        self._parameters = dict(settings.parameters)
        self._child = FrameReader(MAX_CHILD_BYTES, startup=True)
        self._server = FrameReader(settings.max_row_bytes)
        self._phase = Phase.GREETING
        self._queue: deque[WireTicket] = deque()
        self._seen: set[str] = set()
        self._unit_done = False
        self._status = "I"
        # PHI of an open transaction: a deferred constraint may quote it at COMMIT.
        self._phi_pending = False
        self._answer = Answer((), self._origins)
        self._error: ServerError | None = None
        self._fingerprint: list[bytes | None] = []
        self._out: list[Output] = []

    @property
    def phase(self) -> Phase:
        """Where the conversation stands."""
        return self._phase

    @property
    def status(self) -> str:
        """The server's transaction status: I, T or E."""
        return self._status

    def queue(self, ticket: WireTicket) -> None:
        """Let one more unit pass, after those queued before; call before psql is fed.

        Raises:
            GuardBroken: the id or the nonce is short, was used, or is no plain word.
        """
        for word in (ticket.id, ticket.nonce):
            if len(word) < 16 or not (word.isascii() and word.isalnum()) or word in self._seen:
                raise GuardBroken("a ticket's id cannot be used", rule="pgwire.ticket")
            self._seen.add(word)
        self._queue.append(ticket)

    def receive_child(self, data: bytes) -> list[Output]:
        """Take what psql sent.

        Raises:
            GuardBroken: anything but what the module's table allows.
        """
        try:
            self._check_open()
            self._child.feed(data)
            while self._take_child():
                pass
        except GuardBroken:
            self._phase = Phase.CLOSED
            raise
        return self._flush()

    def receive_server(self, data: bytes) -> list[Output]:
        """Take what the server sent.

        Raises:
            GuardBroken: anything but what the module's table allows.
        """
        try:
            self._check_open()
            self._server.feed(data)
            while self._phase is not Phase.CLOSED and (message := self._server.take()):
                if isinstance(message, Run):
                    self._take_run(message)
                else:
                    self._take_server(message)
        except GuardBroken:
            self._phase = Phase.CLOSED
            raise
        return self._flush()

    def child_eof(self) -> list[Output]:
        """The child closed its connection: say goodbye to the server."""
        if self._phase is Phase.CLOSED:
            return []
        self._phase = Phase.CLOSED
        return [ToServer(codec.terminate()), ChildDone()]

    def server_eof(self) -> list[Output]:
        """The server closed the connection: tell psql and the owner."""
        if self._phase is Phase.CLOSED:
            return []
        greeted = self._phase is not Phase.GREETING
        self._phase = Phase.CLOSED
        last_word = notices.own_error("08006", "the target closed the connection", severity="FATAL")
        told = [ToChild(last_word)] if greeted else []
        return [*told, ServerGone(self._error)]

    # The child's side

    def _take_child(self) -> bool:
        if self._phase is Phase.GREETING:
            startup = self._child.take_startup()
            if startup is not None:
                self._greet(startup)
            return startup is not None
        message = self._child.take()
        if message is None:
            return False
        if self._phase is Phase.CLOSED:
            raise GuardBroken("the child spoke after its goodbye", rule="pgwire.child")
        if isinstance(message, Run) or message.letter not in ("Q", "X"):
            letter = "d" if isinstance(message, Run) else message.letter
            raise GuardBroken(f"the child sent a message of type {letter}", rule="pgwire.child")
        if message.letter == "X":
            self._phase = Phase.CLOSED
            self._out += (ToServer(codec.terminate()), ChildDone())
        else:
            self._take_query(message.body)
        return True

    def _greet(self, startup: Startup) -> None:
        if startup.code in (codec.SSL_REQUEST, codec.GSSENC_REQUEST):
            if startup.body or self._child.pending_bytes:
                raise GuardBroken("the child sent more than a request", rule="pgwire.child")
            self._out.append(ToChild(b"N"))
            return
        # What psql claims about user and database is not read: the login is done.
        if startup.code != codec.PROTOCOL_3_0:
            raise GuardBroken("the child does not speak protocol 3.0", rule="pgwire.child")
        self._child.end_startup()
        self._phase = Phase.IDLE
        told = [codec.frame("R", bytes(4))]
        for name in sorted(_SHOWN_PARAMETERS & self._parameters.keys()):
            value = clean(self._parameters[name].encode()).decode()
            told.append(codec.parameter_status(name, value))
        # No cancel request of the child's is ever served, so its key opens nothing.
        told += (codec.frame("K", bytes(8)), codec.ready(self._status))
        self._out += (ToChild(b"".join(told)), ChildReady())

    def _take_query(self, body: bytes) -> None:
        if self._phase is not Phase.IDLE:
            raise GuardBroken("the child did not wait for its answer", rule="pgwire.child")
        ticket = self._queue[0] if self._queue else None
        if ticket is not None and not self._unit_done and body == ticket.ticket + b"\0":
            self._begin(ticket)
        elif ticket is not None and self._unit_done and body == ticket.sentinel + b"\0":
            self._queue.popleft()
            self._unit_done = False
            nonce = codec.command_complete(ticket.nonce.encode())
            self._out += (
                ToChild(nonce + codec.ready(self._status)),
                SentinelPassed(ticket.id),
            )
        else:
            raise GuardBroken("the child sent a query that was not decided", rule="pgwire.query")

    # A unit's way

    def _begin(self, ticket: WireTicket) -> None:
        self._error = None
        if ticket.max_rows is not None and self._status != "I":
            raise GuardBroken("a limited unit inside a transaction", rule="pgwire.max_rows")
        if ticket.catalog and self._status != "E":
            self._fingerprint = []
            self._phase = Phase.CHECKING
            self._send(self._settings.fingerprint_sql.encode())
        else:
            self._open(ticket)

    def _open(self, ticket: WireTicket) -> None:
        if ticket.max_rows is not None:
            self._phase = Phase.OPENING
            self._send(b"BEGIN")
        else:
            self._run(ticket)

    def _run(self, ticket: WireTicket) -> None:
        results = ticket.unit.results
        self._phi_pending = self._phi_pending or any(r.touches_phi for r in results)
        self._answer = Answer(
            results,
            self._origins,
            id=ticket.id,
            max_rows=ticket.max_rows,
            quiet_marker=self._settings.quiet_marker,
        )
        self._phase = Phase.RUNNING
        self._out.append(UnitStarted(ticket.id))
        self._send(ticket.unit.text)

    def _send(self, text: bytes) -> None:
        self._out.append(ToServer(codec.query(text)))

    def _end(self, *told: bytes) -> None:
        """The server is idle: psql is told so, and the unit is over."""
        ticket = self._queue[0]
        self._phase = Phase.IDLE
        self._unit_done = True
        if self._status == "I":
            self._phi_pending = False
        self._out.append(ToChild(b"".join(told) + codec.ready(self._status)))
        self._out.append(UnitDone(ticket.id, self._error, self._status))

    # The server's side

    def _take_run(self, run: Run) -> None:
        if self._phase is Phase.RUNNING:
            self._tell(self._answer.take_run(run))
        elif self._phase is Phase.CHECKING and run.type == codec.DATA_ROW:
            for start in run.starts:
                size = int.from_bytes(run.block[start + 1 : start + 5], "big")
                self._fingerprint += split_cells(run.block[start + 5 : start + 1 + size])
        else:
            raise GuardBroken("the server sent rows that nobody asked for", rule="pgwire.server")

    def _take_server(self, message: Message) -> None:
        match message.letter:
            case "S":
                self._take_parameter(message.body)
            case "A":
                pass  # a notification's payload is anybody's text
            case "N":
                self._tell(self._worded(message.body, "N"))
            case "E":
                self._take_error(message.body)
            case "Z":
                self._take_ready(codec.parse_status(message.body))
            case letter if self._phase is Phase.RUNNING:
                self._take_result(letter, message.body)
            case "T" | "C" if self._phase in (Phase.CHECKING, Phase.OPENING, Phase.SETTLING):
                pass  # the shape and the tag of what the guard itself asked
            case letter:
                raise GuardBroken(
                    f"the server sent a message of type {letter} that nobody asked for",
                    rule="pgwire.server",
                )

    def _take_result(self, letter: str, body: bytes) -> None:
        told, to_server = self._answer.take(letter, body)
        self._tell(told)
        if to_server:
            self._out.append(ToServer(to_server))
        self._out += self._answer.take_events()

    def _take_parameter(self, body: bytes) -> None:
        name, value = codec.parse_parameter(body)
        if name in _PINNED_PARAMETERS and self._parameters.get(name) != value:
            raise GuardBroken(
                f"the session's {name} changed under the gate", rule="pgwire.parameter"
            )
        self._parameters[name] = value
        if name in _SHOWN_PARAMETERS and self._phase is not Phase.GREETING:
            shown = clean(value.encode()).decode()
            self._tell(codec.parameter_status(name, shown))

    def _take_error(self, body: bytes) -> None:
        error = notices.read_error(body)
        self._error = error
        if error.severity != "ERROR":
            if self._phase is not Phase.GREETING:
                self._out.append(ToChild(self._worded(body, "E")))
            self._out.append(ServerGone(error))
            self._phase = Phase.CLOSED
        elif self._phase is Phase.RUNNING:
            refusal = self._answer.fail()
            self._tell(refusal or self._worded(body, "E"))
        elif self._phase is Phase.SETTLING:
            self._answer.fail()
            self._out.append(ToChild(self._worded(body, "E")))
        elif self._phase not in (Phase.CHECKING, Phase.OPENING):
            raise GuardBroken("the server sent an error out of turn", rule="pgwire.server")

    def _take_ready(self, status: str) -> None:
        before, self._status = self._phase, status
        ticket = self._queue[0] if self._queue else None
        if ticket is None or before in (Phase.GREETING, Phase.IDLE):
            raise GuardBroken("the server became ready out of turn", rule="pgwire.server")
        if before is Phase.CHECKING:
            self._judge_fingerprint(ticket)
        elif before is Phase.OPENING:
            if self._error is not None or status != "T":
                self._end(_refusal("the transaction could not be opened; nothing was sent"))
            else:
                self._run(ticket)
        elif before is Phase.RUNNING and ticket.max_rows is not None:
            self._settle(ticket)
        elif before is Phase.SETTLING:
            self._settled(ticket)
        else:
            self._end(self._answer.release())

    def _judge_fingerprint(self, ticket: WireTicket) -> None:
        if self._error is None and self._fingerprint == [ticket.catalog.encode()]:
            self._open(ticket)
            return
        self._error = self._error or ServerError("ERROR", "55000")
        self._out.append(CatalogChanged(ticket.id))
        self._end(
            _refusal(
                "the database's definitions changed since this was decided; nothing was sent",
                "Send the command again, so that it is decided anew",
            )
        )

    def _settle(self, ticket: WireTicket) -> None:
        if self._status == "I" or (self._status == "E") != (self._error is not None):
            raise GuardBroken("a limited unit ended its own transaction", rule="pgwire.max_rows")
        self._phase = Phase.SETTLING
        keeps = self._status == "T" and self._answer.exceeded is None
        self._send(b"COMMIT" if keeps else b"ROLLBACK")

    def _settled(self, ticket: WireTicket) -> None:
        rows, limit = self._answer.exceeded, ticket.max_rows
        if self._status != "I":
            raise GuardBroken("a limited unit's transaction stayed open", rule="pgwire.max_rows")
        if rows is None or limit is None:
            self._end(self._answer.release())
            return
        self._error = self._error or ServerError("ERROR", "54000")
        self._out.append(RowsExceeded(ticket.id, rows, limit))
        text = f"{rows} rows are more than the {limit} that were granted; rolled back"
        self._end(_refusal(text, "Narrow the statement, or ask for more rows"))

    def _worded(self, body: bytes, letter: str) -> bytes:
        if self._phi_pending:
            return notices.withheld(body, letter=letter)
        text = self._queue[0].unit.text if self._phase is Phase.RUNNING else b""
        return notices.shown(body, text, self._settings.text_filter, letter=letter)

    def _tell(self, data: bytes) -> None:
        if data and self._phase is not Phase.GREETING:
            self._out.append(ToChild(data))

    def _check_open(self) -> None:
        if self._phase is Phase.CLOSED:
            raise GuardBroken("the session is over", rule="pgwire.closed")

    def _flush(self) -> list[Output]:
        out, self._out = self._out, []
        return out


def _refusal(message: str, hint: str = "") -> bytes:
    return notices.own_error("55000", message, hint=hint)
