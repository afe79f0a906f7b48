"""The store: what must not be lost, changed in secret or used twice.

Each method is one transaction. Leaves are arguments, so that a change and its
record commit together; a method returns once both are on the disk. Whatever the
database or the disk raises is a RecorderFault, after which nothing may run.

Not protected: a store that is rolled back as a whole, with its ledger (anyone who
holds a later checkpoint sees it); and sealed text in copies made before it was
destroyed, or in the write-ahead log until the next `Store.expire`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar, get_args

from sqlalchemy import insert

from gateway.core.approval import ANSWER_S, Grant, Request, Ticket, Vote
from gateway.core.approval_states import OPEN, State
from gateway.core.identity import Identity
from gateway.errors import RecorderFault
from gateway.store import certificates, desk, ledger, schema, sessions, tickets
from gateway.store.certificates import CertificateRecord
from gateway.store.desk import LeavesOf
from gateway.store.journal import Journal
from gateway.store.ledger import Checkpoint, Writing
from gateway.store.seal import RowMac, TextSeal
from gateway.store.sessions import SessionRecord
from recorder.leaf import Leaf, time_text

T = TypeVar("T")

ALL_STATES: frozenset[State] = frozenset(get_args(State))


class Store:
    """One gateway's store on SQLite. Use `open`; methods belong to one event loop.

    A method whose caller is cancelled still runs to its end.
    """

    def __init__(self, journal: Journal, seal: TextSeal) -> None:
        self._journal = journal
        self._seal = seal
        self._tickets_changed = asyncio.Event()

    @classmethod
    async def open(cls, folder: Path, *, mac_key: bytes, seal_key: bytes) -> Store:
        """Open ``store.sqlite3`` in a folder, or create it; reads the whole ledger again.

        Args:
            folder: 0700; created if missing. Holds no key.
            mac_key: 32 bytes; authenticates rows.
            seal_key: 32 bytes; encrypts the pending text of tickets.

        Raises:
            RecorderFault: another gateway has it open, others may enter it, it is
                of a newer version, or it was changed outside of the gateway.
        """
        seal = TextSeal(seal_key)
        return cls(await Journal.open(folder, RowMac(mac_key)), seal)

    async def close(self) -> None:
        """Wait for what runs and let go of the store; again is no error."""
        await self._journal.close()

    @property
    def refused_rows(self) -> int:
        """Rows that somebody else wrote, met since the store was opened."""
        return self._journal.mac.refused

    # The ledger.

    async def append(self, *leaves: Leaf) -> list[int]:
        """Add leaves; returns their indices."""
        return await self._journal.write(lambda writing: writing.append(leaves))

    async def commit_intent(
        self, leaf: Leaf, grant: Grant, now: datetime, also: Sequence[Leaf] = ()
    ) -> int:
        """Record that a line will run and spend its grant; only after this may it run.

        Args:
            leaf: the ``command.decided``.
            grant: read again from the database here, so that none is used twice.
            now: aware UTC.
            also: leaves that follow it, as ``approval.spent``.

        Returns:
            The index of ``leaf``.

        Raises:
            Denied: the ticket is spent, expired, forged or of another line.
        """

        async def work(writing: Writing) -> int:
            await desk.spend(writing, grant, now)
            return (await writing.append((leaf, *also)))[0]

        return await self._change(work)

    async def tree(self) -> tuple[int, bytes]:
        """Size and root of the tree over all committed leaves."""
        frontier = self._journal.mark.frontier
        return frontier.size, frontier.root()

    async def tree_size(self) -> int:
        """How many leaves are committed."""
        return self._journal.mark.frontier.size

    async def leaf_hashes(self, start: int = 0) -> list[bytes]:
        """The Merkle leaf hashes from index ``start`` on, 32 bytes each."""
        return await self._journal.read(lambda connection: ledger.leaf_hashes(connection, start))

    async def add_checkpoint(self, size: int, note: str, sshsig: str) -> None:
        """Keep a signed tree head.

        Raises:
            RecorderFault: there are not that many leaves, or there is one of that size.
        """

        async def work(writing: Writing) -> None:
            if size > writing.size:
                raise RecorderFault("A checkpoint is ahead of its ledger", rule="store.checkpoint")
            row = {"size": size, "note": note, "sshsig": sshsig}
            await writing.connection.execute(insert(schema.checkpoint).values(row))

        await self._journal.write(work)

    async def last_checkpoint(self) -> Checkpoint | None:
        """The checkpoint of the largest tree; None before the first."""
        return await self._journal.read(ledger.last_checkpoint)

    # Certificates and tokens.

    async def add_certificate(
        self, blob_sha256: str, record: CertificateRecord, *leaves: Leaf
    ) -> None:
        """Make a certificate live.

        Args:
            blob_sha256: hex SHA-256 of the certificate's bytes.
            record: what it says.
            leaves: ``certificate.issued``.
        """

        async def work(writing: Writing) -> None:
            await certificates.add(writing, blob_sha256, record)
            await writing.append(leaves)

        await self._journal.write(work)

    async def certificate(self, blob_sha256: str) -> CertificateRecord | None:
        """The record of these exact bytes, revoked or not; None if we never issued them.

        Raises:
            CertificateRefused: the row is not the gateway's, or an old one came back.
        """
        journal = self._journal
        return await journal.read(
            lambda connection: certificates.find(connection, journal.mac, journal.mark, blob_sha256)
        )

    async def revoke(
        self,
        now: datetime,
        leaf_of: Callable[[CertificateRecord], Leaf],
        *,
        serial: int | None = None,
        identity: str | None = None,
    ) -> list[CertificateRecord]:
        """Revoke one certificate by serial, or all of an identity by name or id.

        Args:
            now: aware UTC.
            leaf_of: makes the ``certificate.revoked`` of each.
            serial: of the certificate.
            identity: used where serial is None.

        Returns:
            What was revoked; empty if nothing live was meant.
        """

        async def work(writing: Writing) -> list[CertificateRecord]:
            revoked = await certificates.revoke(writing, now, serial, identity)
            await writing.append([leaf_of(record) for record in revoked])
            return revoked

        return await self._journal.write(work)

    async def bind_token(self, token_digest: str, key_fingerprint: str, expires: datetime) -> None:
        """Tie a token to the first key that it came with.

        Args:
            token_digest: hex SHA-256 of the token.
            key_fingerprint: ``SHA256:…`` of the key that came with it.
            expires: the token's end; the row is cleaned after it.

        Raises:
            TokenRefused: it came with another key before.
        """
        await self._journal.write(
            lambda writing: certificates.bind_token(writing, token_digest, key_fingerprint, expires)
        )

    # Sessions.

    async def open_session(self, record: SessionRecord, *leaves: Leaf) -> None:
        """List a session, with its ``session.open``."""

        async def work(writing: Writing) -> None:
            await sessions.add(writing, record)
            await writing.append(leaves)

        await self._journal.write(work)

    async def close_session(
        self, session_id: str, closed: datetime, reason: str, *leaves: Leaf
    ) -> None:
        """Mark a session as closed, with its ``session.close``.

        Raises:
            RecorderFault: no such session is open.
        """

        async def work(writing: Writing) -> None:
            await sessions.close(writing, session_id, closed, reason)
            await writing.append(leaves)

        await self._journal.write(work)

    async def sessions(self, limit: int = 200) -> list[SessionRecord]:
        """The newest sessions first."""
        return await self._journal.read(lambda connection: sessions.listed(connection, limit))

    async def open_sessions(self, limit: int = 10_000) -> list[SessionRecord]:
        """Sessions that this gateway holds now, newest first."""
        return await self._journal.read(
            lambda connection: sessions.listed(connection, limit, "open")
        )

    # Tickets.

    async def request_ticket(
        self, request: Request, now: datetime, leaves_of: LeavesOf, *, answer_s: int = ANSWER_S
    ) -> Ticket:
        """The open ticket for a held line: the one that fits, or a new one.

        Args:
            request: the held line.
            now: aware UTC.
            leaves_of: makes the ``approval.requested`` of a new ticket; not called else.
            answer_s: seconds until a ticket that nobody answered expires.

        Returns:
            A pending ticket, or a granted one that `approval.claim` takes.

        Raises:
            Denied: nobody could approve it, or too many tickets are open.
        """
        return await self._change(
            lambda writing: desk.request(writing, self._seal, request, now, leaves_of, answer_s)
        )

    async def open_tickets(self, identity_id: str, target: str) -> list[Ticket]:
        """Pending and granted tickets of an identity on a target, newest first.

        A line that is sent again is tried against each by `approval.find`, which
        leaves out those whose time is over.
        """
        journal = self._journal
        return await journal.read(
            lambda connection: tickets.listed(
                connection,
                journal.mac,
                journal.mark.ended,
                states=OPEN,
                requester_id=identity_id,
                target=target,
                limit=tickets.MAX_OPEN,
            )
        )

    async def tickets(
        self,
        states: Collection[State] = ALL_STATES,
        *,
        requester_id: str | None = None,
        limit: int = 200,
    ) -> list[Ticket]:
        """The newest tickets first; rows that somebody else wrote are left out."""
        journal = self._journal
        return await journal.read(
            lambda connection: tickets.listed(
                connection,
                journal.mac,
                journal.mark.ended,
                states=states,
                requester_id=requester_id,
                limit=limit,
            )
        )

    async def ticket(self, ticket_id: str) -> Ticket:
        """One ticket with its votes.

        Raises:
            Denied: there is none of that id, or its row does not hold.
        """
        journal = self._journal
        ticket, _ = await journal.read(
            lambda connection: tickets.load(connection, journal.mac, journal.mark.ended, ticket_id)
        )
        return ticket

    async def vote(self, ticket_id: str, vote: Vote, leaves_of: LeavesOf) -> Ticket:
        """Add a vote and what follows from it; ``vote.at`` is the time.

        Raises:
            Denied: there is no such ticket, or the voter may not vote on it now.
        """
        return await self._change(lambda writing: desk.vote(writing, ticket_id, vote, leaves_of))

    async def cancel(
        self, ticket_id: str, identity: Identity, now: datetime, leaves_of: LeavesOf
    ) -> Ticket:
        """Withdraw a pending ticket.

        Raises:
            Denied: it is not pending, or somebody else's.
        """
        return await self._change(
            lambda writing: desk.cancel(writing, ticket_id, identity, now, leaves_of)
        )

    async def expire(self, now: datetime, leaves_of: LeavesOf) -> list[Ticket]:
        """Expire what is due and clean up; to be called once a minute or so.

        Deletes certificates and token bindings whose time is over, and empties the
        write-ahead log, so that destroyed text is gone from there too.

        Returns:
            The tickets that expired now.
        """

        async def work(writing: Writing) -> list[Ticket]:
            expired = await desk.expire(writing, now, leaves_of)
            await certificates.clean(writing, time_text(now))
            await writing.forget(time_text(now))
            return expired

        expired = await self._change(work)
        await self._journal.truncate()
        return expired

    async def reveal(self, ticket_id: str, *leaves: Leaf) -> bytes:
        """The exact text of an open ticket, for an approver; the leaf says who saw it.

        Raises:
            Denied: there is no such ticket, or its text is destroyed.
        """

        async def work(writing: Writing) -> bytes:
            text = await desk.reveal(writing, self._seal, ticket_id)
            await writing.append(leaves)
            return text

        return await self._journal.write(work)

    async def wait_ticket(self, ticket_id: str, timeout_s: float) -> Ticket:
        """Wait until a ticket is no longer pending; whatever it is after the timeout.

        Expiry shows when `expire` has written it.

        Raises:
            Denied: there is no such ticket.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            changed = self._tickets_changed
            ticket = await self.ticket(ticket_id)
            left_s = deadline - loop.time()
            if ticket.state != "pending" or left_s <= 0:
                return ticket
            try:
                await asyncio.wait_for(changed.wait(), left_s)
            except TimeoutError:
                continue

    async def _change(self, work: Callable[[Writing], Awaitable[T]]) -> T:
        result = await self._journal.write(work)
        self._wake()
        return result

    def _wake(self) -> None:
        changed, self._tickets_changed = self._tickets_changed, asyncio.Event()
        changed.set()
