"""The gateway's keys: read from their files, and the two signatures made with them.

A key is never printed, logged or sent; an error names its file only.
"""

from __future__ import annotations

import binascii
import ssl
from datetime import datetime, timedelta
from pathlib import Path

import asyncssh
from asyncssh.public_key import SSHOpenSSHCertificate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.core.certificate import CLOCK_SKEW, Terms
from gateway.core.proof import PublicKey
from gateway.errors import ConfigError, Fault, GatewayFault
from gateway.files import read_secret

HOST_CERTIFICATE_TTL = timedelta(days=365)
"""The host certificate is made anew at each start."""

_SYMMETRIC_KEY_BYTES = 32


def load_ssh_key(path: Path) -> asyncssh.SSHKey:
    """Read an SSH private key without passphrase.

    Raises:
        ConfigError: others can reach the file, or it holds no such key.
    """
    data = read_secret(path)
    try:
        return asyncssh.import_private_key(data)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise _unusable(path, "holds no SSH private key without passphrase") from None


def load_log_key(path: Path) -> bytes:
    """Read the Ed25519 key that signs checkpoints (PEM, PKCS 8) as its seed of 32 bytes.

    Raises:
        ConfigError: others can reach the file, or it holds no such key.
    """
    data = read_secret(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise _unusable(path, "holds no private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "holds a key that is not Ed25519")
    return key.private_bytes_raw()


def load_symmetric_key(path: Path) -> bytes:
    """Read a key of 32 bytes, written as 64 hex digits.

    Raises:
        ConfigError: others can reach the file, or it holds something else.
    """
    data = read_secret(path)
    try:
        key = binascii.unhexlify(data.strip())
    except (binascii.Error, ValueError):
        raise _unusable(path, "is not 64 hex digits") from None
    if len(key) != _SYMMETRIC_KEY_BYTES:
        raise _unusable(path, "is not 64 hex digits")
    return key


def tls_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server's TLS context, 1.2 and above.

    Raises:
        ConfigError: the files cannot be read or do not belong together.
    """
    read_secret(key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert_file, key_file, password="")
    except (OSError, ssl.SSLError, ValueError):
        raise _unusable(
            cert_file, "does not fit its private key, or one of them is not PEM"
        ) from None
    return context


def sign_user(ca: asyncssh.SSHKey, key: PublicKey, terms: Terms) -> SSHOpenSSHCertificate:
    """Make the user certificate that the terms describe.

    Every permission but the terminal is refused by name, and the principals go in
    as a list: asyncssh would split a text at its commas, and would otherwise
    permit everything, for ever, to any user.
    """
    return ca.generate_user_certificate(
        asyncssh.import_public_key(key.line),
        terms.key_id,
        serial=terms.serial,
        principals=list(terms.principals),
        valid_after=terms.valid_after,
        valid_before=terms.valid_before,
        permit_x11_forwarding=False,
        permit_agent_forwarding=False,
        permit_port_forwarding=False,
        permit_user_rc=False,
        permit_pty=True,
        comment=None,
    )


def sign_host(
    ca: asyncssh.SSHKey,
    host_key: asyncssh.SSHKey,
    names: tuple[str, ...],
    serial: int,
    now: datetime,
) -> SSHOpenSSHCertificate:
    """Make the host certificate by which clients know the gateway.

    Args:
        ca: the host CA, whose public key clients hold as ``@cert-authority``.
        host_key: the key of this host.
        names: host names and addresses that clients use; never empty.
        serial: random, 64 bits.
        now: aware.

    Raises:
        GatewayFault: there is no name; such a certificate would fit any host.
    """
    if not names:
        raise GatewayFault("the host certificate would name no host", "Set host_certificate_names")
    return ca.generate_host_certificate(
        host_key.convert_to_public(),
        f"tollhouse-host:{names[0]}",
        serial=serial,
        principals=list(names),
        valid_after=now - CLOCK_SKEW,
        valid_before=now + HOST_CERTIFICATE_TTL,
        comment=None,
    )


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError((Fault(str(path), reason, "Make it with `tollhouse init`"),))
