"""The door: which certificates enter, and a reason for those that do not.

A key is proved before it is judged, so that a reason is told only to its holder
and nothing is remembered of a key that was merely offered (CVE-2024-45337's class).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from asyncssh.public_key import KeyImportError, decode_ssh_certificate, decode_ssh_public_key

from gateway.core.certificate import check, read
from gateway.core.display import show
from gateway.core.identity import Identity
from gateway.errors import CertificateRefused, RecorderFault
from gateway.store import CertificateRecord

_LOGIN = "Get a certificate with `tollhouse login`, or with curl and ssh-keygen as the README says"


class LiveCertificates(Protocol):
    """The store's word on a certificate."""

    async def certificate(self, blob_sha256: str) -> CertificateRecord | None:
        """The authenticated record of these exact bytes, or None.

        Raises:
            RecorderFault: the store cannot be read, or the row was forged.
        """
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    """Who came in, by which certificate, from where.

    Attributes:
        identity: as the token said when the certificate was issued.
        target: the SSH user name.
        blob_sha256: of the certificate's bytes, hex.
        serial: the certificate's.
        valid_before: when it ends; each new channel needs it to be valid still.
        address: the client's, as the socket says.
    """

    identity: Identity
    target: str
    blob_sha256: str
    serial: int
    valid_before: datetime
    address: str

    def expired(self, now: datetime) -> bool:
        """Whether the certificate's time is over."""
        return now >= self.valid_before


@dataclass(frozen=True, slots=True)
class Answer:
    """The door's answer to one authentication request.

    Attributes:
        accepted: go on (a query) or enter (a proof).
        banner: what the client shows; empty for none.
        admission: set only for a proved and accepted certificate.
    """

    accepted: bool
    banner: str = ""
    admission: Admission | None = None


class Door:
    """Decides on every key that is offered.

    Args:
        ca_blobs: public keys of the user CA, in SSH wire form.
        store: the live certificates.
        note: told of each refusal by (address, rule), for the ledger.
        now: the clock; aware.
    """

    def __init__(
        self,
        ca_blobs: Collection[bytes],
        store: LiveCertificates,
        note: Callable[[str, str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ca_blobs = ca_blobs
        self._store = store
        self._note = note
        self._now = now

    async def knock(
        self, *, username: str, key_data: bytes, signed: bytes, signature: bytes, address: str
    ) -> Answer:
        """Answer one request.

        A query (nothing signed) is answered yes for every readable key, so that
        the client proves it and can be told the reason.

        Args:
            username: the target that is asked for.
            key_data: a key or certificate in SSH wire form.
            signed: what the signature is over, empty for a query.
            signature: in SSH wire form.
            address: the client's.
        """
        plain = False
        try:
            certificate = decode_ssh_certificate(key_data)
            key = certificate.key
        except KeyImportError:
            # Not a certificate, or one whose CA signature is wrong.
            try:
                key = decode_ssh_public_key(key_data)
                plain = True
            except KeyImportError:
                self._note(address, "certificate.format")
                return Answer(accepted=False)
        if not signed:
            return Answer(accepted=True)
        if not key.verify(signed, signature):
            self._note(address, "certificate.proof")
            return Answer(accepted=False)
        try:
            if plain:
                raise CertificateRefused(
                    "this gateway accepts no plain keys", _LOGIN, "certificate.plain-key"
                )
            admission = await self._admit(username, key_data, address)
        except CertificateRefused as refusal:
            self._note(address, refusal.rule)
            return Answer(accepted=False, banner=_banner(refusal))
        except RecorderFault as fault:
            self._note(address, fault.rule)
            return Answer(accepted=False, banner=_banner(fault))
        return Answer(accepted=True, admission=admission)

    async def _admit(self, username: str, blob: bytes, address: str) -> Admission:
        certificate = read(blob)
        check(certificate, self._ca_blobs, username, self._now())
        digest = hashlib.sha256(blob).hexdigest()
        record = await self._live(digest)
        return Admission(
            identity=record.identity,
            target=username,
            blob_sha256=digest,
            serial=certificate.serial,
            valid_before=datetime.fromtimestamp(certificate.valid_before_s, UTC),
            address=address,
        )

    async def _live(self, blob_sha256: str) -> CertificateRecord:
        record = await self._store.certificate(blob_sha256)
        if record is None:
            raise CertificateRefused(
                "this gateway did not issue that certificate", _LOGIN, "certificate.unknown"
            )
        if record.revoked:
            raise CertificateRefused(
                "the certificate was revoked",
                "Ask the gateway's operator why",
                "certificate.revoked",
            )
        return record

    async def still_valid(self, admission: Admission) -> None:
        """See that the certificate may open one more session now.

        Raises:
            CertificateRefused: it expired or was revoked since it logged in.
            RecorderFault: the store cannot say.
        """
        if admission.expired(self._now()):
            raise CertificateRefused("the certificate has expired", _LOGIN, "certificate.expired")
        await self._live(admission.blob_sha256)


def _banner(error: CertificateRefused | RecorderFault) -> str:
    return (
        f"tollhouse: refused [{error.rule}]: {show(error.reason)}.\r\n  {show(error.advice)}.\r\n"
    )
