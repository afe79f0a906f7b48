"""The child that gets killed: it makes intents durable as fast as it can.

    python -m tests.store.kill_writer FOLDER SESSION

Each round asks for a ticket, has it granted, writes and syncs the cast's ``i`` and
``m``, commits the leaf with the spent grant, and only then acknowledges by one line
on stdout: ``<session> <round> <ticket> <index of the leaf>``. Every third round runs
an allowed line, without a ticket (``-``). The first line says ``ready``; a fault
ends it with ``fault <rule>``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.core import approval
from gateway.core.approval import Grant
from gateway.core.verdict import Verdict
from gateway.errors import RecorderFault
from gateway.store import LeavesOf, SessionRecord, Store
from recorder.errors import RecorderError
from recorder.leaf import SALT_BYTES, Leaf
from recorder.writer import CastWriter
from tests.store.scene import open_store
from tests.tickets import APPROVER, ETL, OWNER, request, vote, who


def leaf(type_: str, session: str, **body: object) -> Leaf:
    """A leaf of now."""
    return Leaf(type_, datetime.now(UTC), session, body, os.urandom(SALT_BYTES))


class Writer:
    """One session, as the gateway would run it."""

    def __init__(self, store: Store, cast: CastWriter, session: str) -> None:
        self._store = store
        self._cast = cast
        self._session = session

    async def run(self, rounds: int) -> None:
        """Make so many intents durable, and say each one."""
        # A machine of its own: what kills leave granted must not fill up one's open tickets.
        machine = who(self._session, "machine", accountable=(OWNER.id,))
        for number in range(rounds):
            text = f"delete from claims where id = {number}".encode()
            asked = request(text, identity=machine)
            if number % 3 == 2:
                grant = approval.allow(Verdict("allow", "etl-reads", "may"), asked.fields)
            else:
                grant = await self._granted(asked)
            index = await self._intent(number, grant)
            say(f"{self._session} {number} {grant.ticket or '-'} {index}")

    async def _granted(self, asked: approval.Request) -> Grant:
        now = datetime.now(UTC)
        ticket = await self._store.request_ticket(asked, now, self._leaves("approval.requested"))
        answer = vote(APPROVER, at=datetime.now(UTC))
        ticket = await self._store.vote(ticket.id, answer, self._leaves("approval.granted"))
        return approval.claim(ticket, asked.fields, datetime.now(UTC))

    def _leaves(self, type_: str) -> LeavesOf:
        return lambda ticket: [leaf(type_, self._session, ticket=ticket.id)]

    async def _intent(self, number: int, grant: Grant) -> int:
        self._cast.write("i", f"delete {number}\r\n", number * 0.001)
        self._cast.write("m", f"allow {grant.ticket or '-'}", number * 0.001)
        await asyncio.to_thread(self._cast.sync)
        decided = leaf("command.decided", self._session, round=number, ticket=grant.ticket)
        spent = [leaf("approval.spent", self._session, ticket=grant.ticket)] if grant.ticket else []
        now = datetime.now(UTC)
        index = await self._store.commit_intent(decided, grant, now, spent)
        # After the command: the head that proves its lines.
        self._cast.head()
        return index


def say(line: str) -> None:
    """One line to the parent, at once."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


async def run(folder: Path, session: str, rounds: int) -> None:
    """Open everything, write, close."""
    store = await open_store(folder)
    try:
        casts = folder / "casts"
        casts.mkdir(mode=0o700, exist_ok=True)
        now = datetime.now(UTC)
        cast = CastWriter.create(
            casts, session, started=now, genesis=os.urandom(32), seed=os.urandom(32)
        )
        name = f"{session}.cast"
        record = SessionRecord(session, ETL.id, ETL.name, "claims-db", "127.0.0.1", name, now)
        await store.open_session(record, leaf("session.open", session, cast=name))
        say("ready")
        try:
            await Writer(store, cast, session).run(rounds)
        finally:
            cast.close()
        closing = leaf(
            "session.close", session, cast_root=cast.root, lines=cast.lines, reason="done"
        )
        await store.close_session(session, datetime.now(UTC), "done", closing)
    finally:
        await store.close()


def main() -> int:
    """Entry point; 0 when all rounds were acknowledged, 70 after a fault."""
    folder, session, *rest = sys.argv[1:]
    rounds = int(rest[0]) if rest else 100_000
    try:
        asyncio.run(run(Path(folder), session, rounds))
    except (RecorderFault, RecorderError) as fault:
        say(f"fault {type(fault).__name__}")
        return 70
    return 0


if __name__ == "__main__":
    sys.exit(main())
