"""User certificates: what goes in, and what is looked at when one comes back.

A certificate is read here from its own bytes (OpenSSH's PROTOCOL.certkeys,
https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.certkeys), because libraries
drop extensions that they do not know and take an empty list of principals as
"any user". The signature is the SSH library's to verify; ``check`` judges the rest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.core.identity import Identity
from gateway.core.wire import Wire, WireUnreadable, join_strings, split_strings
from gateway.errors import CertificateRefused

MAX_TTL = timedelta(minutes=15)
CLOCK_SKEW = timedelta(seconds=60)
"""How far before its making a certificate starts to be valid, for clients whose clock lags."""

_USER, _HOST = 1, 2
_MAX_BLOB_BYTES = 16_384
_FOREVER = 2**64 - 1
_CERTIFICATE_SUFFIX = b"-cert-v01@openssh.com"
_KEY_FIELDS = {
    b"ssh-ed25519": 1,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
    b"ssh-rsa": 2,
}
"""Key types that may log in, and how many wire strings their public part has."""

_EXTENSIONS = frozenset({b"permit-pty"})
_TARGET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a certificate to be signed says; made by ``terms_for`` only.

    Attributes:
        serial: 64 bits, random, never 0.
        key_id: for logs: identity and serial, printable ASCII.
        principals: never empty.
        valid_after, valid_before: aware; the last at most 15 minutes after now.
    """

    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """An OpenSSH certificate as its bytes say, nothing proved.

    Attributes:
        user: whether it is a user certificate (else a host's).
        key_blob: the certified public key in SSH wire form.
        ca_blob: the public key of who signed it, in SSH wire form.
        valid_after_s, valid_before_s: seconds since the epoch, 64 bits unsigned.
        options, extensions: names only, in their order.
    """

    user: bool
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after_s: int
    valid_before_s: int
    options: tuple[bytes, ...]
    extensions: tuple[bytes, ...]
    key_blob: bytes
    ca_blob: bytes


def origin(ca_blob: bytes) -> str:
    """The gateway's short name in principals: 8 hex digits of SHA-256 of its CA key.

    Args:
        ca_blob: the CA's public key in SSH wire form.
    """
    return hashlib.sha256(ca_blob).hexdigest()[:8]


def principal(gateway_origin: str, target: str) -> str:
    """``tollhouse:<origin>:<target>``.

    Raises:
        CertificateRefused: the target's name could be read as something else.
    """
    if not _TARGET.fullmatch(target):
        raise _refused(
            "name", "a target's name holds a character that principals cannot", "Rename it"
        )
    return f"tollhouse:{gateway_origin}:{target}"


def terms_for(
    identity: Identity, gateway_origin: str, serial: int, now: datetime, ttl: timedelta = MAX_TTL
) -> Terms:
    """Say what the certificate of an identity holds.

    One principal for each target of the identity, one for ``gateway`` (about
    oneself) and, for a person who may vote, one for ``approvals``.

    Args:
        identity: from a verified token.
        gateway_origin: see ``origin``.
        serial: random, from 1 to 2^64 - 1.
        now: aware.
        ttl: above zero, at most 15 minutes.

    Raises:
        CertificateRefused: an argument lies outside of these bounds.
    """
    if not 0 < serial < 2**64:
        raise _refused("serial", "the serial number is out of range", "Draw 64 random bits")
    if not timedelta(0) < ttl <= MAX_TTL:
        raise _refused(
            "ttl", "the lifetime is out of range", "A certificate lives 15 minutes at most"
        )
    names = ["gateway", *identity.targets]
    if identity.kind == "person" and identity.groups:
        names.append("approvals")
    shown = re.sub(r"[^!-~]", "?", identity.name)
    return Terms(
        serial=serial,
        key_id=f"tollhouse:{shown}:{serial:016x}",
        principals=tuple(principal(gateway_origin, name) for name in names),
        valid_after=now - CLOCK_SKEW,
        valid_before=now + ttl,
    )


def read(blob: bytes) -> Certificate:
    """Read a certificate from its wire form.

    Raises:
        CertificateRefused: it is not one whole certificate of a known key type,
            or a text in it holds a NUL or is not UTF-8.
    """
    if len(blob) > _MAX_BLOB_BYTES:
        raise _unreadable()
    try:
        return _read(Wire(blob))
    except WireUnreadable:
        raise _unreadable() from None


