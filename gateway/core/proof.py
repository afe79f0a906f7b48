"""Proof that a caller holds a key: an SSHSIG over the digest of its token.

The format is OpenSSH's PROTOCOL.sshsig
(https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.sshsig), as
``ssh-keygen -Y sign -n tollhouse-login@v1`` writes it. The signed message is
SHA-256 of the token, so a proof is worth nothing beside another token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from gateway.core.wire import Wire, WireUnreadable, join_strings
from gateway.errors import LoginRefused

NAMESPACE = "tollhouse-login@v1"
"""Keeps a signature made for anything else, such as a git commit, from being used here."""

_MAGIC = b"SSHSIG"
_KEY_TYPES = frozenset(
    {
        b"ssh-ed25519",
        b"ecdsa-sha2-nistp256",
        b"ecdsa-sha2-nistp384",
        b"ecdsa-sha2-nistp521",
        b"ssh-rsa",
    }
)
"""By name, because the loader would take a certificate for the key inside it."""

_MAX_TEXT_CHARS = 8_192
_MIN_RSA_BITS = 2048
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_DIGESTS = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    b"rsa-sha2-256": hashes.SHA256(),
    b"rsa-sha2-512": hashes.SHA512(),
}
_CURVE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An SSH public key of a kind that may be certified.

    Attributes:
        line: ``type base64`` without a comment.
        blob: in SSH wire form.
        fingerprint: ``SHA256:…`` as ssh-keygen prints it.
    """

    line: str
    blob: bytes
    fingerprint: str


def read_public_key(text: str) -> PublicKey:
    """Read one line of an OpenSSH ``.pub`` file.

    Raises:
        LoginRefused: it is not an Ed25519, ECDSA or RSA (2,048 bits and more) key.
    """
    words = text.split()
    if len(text) > _MAX_TEXT_CHARS or len(words) < 2 or "\n" in text.strip():
        raise _refused(
            "key", "the public key is not one OpenSSH line", "Send the .pub file as it is"
        )
    try:
        blob = base64.b64decode(words[1], validate=True)
        named = Wire(blob).string()
    except (binascii.Error, ValueError):
        raise _refused(
            "key", "the public key is not base64", "Send the .pub file as it is"
        ) from None
    if named != words[0].encode():
        raise _refused("key", "the public key contradicts its type", "Send the .pub file as it is")
    if named not in _KEY_TYPES:
        raise _kind()
    line = f"{words[0]} {base64.b64encode(blob).decode()}"
    _load(line)
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(line, blob, f"SHA256:{digest}")


def check_proof(armored: str, key: PublicKey, token: str) -> None:
    """See that the holder of ``key`` signed this very token; silence is consent.

    Args:
        armored: the SSHSIG as text, as ``ssh-keygen -Y sign`` writes it.
        key: the key that is to be certified; the signature must be its own.
        token: the token of the same request.

    Raises:
        LoginRefused: the proof cannot be read, is made for something else, is
            another key's, or does not verify.
    """
    message = hashlib.sha256(token.encode()).digest()
    try:
        wire = Wire(_unarmor(armored))
        magic, version = wire.take(len(_MAGIC)), wire.number(4)
        signer, namespace, reserved = wire.string(), wire.string(), wire.string()
        hash_name, signature = wire.string(), wire.string()
        algorithm, made = _signature(signature)
    except WireUnreadable:
        raise _unreadable() from None
    if magic != _MAGIC or version != 1 or not wire.done or hash_name not in _DIGESTS:
        raise _unreadable()
    if namespace != NAMESPACE.encode():
        raise _refused(
            "namespace", "the proof was made for another purpose", f"Sign with -n {NAMESPACE}"
        )
    if signer != key.blob:
        raise _refused(
            "signer", "the proof was made with another key", "Sign with the key you send"
        )
    signed = _MAGIC + join_strings(
        namespace, reserved, hash_name, _DIGESTS[hash_name](message).digest()
    )
    try:
        _verify(key.line, algorithm, made, signed)
    except (InvalidSignature, WireUnreadable, ValueError):
        raise _refused(
            "signature",
            "the proof does not verify",
            "Sign the SHA-256 digest (32 bytes) of exactly the token that you send",
        ) from None


def _verify(line: str, algorithm: bytes, made: bytes, signed: bytes) -> None:
    key = _load(line)
    name = line.split(" ", 1)[0].encode()
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == name:
        key.verify(made, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == name:
        wire = Wire(made)
        r, s = (int.from_bytes(wire.string(), "big", signed=True) for _ in range(2))
        if not wire.done or r <= 0 or s <= 0:
            raise InvalidSignature
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_CURVE_HASHES[key.curve.name]))
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA_HASHES:
        key.verify(made, signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
    else:
        raise InvalidSignature


def _load(
    line: str,
) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise _refused(
            "key", "the public key cannot be read", "Make one: ssh-keygen -t ed25519"
        ) from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey)):
        return key
    raise _kind()


def _unarmor(armored: str) -> bytes:
    lines = armored.strip().splitlines()
    if len(armored) > _MAX_TEXT_CHARS or len(lines) < 3 or (lines[0], lines[-1]) != (_BEGIN, _END):
        raise _unreadable()
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise _unreadable() from None


def _signature(blob: bytes) -> tuple[bytes, bytes]:
    wire = Wire(blob)
    algorithm, made = wire.string(), wire.string()
    if not wire.done:
        raise _unreadable()
    return algorithm, made


def _refused(rule: str, reason: str, advice: str) -> LoginRefused:
    return LoginRefused(reason, advice, f"proof.{rule}")


def _kind() -> LoginRefused:
    return _refused(
        "key", "the public key is of a kind that is not accepted", "Make one: ssh-keygen -t ed25519"
    )


def _unreadable() -> LoginRefused:
    return _refused(
        "format", "the proof is not an SSH signature", "Make it with ssh-keygen -Y sign"
    )
