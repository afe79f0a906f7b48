"""What goes into the guard and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.core.plan import Unit
from gateway.guards.pgwire.notices import ServerError
from gateway.guards.pgwire.rows import MaskedColumn


@dataclass(frozen=True, slots=True)
class WireTicket:
    """One unit's place in the queue, and the two lines that psql is fed for it.

    Attributes:
        id: of the ticket and its sentinel; at least 128 random bits as 32 or more hex
            digits, because whoever guesses it may run the unit early.
        nonce: what psql prints as a command tag once all output of the unit has come;
            random as well, letters and digits only.
        unit: the decided bytes and plans.
        catalog: fingerprint that the unit was decided under; empty for no check (use
            that only where no plan rests on the catalog, as for SET TRANSACTION,
            which no query may precede).
        max_rows: the unit runs in a transaction of the guard's, which is rolled back if
            a statement's tag counts more rows than this. The unit must hold no
            transaction statements, and no statement whose tag hides the rows that it
            touched (a writing CTE under a SELECT). None for no limit.
    """

    id: str
    nonce: str
    unit: Unit
    catalog: str = ""
    max_rows: int | None = None

    @property
    def ticket(self) -> bytes:
        """The Query text that stands for the unit."""
        return f"select 'T{self.id}';".encode()

    @property
    def sentinel(self) -> bytes:
        """The Query text that asks for the nonce."""
        return f"select 'S{self.id}';".encode()

    @property
    def lines(self) -> bytes:
        """What psql's stdin is given."""
        return self.ticket + b"\n" + self.sentinel + b"\n"


@dataclass(frozen=True, slots=True)
class ToChild:
    """Masked bytes for psql."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ToServer:
    """Bytes for the server."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ChildReady:
    """psql finished its startup and will read tickets."""


@dataclass(frozen=True, slots=True)
class UnitStarted:
    """The exact bytes of a unit go to the server in the output that follows."""

    id: str


@dataclass(frozen=True, slots=True)
class ResultDone:
    """One statement of a unit ended well.

    Attributes:
        id: of the ticket.
        index: which statement, 0 for the first.
        tag: as the server sent it.
        rows: rows that it sent.
        masked: cells hidden, by column.
    """

    id: str
    index: int
    tag: str
    rows: int
    masked: tuple[MaskedColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class UnitDone:
    """The server is idle again after a unit.

    Attributes:
        id: of the ticket.
        error: what stopped it, or None. Also set where the guard itself refused it.
        status: the transaction status after it: I, T or E.
    """

    id: str
    error: ServerError | None
    status: str


@dataclass(frozen=True, slots=True)
class CatalogChanged:
    """The unit was not sent: the definitions it was decided under no longer hold."""

    id: str


@dataclass(frozen=True, slots=True)
class RowsExceeded:
    """A statement of the unit touched more rows than its grant allows; rolled back."""

    id: str
    rows: int
    max_rows: int


@dataclass(frozen=True, slots=True)
class SentinelPassed:
    """The nonce went to psql; all output of the unit lies before it."""

    id: str


@dataclass(frozen=True, slots=True)
class ChildDone:
    """psql said goodbye or closed its connection."""


@dataclass(frozen=True, slots=True)
class ServerGone:
    """The server closed the connection, or said that it will.

    Attributes:
        error: its last word, if it had one.
    """

    error: ServerError | None = None


Event: TypeAlias = (
    ChildReady
    | UnitStarted
    | ResultDone
    | UnitDone
    | CatalogChanged
    | RowsExceeded
    | SentinelPassed
    | ChildDone
    | ServerGone
)
"""What the guard tells its owner; holds no value of a row."""

Output: TypeAlias = ToChild | ToServer | Event
"""One thing to do, in order."""
