"""New keys for a new deployment, each in a file of its own with mode 0600."""

from __future__ import annotations

import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.files import write_new
from recorder.note import VerificationKey, format_vkey

_TLS_DAYS = 397
"""The longest that browsers accept (CA/Browser Forum, Baseline Requirements 6.3.2)."""


def make_keys(keys: Path, state: Path, *, host: str, origin: str) -> None:
    """Make every key that gateway.toml names.

    Args:
        keys: an empty folder for the keys.
        state: an empty folder that gets ``log.vkey``.
        host: name in the TLS certificate.
        origin: the ledger's name.

    Raises:
        FileExistsError: a key is there already; it was not touched.
    """
    for name in ("user_ca", "host_ca", "ssh_host_ed25519"):
        key = asyncssh.generate_private_key("ssh-ed25519", comment=f"tollhouse {name}")
        write_new(keys / name, key.export_private_key("openssh"))
        write_new(keys / f"{name}.pub", key.export_public_key("openssh"), 0o644)
    for name in ("store_mac.key", "store_seal.key"):
        write_new(keys / name, secrets.token_hex(32).encode() + b"\n")
    log_key = Ed25519PrivateKey.generate()
    write_new(keys / "log.key", _pem(log_key))
    public = log_key.public_key().public_bytes_raw()
    vkey = format_vkey(VerificationKey(origin, public))
    write_new(state / "log.vkey", vkey.encode() + b"\n", 0o644)
    tls_key = ec.generate_private_key(ec.SECP256R1())
    write_new(keys / "tls.key", _pem(tls_key))
    certificate = _self_signed(tls_key, host, datetime.now(UTC))
    write_new(keys / "tls.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def _pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _self_signed(key: ec.EllipticCurvePrivateKey, host: str, now: datetime) -> x509.Certificate:
    """A certificate that is its own CA's, for one server and nothing else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_TLS_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def _names(host: str) -> list[x509.GeneralName]:
    try:
        return [x509.IPAddress(ipaddress.ip_address(host))]
    except ValueError:
        names: list[x509.GeneralName] = [x509.DNSName(host)]
    if host == "localhost":
        names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return names
