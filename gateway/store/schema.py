"""The tables, and how a connection to them is set.

``leaf`` and ``checkpoint`` are a written format: the verifier reads them with
nothing but SQLite (docs/formats.md, "Store"). The others are the gateway's own.
Times are RFC 3339 text in UTC with microseconds, so that they sort.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

VERSION: Final = 1
"""Kept in ``PRAGMA user_version``; raised with each change of the tables."""

PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # In WAL mode only FULL syncs the log at each commit (sqlite.org/pragma.html).
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    # Destroyed text is overwritten, not only unlinked from its page.
    "PRAGMA secure_delete = ON",
    "PRAGMA busy_timeout = 5000",
    # Triggers and views that an outsider planted may not call functions.
    "PRAGMA trusted_schema = OFF",
)

metadata: Final = MetaData()

leaf: Final = Table(
    "leaf",
    metadata,
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("body", LargeBinary),
    Column("salt", LargeBinary),
    Column("body_hash", LargeBinary, nullable=False),
)

checkpoint: Final = Table(
    "checkpoint",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("sshsig", Text, nullable=False),
)

watermark: Final = Table(
    "watermark",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("root", LargeBinary, nullable=False),
    Column("last_ticket", Integer, nullable=False),
    Column("ended", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

ended: Final = Table(
    "ended",
    metadata,
    Column("key", Text, primary_key=True),
    Column("until", Text, nullable=False),
)

certificate: Final = Table(
    "certificate",
    metadata,
    Column("blob_sha256", Text, primary_key=True),
    # Text: an OpenSSH serial has 64 bits, JSON's integers 53.
    Column("serial", Text, nullable=False, index=True),
    Column("identity_id", Text, nullable=False, index=True),
    Column("identity_name", Text, nullable=False, index=True),
    Column("identity", Text, nullable=False),
    Column("principals", Text, nullable=False),
    Column("not_after", Text, nullable=False),
    Column("key_fingerprint", Text, nullable=False),
    Column("revoked", Text),
    Column("mac", LargeBinary, nullable=False),
)

token_binding: Final = Table(
    "token_binding",
    metadata,
    Column("token_digest", Text, primary_key=True),
    Column("key_fingerprint", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
)

session: Final = Table(
    "session",
    metadata,
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False, index=True),
    Column("identity_id", Text, nullable=False),
    Column("identity_name", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("cast", Text, nullable=False),
    Column("opened", Text, nullable=False),
    Column("closed", Text),
    Column("reason", Text),
)

ticket: Final = Table(
    "ticket",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False, index=True),
    Column("requester_id", Text, nullable=False, index=True),
    Column("requester", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("shown", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("approvals", Text, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", Text, nullable=False),
    Column("requested", Text, nullable=False),
    Column("answer_by", Text, nullable=False),
    Column("expires", Text),
    Column("ended", Text),
    # Sealed; NULL once the ticket has ended.
    Column("text", LargeBinary),
    Column("mac", LargeBinary, nullable=False),
)

vote: Final = Table(
    "vote",
    metadata,
    Column("ticket", Integer, ForeignKey("ticket.number"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    # The ticket's digest: a vote of one ticket is never one of another's.
    Column("digest", Text, nullable=False),
    Column("voter_id", Text, nullable=False),
    Column("voter", Text, nullable=False),
    Column("approve", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    UniqueConstraint("ticket", "voter_id"),
)
