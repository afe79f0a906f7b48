"""Live certificates, and the key that each token came with first.

A certificate opens the gate only while its exact bytes have a row here that
carries the gateway's code. A row that does not hold is refused and reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.identity import Identity
from gateway.errors import CertificateRefused, TokenRefused
from gateway.store import schema
from gateway.store.columns import (
    all_rows,
    identity_from,
    identity_text,
    one_row,
    optional_text,
    optional_time,
)
from gateway.store.ledger import Mark, Writing
from gateway.store.seal import Row, RowMac
from recorder.leaf import time_text


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate that this gateway issued.

    Attributes:
        identity: whom it speaks for.
        serial: 64 bits, as in the certificate.
        principals: as in the certificate.
        not_after: end of its validity, aware UTC.
        key_fingerprint: ``SHA256:…`` of the subject's key.
        revoked: when it was revoked; None while it is live.
    """

    identity: Identity
    serial: int
    principals: tuple[str, ...]
    not_after: datetime
    key_fingerprint: str
    revoked: datetime | None = None


def certificate_row(blob_sha256: str, record: CertificateRecord) -> Row:
    """A certificate's columns, all but ``mac``."""
    return {
        "blob_sha256": blob_sha256,
        "serial": str(record.serial),
        "identity_id": record.identity.id,
        "identity_name": record.identity.name,
        "identity": identity_text(record.identity),
        "principals": json.dumps(record.principals),
        "not_after": time_text(record.not_after),
        "key_fingerprint": record.key_fingerprint,
        "revoked": optional_text(record.revoked),
    }


def certificate_from(row: Mapping[str, Any]) -> CertificateRecord:
    """The certificate of a row."""
    return CertificateRecord(
        identity=identity_from(row["identity"]),
        serial=int(row["serial"]),
        principals=tuple(json.loads(row["principals"])),
        not_after=datetime.fromisoformat(row["not_after"]),
        key_fingerprint=row["key_fingerprint"],
        revoked=optional_time(row["revoked"]),
    )


async def add(writing: Writing, blob_sha256: str, record: CertificateRecord) -> None:
    """Insert a certificate; the same bytes twice are a fault."""
    row = writing.mac.sign("certificate", certificate_row(blob_sha256, record))
    await writing.connection.execute(insert(schema.certificate).values(row))


async def find(
    connection: AsyncConnection, mac: RowMac, mark: Mark, blob_sha256: str
) -> CertificateRecord | None:
    """The record of a certificate's bytes; None if there is none.

    Raises:
        CertificateRefused: the row is not the gateway's, or an old one came back.
    """
    query = select(schema.certificate).where(schema.certificate.c.blob_sha256 == blob_sha256)
    row = one_row(await connection.execute(query))
    if row is None:
        return None
    good = mac.holds("certificate", row)
    if good and row["revoked"] is None and _key(blob_sha256) in mark.ended:
        mac.report("certificate")
        good = False
    if not good:
        raise CertificateRefused(
            "The record of this certificate was changed outside of the gateway",
            "Tell the operator, and log in again for a new certificate",
            rule="certificate.forged",
        )
    return certificate_from(row)


async def revoke(
    writing: Writing, now: datetime, serial: int | None, identity: str | None
) -> list[CertificateRecord]:
    """Mark live certificates as revoked; forged rows are left alone, they open nothing.

    Args:
        writing: the transaction.
        now: aware UTC.
        serial: of the one to revoke.
        identity: name or id of the identity whose certificates are all revoked.

    Returns:
        What was revoked now.
    """
    table = schema.certificate
    named = or_(table.c.identity_id == identity, table.c.identity_name == identity)
    chosen = table.c.serial == str(serial) if serial is not None else named
    rows = await writing.connection.execute(
        select(table).where(chosen, table.c.revoked.is_(None), table.c.not_after > time_text(now))
    )
    revoked = []
    for row in all_rows(rows):
        if not writing.mac.holds("certificate", row):
            continue
        blob_sha256 = row["blob_sha256"]
        record = replace(certificate_from(row), revoked=now)
        values = writing.mac.sign("certificate", certificate_row(blob_sha256, record))
        await writing.connection.execute(
            update(table).where(table.c.blob_sha256 == blob_sha256).values(values)
        )
        await writing.end(_key(blob_sha256), row["not_after"])
        revoked.append(record)
    return revoked


async def bind_token(
    writing: Writing, token_digest: str, key_fingerprint: str, expires: datetime
) -> None:
    """Tie a token to the first key that it came with.

    Raises:
        TokenRefused: it came with another key before, or the row is not ours.
    """
    table = schema.token_binding
    query = select(table).where(table.c.token_digest == token_digest)
    row = one_row(await writing.connection.execute(query))
    if row is None:
        fresh = {
            "token_digest": token_digest,
            "key_fingerprint": key_fingerprint,
            "expires": time_text(expires),
        }
        signed = writing.mac.sign("token_binding", fresh)
        await writing.connection.execute(insert(table).values(signed))
    elif not writing.mac.holds("token_binding", row) or row["key_fingerprint"] != key_fingerprint:
        raise TokenRefused(
            "This token came with another key before",
            "Get a fresh token; if you did not use this one twice, somebody else has it",
            rule="token.key",
        )


async def clean(writing: Writing, now: str) -> None:
    """Delete certificates and bindings whose time is over; the ledger keeps the facts."""
    certificates, bindings = schema.certificate, schema.token_binding
    await writing.connection.execute(delete(certificates).where(certificates.c.not_after < now))
    await writing.connection.execute(delete(bindings).where(bindings.c.expires < now))


def _key(blob_sha256: str) -> str:
    return f"certificate {blob_sha256}"
