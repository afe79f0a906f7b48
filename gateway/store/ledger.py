"""The ledger's rows, and the watermark that ties all other rows to them.

A code on each row (`seal.RowMac`) stops rows that somebody made up, but not an
old row that somebody saved and brings back: a spent ticket as it was when it was
granted, a certificate from before it was revoked. The watermark stops that. It is
one authenticated row, written in every transaction that adds a leaf, over the
tree's size and root and over the list of what ended before its time. An old row
needs an old list, an old list needs an old watermark, an old watermark needs the
old tree: a rolled-back store, which shows to anyone who holds a later checkpoint.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import rfc8785
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import RecorderFault
from gateway.store import schema
from gateway.store.columns import one_row
from gateway.store.seal import Row, RowMac
from recorder.leaf import Leaf, body_bytes, body_hash, envelope_from, time_text
from recorder.merkle import Frontier, leaf_hash


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed tree head.

    Attributes:
        size: leaves under it.
        note: the signed note, C2SP form.
        sshsig: the armored SSH signature over the same text.
    """

    size: int
    note: str
    sshsig: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What the watermark says, as it is kept in memory.

    Attributes:
        frontier: the tree over all leaves.
        last_ticket: number of the newest ticket; numbers are never used again.
        ended: key to the time (as the tables hold it) until which an older row of
            it would still be good.
        mac: code of the watermark's row.
    """

    frontier: Frontier = field(default_factory=Frontier)
    last_ticket: int = 0
    ended: Mapping[str, str] = field(default_factory=dict)
    mac: bytes = b""


def watermark_row(mark: Mark, mac: RowMac) -> Row:
    """The watermark's row for a mark, signed."""
    row: Row = {
        "id": 1,
        "size": mark.frontier.size,
        "root": mark.frontier.root(),
        "last_ticket": mark.last_ticket,
        "ended": hashlib.sha256(rfc8785.dumps(dict(mark.ended))).digest(),
    }
    return mac.sign("watermark", row)


def rebuild(connection: Connection, mac: RowMac) -> Mark:
    """Read the whole ledger again and hold it against the watermark.

    Raises:
        RecorderFault: a leaf is missing, changed or not ours, or the watermark
            is not of this tree.
        RecorderError: a leaf's row is malformed.
    """
    table = schema.leaf.c
    columns = (table.idx, table.time, table.type, table.session, table.body_hash)
    frontier = Frontier()
    for idx, time, type_, session, hashed in connection.execute(
        select(*columns).order_by(table.idx)
    ):
        if idx != frontier.size:
            raise _torn(f"leaf {frontier.size} is missing")
        frontier.append(leaf_hash(envelope_from(type_, time, session, hashed)))
    row = one_row(connection.execute(select(schema.watermark)))
    ended = {row.key: row.until for row in connection.execute(select(schema.ended))}
    if row is None:
        raise _torn("its watermark is gone")
    mark = Mark(frontier, row["last_ticket"], ended)
    expected = watermark_row(mark, mac)
    if not mac.holds("watermark", row) or expected["mac"] != row["mac"]:
        raise _torn("its watermark is of another tree")
    return Mark(frontier, mark.last_ticket, ended, expected["mac"])


def _torn(reason: str) -> RecorderFault:
    return RecorderFault(
        f"The ledger was changed outside of the gateway: {reason}",
        "Keep the folder for the inquiry, run `tollhouse verify` on it, and restore a backup",
        rule="store.watermark",
    )


def leaf_row(idx: int, leaf: Leaf) -> Row:
    """A leaf's columns.

    Raises:
        RecorderError: the leaf is malformed.
    """
    body = body_bytes(leaf)
    return {
        "idx": idx,
        "time": time_text(leaf.time),
        "type": leaf.type,
        "session": leaf.session,
        "body": body,
        "salt": leaf.salt,
        "body_hash": body_hash(leaf.salt, body),
    }


class Writing:
    """One transaction that writes: the connection, and the mark as it will be.

    Nothing of it counts until `journal.Journal` has committed it.

    Attributes:
        connection: inside the transaction.
        mac: makes and checks the codes of rows.
    """

    def __init__(self, connection: AsyncConnection, mac: RowMac, mark: Mark) -> None:
        self.connection = connection
        self.mac = mac
        self._mark = mark
        self._frontier = copy.deepcopy(mark.frontier)
        self._last_ticket = mark.last_ticket
        self._ended = dict(mark.ended)

    @property
    def size(self) -> int:
        """Leaves in the tree, those of this transaction included."""
        return self._frontier.size

    async def append(self, leaves: Sequence[Leaf]) -> list[int]:
        """Add leaves; returns their indices.

        Raises:
            RecorderError: a leaf is malformed; the transaction must not commit.
        """
        rows = []
        for leaf in leaves:
            row = leaf_row(self._frontier.size, leaf)
            envelope = envelope_from(row["type"], row["time"], row["session"], row["body_hash"])
            self._frontier.append(leaf_hash(envelope))
            rows.append(row)
        if rows:
            await self.connection.execute(insert(schema.leaf), rows)
        return [row["idx"] for row in rows]

    def next_ticket(self) -> int:
        """A ticket number that was never used."""
        self._last_ticket += 1
        return self._last_ticket

    @property
    def ended(self) -> Mapping[str, str]:
        """What ended before its time, whatever its row says."""
        return self._ended

    async def end(self, key: str, until: str) -> None:
        """Remember that something ended before its time.

        Args:
            key: table and id.
            until: from when on an older row of it is worth nothing by itself.
        """
        if key not in self._ended:
            self._ended[key] = until
            await self.connection.execute(insert(schema.ended).values(key=key, until=until))

    async def forget(self, now: str) -> None:
        """Drop what was remembered longer than it needs to be."""
        past = [key for key, until in self._ended.items() if until < now]
        for key in past:
            del self._ended[key]
            await self.connection.execute(delete(schema.ended).where(schema.ended.c.key == key))

    async def finish(self) -> Mark:
        """Write the watermark, if anything under it changed; returns the new mark."""
        ended = self._mark.ended if self._ended == self._mark.ended else self._ended
        changed = (
            self._frontier.size != self._mark.frontier.size
            or self._last_ticket != self._mark.last_ticket
            or ended is not self._mark.ended
        )
        if not changed:
            return self._mark
        mark = Mark(self._frontier, self._last_ticket, ended)
        row = watermark_row(mark, self.mac)
        await self.connection.execute(schema.watermark.update().values(row))
        return Mark(mark.frontier, mark.last_ticket, mark.ended, row["mac"])


async def leaf_hashes(connection: AsyncConnection, start: int) -> list[bytes]:
    """The Merkle leaf hashes from index ``start`` on, 32 bytes each."""
    table = schema.leaf.c
    rows = await connection.execute(
        select(table.type, table.time, table.session, table.body_hash)
        .where(table.idx >= start)
        .order_by(table.idx)
    )
    return [
        leaf_hash(envelope_from(type_, time, session, hashed))
        for type_, time, session, hashed in rows
    ]


async def last_checkpoint(connection: AsyncConnection) -> Checkpoint | None:
    """The checkpoint of the largest tree."""
    rows = await connection.execute(
        select(schema.checkpoint).order_by(schema.checkpoint.c.size.desc()).limit(1)
    )
    row = one_row(rows)
    return None if row is None else Checkpoint(**row)