def _read(wire: Wire) -> Certificate:
    kind = wire.string()
    base = kind.removesuffix(_CERTIFICATE_SUFFIX)
    if base == kind or base not in _KEY_FIELDS:
        raise _refused("type", "the key is not a certificate of a kind that is accepted", _LOGIN)
    wire.string()  # the nonce
    numbers = [wire.string() for _ in range(_KEY_FIELDS[base])]
    serial, role = wire.number(8), wire.number(4)
    key_id, principals = wire.string(), wire.string()
    after, before = wire.number(8), wire.number(8)
    options, extensions = wire.string(), wire.string()
    wire.string()  # reserved
    ca_blob = wire.string()
    wire.string()  # the signature
    if not wire.done or role not in (_USER, _HOST):
        raise _unreadable()
    return Certificate(
        user=role == _USER,
        serial=serial,
        key_id=_text(key_id),
        principals=tuple(_text(name) for name in split_strings(principals)),
        valid_after_s=after,
        valid_before_s=before,
        options=_names(options),
        extensions=_names(extensions),
        key_blob=join_strings(base, *numbers),
        ca_blob=ca_blob,
    )


def check(
    certificate: Certificate, ca_blobs: Collection[bytes], user_name: str, now: datetime
) -> None:
    """See that a certificate opens a target at this moment; silence is consent.

    The SSH library has verified the signature, and the caller has still to find
    the certificate's digest among the store's live records.

    Args:
        certificate: from ``read``.
        ca_blobs: public keys of this gateway's user CA, in SSH wire form.
        user_name: the SSH user name: a target, ``gateway`` or ``approvals``.
        now: aware.

    Raises:
        CertificateRefused: with the first reason that a person can act on.
    """
    if certificate.ca_blob not in ca_blobs:
        raise _refused("ca", "the certificate was signed by another CA than this gateway's", _LOGIN)
    if not certificate.user:
        raise _refused("host", "a host certificate cannot log in", _LOGIN)
    _check_window(certificate, now)
    if certificate.options:
        raise _refused("option", "the certificate holds a critical option", _LOGIN)
    if not _EXTENSIONS.issuperset(certificate.extensions):
        raise _refused("extension", "the certificate permits more than a terminal", _LOGIN)
    if not certificate.principals:
        raise _refused("principals", "the certificate names no principal", _LOGIN)
    if any(
        not name or "," in name or "*" in name or "?" in name for name in certificate.principals
    ):
        raise _refused("principals", "a principal is empty or holds a comma or a wildcard", _LOGIN)
    if not _TARGET.fullmatch(user_name):
        raise _refused(
            "name", "the user name is not the name of a target", "Use ssh TARGET@gateway"
        )
    if principal(origin(certificate.ca_blob), user_name) not in certificate.principals:
        raise _refused(
            "target",
            f"the certificate does not open {user_name}",
            "`ssh gateway@… targets` lists what it opens; a role in gateway.toml grants more",
        )


def _check_window(certificate: Certificate, now: datetime) -> None:
    now_s = now.timestamp()
    if certificate.valid_before_s == _FOREVER:
        raise _refused("window", "the certificate never expires", _LOGIN)
    if now_s < certificate.valid_after_s:
        raise _refused(
            "not-yet",
            "the certificate is not valid yet",
            "See the clocks of this gateway and yours",
        )
    if now_s >= certificate.valid_before_s:
        ended = datetime.fromtimestamp(certificate.valid_before_s, UTC)
        raise _refused(
            "expired", f"the certificate expired at {ended:%Y-%m-%d %H:%M:%S} UTC", _LOGIN
        )
    if certificate.valid_before_s - certificate.valid_after_s > (
        (MAX_TTL + CLOCK_SKEW).total_seconds()
    ):
        raise _refused("window", "the certificate lives longer than 15 minutes", _LOGIN)


_LOGIN = "Get a certificate with `tollhouse login`"


def _refused(rule: str, reason: str, advice: str) -> CertificateRefused:
    return CertificateRefused(reason, advice, f"certificate.{rule}")


def _unreadable() -> CertificateRefused:
    return _refused("format", "the certificate cannot be read", _LOGIN)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _unreadable() from None
    if "\0" in text:
        raise _refused("nul", "the certificate holds a NUL", _LOGIN)
    return text


def _names(raw: bytes) -> tuple[bytes, ...]:
    """The names of a list of options or extensions: name, value, name, value, …"""
    parts = split_strings(raw)
    if len(parts) % 2:
        raise _unreadable()
    return parts[::2]
