"""Signed notes and checkpoints in C2SP form.

https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint. The library
``cryptography`` is loaded only where a signature is made or checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from recorder.errors import NoteInvalid, SignatureInvalid

ED25519: Final = 1
"""Signature type byte of a plain Ed25519 note signature."""

MAX_NOTE_BYTES: Final = 65_536

_NAME: Final = re.compile(r"[^\s+]{1,255}")
_VKEY: Final = re.compile(r"([^\s+]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")
_SIGNATURE: Final = re.compile("— ([^\\s+]{1,255}) ([A-Za-z0-9+/]+={0,2})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_MAX_SIGNATURES: Final = 64


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """Who may sign: a name and an Ed25519 public key.

    Attributes:
        name: no white space and no ``+``.
        public: 32 bytes.
    """

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0A || 01 || public key), its first four bytes."""
        named = self.name.encode() + b"\n" + bytes([ED25519]) + self.public
        return hashlib.sha256(named).digest()[:4]


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note; ``value`` is what follows the key id."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures, none of them checked.

    Attributes:
        text: ends in a line feed; this is what the signatures cover.
        signatures: in the note's order.
    """

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log.

    Attributes:
        origin: the log's name, the same as its key's.
        size: number of leaves.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes


def format_vkey(key: VerificationKey) -> str:
    """The key as one word, ``name+keyid+base64``.

    Raises:
        NoteInvalid: the name or the key's length is not allowed.
    """
    if not _NAME.fullmatch(key.name) or len(key.public) != 32:
        raise NoteInvalid("a key needs a name without spaces or +, and 32 bytes")
    encoded = base64.b64encode(bytes([ED25519]) + key.public).decode()
    return f"{key.name}+{key.key_id.hex()}+{encoded}"


def parse_vkey(text: str) -> VerificationKey:
    """Read a key as ``format_vkey`` writes it; white space around it is allowed.

    Raises:
        NoteInvalid: it is malformed, of another algorithm, or its id does not fit.
    """
    found = _VKEY.fullmatch(text.strip())
    if found is None:
        raise NoteInvalid("not a verification key of the form name+id+base64")
    decoded = _decode(found[3])
    if len(decoded) != 33 or decoded[0] != ED25519:
        raise NoteInvalid("not an Ed25519 verification key")
    key = VerificationKey(found[1], decoded[1:])
    if key.key_id.hex() != found[2]:
        raise NoteInvalid("the verification key's id does not fit its key")
    return key


def public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte Ed25519 private seed."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign_note(text: str, name: str, seed: bytes) -> str:
    """A note with one Ed25519 signature.

    Args:
        text: lines without control characters, the last one ended by a line feed.
        name: the key's name.
        seed: the private key, 32 bytes.

    Raises:
        NoteInvalid: the text or the name is not allowed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    _check_text(text)
    key = VerificationKey(name, public_key(seed))
    format_vkey(key)
    value = Ed25519PrivateKey.from_private_bytes(seed).sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(key.key_id + value).decode()}\n"


def parse_note(note: str) -> Note:
    """Take a note apart without checking a signature.

    Raises:
        NoteInvalid: it is malformed.
    """
    if len(note) > MAX_NOTE_BYTES:
        raise NoteInvalid("a note longer than this reader takes")
    body, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise NoteInvalid("no empty line before the signatures, or no line feed at the end")
    text = body + "\n"
    _check_text(text)
    lines = tail[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise NoteInvalid("too many signatures")
    return Note(text, tuple(_parse_signature(line) for line in lines))


def verify_note(note: str, key: VerificationKey) -> str:
    """Check that ``key`` signed a note and return its text.

    Signatures by other keys are ignored.

    Raises:
        NoteInvalid: the note is malformed.
        SignatureInvalid: the key did not sign it.
        ImportError: the library ``cryptography`` is not installed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    parsed = parse_note(note)
    mine = [s for s in parsed.signatures if (s.name, s.key_id) == (key.name, key.key_id)]
    if not mine:
        raise SignatureInvalid("the key did not sign this note")
    try:
        public = Ed25519PublicKey.from_public_bytes(key.public)
        for signature in mine:
            public.verify(signature.value, parsed.text.encode())
    except (InvalidSignature, ValueError):
        raise SignatureInvalid("the signature does not fit the note") from None
    return parsed.text


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """The three lines of a checkpoint: origin, size, base64 of the root.

    Raises:
        NoteInvalid: a field that no checkpoint may hold.
    """
    encoded = base64.b64encode(checkpoint.root).decode()
    text = f"{checkpoint.origin}\n{checkpoint.size}\n{encoded}\n"
    parse_checkpoint(text)
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text. Extension lines are refused: this log writes none.

    Raises:
        NoteInvalid: it is malformed.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteInvalid("a checkpoint has three lines")
    origin, size, encoded = lines[:3]
    if not _NAME.fullmatch(origin) or not _SIZE.fullmatch(size):
        raise NoteInvalid("the checkpoint's origin or size is malformed")
    root = _decode(encoded)
    if len(root) != 32:
        raise NoteInvalid("the checkpoint's root is not 32 bytes")
    return Checkpoint(origin, int(size), root)


def sign_checkpoint(checkpoint: Checkpoint, seed: bytes) -> str:
    """The checkpoint as a note, signed by the log's own key.

    Raises:
        NoteInvalid: a field that no checkpoint may hold.
    """
    return sign_note(checkpoint_text(checkpoint), checkpoint.origin, seed)


def verify_checkpoint(note: str, key: VerificationKey) -> Checkpoint:
    """The checkpoint of a note that the log's own key signed.

    Raises:
        NoteInvalid: the note is malformed, or speaks of another log.
        SignatureInvalid: the key did not sign it.
        ImportError: the library ``cryptography`` is not installed.
    """
    return checkpoint_of(verify_note(note, key), key)


def checkpoint_of(text: str, key: VerificationKey) -> Checkpoint:
    """The checkpoint in a text whose signature by ``key`` was checked elsewhere.

    Raises:
        NoteInvalid: the text is malformed, or speaks of another log.
    """
    checkpoint = parse_checkpoint(text)
    if not hmac.compare_digest(checkpoint.origin.encode(), key.name.encode()):
        raise NoteInvalid("the checkpoint is of a log of another name")
    return checkpoint


def _parse_signature(line: str) -> Signature:
    found = _SIGNATURE.fullmatch(line)
    if found is None:
        raise NoteInvalid("a signature line is malformed")
    decoded = _decode(found[2])
    if len(decoded) < 5:
        raise NoteInvalid("a signature is too short")
    return Signature(found[1], decoded[:4], decoded[4:])


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise NoteInvalid("a note's text ends in a line feed and has no control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NoteInvalid("a note's text is not valid Unicode") from None


def _decode(encoded: str) -> bytes:
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid("base64 that cannot be read") from None
    # Several base64 texts decode to the same bytes; only one of them is written.
    if base64.b64encode(decoded).decode() != encoded:
        raise NoteInvalid("base64 that is not written in its one form")
    return decoded
