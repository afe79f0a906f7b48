"""The token exchange: a verified token and a proved key become a short certificate.

``POST /v1/token`` takes a form as RFC 8693 has it
(https://www.rfc-editor.org/rfc/rfc8693), with ``public_key`` and ``proof`` beside
``subject_token``. Nothing is issued before its record is durable.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import asyncssh

from gateway.config import GatewayConfig
from gateway.core.certificate import Terms, origin, terms_for
from gateway.core.identity import Identity
from gateway.core.proof import PublicKey, check_proof, read_public_key
from gateway.core.roles import map_identity
from gateway.edge.issuers import Issuers
from gateway.edge.keys import sign_user
from gateway.store import CertificateRecord
from recorder.leaf import SALT_BYTES, Leaf, time_text


class Admissions(Protocol):
    """What the store does for enrolment; both are durable once they return.

    Raises:
        RecorderFault: nothing changed, and nothing may be issued.
    """

    async def bind_token(self, token_digest: str, key_fingerprint: str, expires: datetime) -> None:
        """Bind a token to the first key that it comes with.

        Raises:
            TokenRefused: it came with another key before.
        """
        ...

    async def add_certificate(
        self, blob_sha256: str, record: CertificateRecord, leaf: Leaf
    ) -> None:
        """Make a certificate live, and enter its leaf, in one transaction."""
        ...


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is live.

    Attributes:
        certificate: one OpenSSH line, as a ``-cert.pub`` file holds it.
        identity: whom it speaks for.
        terms: what it says.
    """

    certificate: str
    identity: Identity
    terms: Terms


class Enrolment:
    """Exchanges tokens for certificates.

    Args:
        config: issuers, roles and the lifetime.
        issuers: verifies tokens.
        ca: the user CA.
        store: where certificates become live.
    """

    def __init__(
        self, config: GatewayConfig, issuers: Issuers, ca: asyncssh.SSHKey, store: Admissions
    ) -> None:
        self._roles = config.role_rules
        self._ttl = config.ca.certificate_ttl
        self._issuers = issuers
        self._ca = ca
        self._store = store
        self.origin = origin(ca.public_data)

    async def exchange(self, token: str, public_key: str, proof: str, source: str) -> Issued:
        """Verify all three and issue.

        Args:
            token: an ID token of a configured issuer.
            public_key: one OpenSSH public key line.
            proof: an SSHSIG by that key, see ``gateway.core.proof``.
            source: the client's address, for the record.

        Raises:
            LoginRefused: the token, the key or the proof is not good enough.
            TargetUnavailable: the issuer's keys cannot be had.
            RecorderFault: the certificate could not be recorded and is not issued.
        """
        now = datetime.now(UTC)
        key = read_public_key(public_key)
        claims = await self._issuers.verify(token, now)
        identity = map_identity(claims, self._roles)
        check_proof(proof, key, token)
        # Kept longer than any leeway lets the token live.
        forget = datetime.fromtimestamp(claims.expires, UTC) + timedelta(minutes=2)
        await self._store.bind_token(_token_digest(token), key.fingerprint, forget)
        # 63 bits, so that every database can hold it as a signed integer.
        serial = secrets.randbelow(2**63 - 1) + 1
        terms = terms_for(identity, self.origin, serial, now, self._ttl)
        certificate = sign_user(self._ca, key, terms)
        blob_sha256 = hashlib.sha256(certificate.public_data).hexdigest()
        record = CertificateRecord(
            identity=identity,
            serial=serial,
            principals=terms.principals,
            not_after=terms.valid_before,
            key_fingerprint=key.fingerprint,
        )
        leaf = Leaf(
            type="certificate.issued",
            time=now,
            session="",
            body=_leaf_body(identity, terms, key, blob_sha256, source),
            salt=secrets.token_bytes(SALT_BYTES),
        )
        await self._store.add_certificate(blob_sha256, record, leaf)
        line = certificate.export_certificate("openssh").decode("ascii").strip()
        return Issued(line, identity, terms)


def _token_digest(token: str) -> str:
    """Hex SHA-256 of what the token's signature covers.

    The signature itself is left out: an ECDSA signature can be rewritten into
    another that verifies, which would look like a token never seen.
    """
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


def _leaf_body(
    identity: Identity, terms: Terms, key: PublicKey, blob_sha256: str, source: str
) -> dict[str, object]:
    return {
        "serial": f"{terms.serial:016x}",
        "certificate": blob_sha256,
        "identity": identity.name,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "kind": identity.kind,
        "roles": list(identity.roles),
        "accountable": list(identity.accountable),
        "annotations": dict(identity.annotations),
        "principals": list(terms.principals),
        "not_before": time_text(terms.valid_after),
        "not_after": time_text(terms.valid_before),
        "key": key.fingerprint,
        "source": source,
    }
