"""Sessions, for lists. What proves a session is its cast and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import RecorderFault
from gateway.store import schema
from gateway.store.columns import all_rows, optional_text, optional_time
from gateway.store.ledger import Writing
from gateway.store.seal import Row
from recorder.leaf import time_text

SessionState = Literal["open", "closed", "lost"]
"""``lost``: the gateway ended before the session did."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session, for lists; the ledger is what proves it.

    Attributes:
        id: names the cast too.
        identity_id: ``Identity.id``.
        identity_name: ``Identity.name``.
        target: name of the target.
        client: address that it came from.
        cast: file name of its recording.
        opened: aware UTC.
        state: see SessionState.
        closed: None unless closed.
        reason: why it ended; None unless closed.
    """

    id: str
    identity_id: str
    identity_name: str
    target: str
    client: str
    cast: str
    opened: datetime
    state: SessionState = "open"
    closed: datetime | None = None
    reason: str | None = None


def session_row(record: SessionRecord) -> Row:
    """A session's columns."""
    return asdict(record) | {
        "opened": time_text(record.opened),
        "closed": optional_text(record.closed),
    }


def session_from(row: Mapping[str, Any]) -> SessionRecord:
    """The session of a row."""
    opened = datetime.fromisoformat(row["opened"])
    return SessionRecord(**{**row, "opened": opened, "closed": optional_time(row["closed"])})


async def add(writing: Writing, record: SessionRecord) -> None:
    """Insert a session."""
    await writing.connection.execute(insert(schema.session).values(session_row(record)))


async def close(writing: Writing, session_id: str, closed: datetime, reason: str) -> None:
    """Mark an open session as closed.

    Raises:
        RecorderFault: no such session is open.
    """
    table = schema.session
    values = {"state": "closed", "closed": time_text(closed), "reason": reason}
    done = await writing.connection.execute(
        update(table).where(table.c.id == session_id, table.c.state == "open").values(values)
    )
    if done.rowcount != 1:
        raise RecorderFault(f"Session {session_id} is not open", rule="store.session")


async def listed(
    connection: AsyncConnection, limit: int, state: SessionState | None = None
) -> list[SessionRecord]:
    """The newest sessions first, at most ``limit``."""
    table = schema.session
    query = select(table).order_by(table.c.opened.desc(), table.c.id).limit(limit)
    if state is not None:
        query = query.where(table.c.state == state)
    return [session_from(row) for row in all_rows(await connection.execute(query))]
