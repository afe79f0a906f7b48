"""Ledger leaves: a public envelope over a salted, erasable body (pure).

The envelope goes into the log; body and salt are kept beside it, so that the
body can be destroyed and the log still proves (docs/formats.md, "Ledger").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from recorder.canonical import canonical
from recorder.errors import LeafInvalid

SALT_BYTES: Final = 32

MAX_ENVELOPE_BYTES: Final = 65_535
"""tlog-tiles writes an entry's length as uint16 (https://c2sp.org/tlog-tiles)."""

LEAF_TYPES: Final[frozenset[str]] = frozenset(
    (
        "gateway.started",
        "config.loaded",
        "policy.loaded",
        "certificate.issued",
        "certificate.revoked",
        "auth.refused",
        "session.open",
        "session.heartbeat",
        "session.close",
        "session.killed",
        "session.viewed",
        "session.reviewed",
        "command.decided",
        "request.sent",
        "command.finished",
        "approval.requested",
        "approval.voted",
        "approval.granted",
        "approval.refused",
        "approval.expired",
        "approval.spent",
        "approval.revealed",
        "evidence.exported",
        "key.rotated",
    )
)
"""Every type that a ledger may hold; docs/formats.md says what the bodies hold.

A ticket that its owner cancels is ``approval.refused`` with the reason.
"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One fact of the ledger.

    Attributes:
        type: one of LEAF_TYPES.
        time: aware; written in UTC with microseconds.
        session: the session's id, or empty if the fact belongs to none.
        body: JSON without floats; access-controlled and erasable.
        salt: 32 random bytes of this leaf only.
    """

    type: str
    time: datetime
    session: str
    body: Mapping[str, object]
    salt: bytes


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC with six decimals and ``Z``, as ``2026-07-01T08:00:00.000000Z``.

    Raises:
        LeafInvalid: the time has no zone.
    """
    if time.tzinfo is None:
        raise LeafInvalid("a time without a zone")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def body_bytes(leaf: Leaf) -> bytes:
    """The body as it is stored and hashed: canonical JSON.

    Raises:
        LeafInvalid: a float or another value that RFC 8785's I-JSON cannot hold exactly.
    """
    return canonical(leaf.body)


def body_hash(salt: bytes, body: bytes) -> bytes:
    """SHA-256(salt || body), 32 bytes.

    Raises:
        LeafInvalid: the salt is not 32 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise LeafInvalid("a salt that is not 32 bytes")
    return hashlib.sha256(salt + body).digest()


def envelope_from(type_: str, time: str, session: str, hashed: bytes) -> bytes:
    """The envelope from its stored fields: the leaf's data in the Merkle tree.

    Args:
        type_: the leaf's type.
        time: as ``time_text`` writes it.
        session: may be empty.
        hashed: 32 bytes, from ``body_hash``.

    Raises:
        LeafInvalid: an unknown type, a digest of another length, or too long.
    """
    if type_ not in LEAF_TYPES:
        raise LeafInvalid("unknown leaf type")
    if len(hashed) != SALT_BYTES:
        raise LeafInvalid("a body digest that is not 32 bytes")
    envelope = canonical({"body": hashed.hex(), "session": session, "time": time, "type": type_})
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise LeafInvalid(f"an envelope over {MAX_ENVELOPE_BYTES} bytes")
    return envelope


def envelope_bytes(leaf: Leaf) -> bytes:
    """The public envelope of a leaf, canonical JSON: the leaf's data in the Merkle tree.

    Raises:
        LeafInvalid: see ``body_bytes``, ``body_hash``, ``envelope_from``, ``time_text``.
    """
    hashed = body_hash(leaf.salt, body_bytes(leaf))
    return envelope_from(leaf.type, time_text(leaf.time), leaf.session, hashed)
