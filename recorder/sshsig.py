"""SSHSIG signatures over checkpoints, for people who have nothing but OpenSSH.

https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig. The key
is the log's own Ed25519 key, in OpenSSH's form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from recorder.errors import NoteInvalid, SignatureInvalid, VerifierMissing
from recorder.note import VerificationKey

NAMESPACE: Final = "tollhouse-checkpoint@v1"

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = (1).to_bytes(4, "big")
_HASH: Final = b"sha512"
_ALGORITHM: Final = b"ssh-ed25519"
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_LINE_CHARS: Final = 70
_MAX_ARMOR_CHARS: Final = 4_096
_TIMEOUT_S: Final = 20

# Characters that mean something in an allowed_signers line are left out.
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")


def public_blob(public: bytes) -> bytes:
    """An Ed25519 public key (32 bytes) in OpenSSH's wire form."""
    return _string(_ALGORITHM) + _string(public)


def allowed_signers(key: VerificationKey) -> str:
    """The line of an ``allowed_signers`` file that accepts this key for checkpoints only.

    Raises:
        NoteInvalid: the key's name cannot be written there.
    """
    if not _PRINCIPAL.fullmatch(key.name):
        raise NoteInvalid("the key's name cannot stand in an allowed_signers file")
    encoded = base64.b64encode(public_blob(key.public)).decode()
    return f'{key.name} namespaces="{NAMESPACE}" {_ALGORITHM.decode()} {encoded}\n'


def sign_sshsig(text: str, seed: bytes) -> str:
    """An armoured SSHSIG over a checkpoint's text.

    Args:
        text: the note's text with its final line feed, without signatures.
        seed: the private key, 32 bytes.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(seed)
    signature = private.sign(_signed_data(text.encode()))
    blob = (
        _blob_prefix(private.public_key().public_bytes_raw())
        + _string(_string(_ALGORITHM) + _string(signature))
    )  # fmt: skip
    encoded = base64.b64encode(blob).decode()
    lines = [encoded[at : at + _LINE_CHARS] for at in range(0, len(encoded), _LINE_CHARS)]
    return "\n".join([_BEGIN, *lines, _END, ""])


def verify_sshsig(text: str, armor: str, key: VerificationKey) -> None:
    """Check an SSHSIG over a checkpoint's text.

    Raises:
        SignatureInvalid: malformed, of another key or namespace, or not over this text.
        ImportError: the library ``cryptography`` is not installed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    blob = _unarmor(armor)
    # Everything but the signature itself is known beforehand, byte for byte.
    prefix = _blob_prefix(key.public) + _string(_string(_ALGORITHM) + _string(bytes(64)))[:-64]
    if len(blob) != len(prefix) + 64 or not blob.startswith(prefix):
        raise SignatureInvalid("the SSHSIG is not by this key for a checkpoint")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public)
        public.verify(blob[-64:], _signed_data(text.encode()))
    except (InvalidSignature, ValueError):
        raise SignatureInvalid("the SSHSIG does not fit the text") from None


def verify_with_ssh_keygen(text: str, armor: str, key: VerificationKey) -> None:
    """The same check by OpenSSH's ``ssh-keygen -Y verify``; needs no library.

    Raises:
        SignatureInvalid: ssh-keygen does not accept it.
        NoteInvalid: the key's name cannot be written for ssh-keygen.
        VerifierMissing: there is no ssh-keygen, or it does not answer.
    """
    _unarmor(armor)
    with tempfile.TemporaryDirectory() as folder:
        signers = Path(folder, "allowed_signers")
        signers.write_text(allowed_signers(key))
        signature = Path(folder, "signature")
        signature.write_text(armor)
        command = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", key.name]
        command += ["-f", str(signers), "-s", str(signature)]
        try:
            done = subprocess.run(
                command, input=text.encode(), capture_output=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            raise VerifierMissing("ssh-keygen cannot be run, and cryptography is missing") from None
    if done.returncode != 0:
        raise SignatureInvalid("ssh-keygen does not accept the SSHSIG")


def _signed_data(message: bytes) -> bytes:
    digest = hashlib.sha512(message).digest()
    return _MAGIC + _string(NAMESPACE.encode()) + _string(b"") + _string(_HASH) + _string(digest)


def _blob_prefix(public: bytes) -> bytes:
    fields = [public_blob(public), NAMESPACE.encode(), b"", _HASH]
    return _MAGIC + _VERSION + b"".join(_string(field) for field in fields)


def _unarmor(armor: str) -> bytes:
    lines = armor.split("\n")
    if len(armor) > _MAX_ARMOR_CHARS or len(lines) < 4 or lines[0] != _BEGIN:
        raise SignatureInvalid("not an armoured SSHSIG")
    if lines[-2:] != [_END, ""]:
        raise SignatureInvalid("not an armoured SSHSIG")
    encoded = "".join(lines[1:-2])
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise SignatureInvalid("an SSHSIG whose base64 cannot be read") from None
    if base64.b64encode(blob).decode() != encoded:
        raise SignatureInvalid("an SSHSIG whose base64 is not written in its one form")
    return blob


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
