"""What tests of the store do again and again."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from gateway.core import approval
from gateway.core.approval import Grant, Ticket
from gateway.store import CertificateRecord, LeavesOf, Store
from recorder.leaf import SALT_BYTES, Leaf
from tests.tickets import APPROVER, ETL, FIELDS, NOW, after, request, vote

MAC_KEY: Final = b"m" * 32
SEAL_KEY: Final = b"s" * 32
BLOB: Final = "ab" * 32


async def open_store(folder: Path) -> Store:
    """The store of a folder, under the tests' keys."""
    return await Store.open(folder, mac_key=MAC_KEY, seal_key=SEAL_KEY)


def leaf(type_: str = "command.decided", at: datetime = NOW, **body: object) -> Leaf:
    """A leaf with a fresh salt."""
    return Leaf(type_, at, "s-1", body, os.urandom(SALT_BYTES))


def leaves(type_: str) -> LeavesOf:
    """One leaf of this type with the ticket's id and state."""
    return lambda ticket: [leaf(type_, ticket=ticket.id, state=ticket.state)]


def sql(folder: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement as somebody who can write to the file but has no key."""
    with closing(sqlite3.connect(folder / "store.sqlite3", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def saved(folder: Path, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table, to bring them back later."""
    return sql(folder, f"SELECT * FROM {table}")


def bring_back(folder: Path, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Put saved rows in place of those that are there now."""
    sql(folder, f"DELETE FROM {table}")
    for row in rows:
        sql(folder, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)


async def ask(store: Store, text: bytes = FIELDS.text) -> Ticket:
    """A pending ticket."""
    return await store.request_ticket(request(text), NOW, leaves("approval.requested"))


async def granted(store: Store, text: bytes = FIELDS.text) -> tuple[Ticket, Grant]:
    """A granted ticket and its grant."""
    ticket = await ask(store, text)
    ticket = await store.vote(ticket.id, vote(APPROVER), leaves("approval.granted"))
    return ticket, approval.claim(ticket, request(text).fields, NOW)


def certificate(serial: int = 2**64 - 1) -> CertificateRecord:
    """A certificate of the machine's, good for a quarter of an hour."""
    principals = ("tollhouse:00000000:claims-db", "tollhouse:00000000:gateway")
    return CertificateRecord(ETL, serial, principals, after(900), "SHA256:abc")
