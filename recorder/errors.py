"""What can go wrong in this room; no message holds recorded data or a key."""

from __future__ import annotations


class RecorderError(Exception):
    """Base of the room's errors; raised itself when the disk refuses."""


class LineTooLong(RecorderError):
    """A recorded line is over the limit; nothing was linked or written."""


class CastUnreadable(RecorderError):
    """A cast breaks its format.

    Attributes:
        line_number: 1-based, counted in the file.
        reason: what is wrong there, without the line's text.
    """

    def __init__(self, line_number: int, reason: str) -> None:
        super().__init__(f"line {line_number}: {reason}")
        self.line_number = line_number
        self.reason = reason


class LeafInvalid(RecorderError):
    """A ledger leaf cannot be written as docs/formats.md, "Ledger", asks."""


class ProofInvalid(RecorderError):
    """A Merkle proof does not lead from what it starts at to the root."""


class NoteInvalid(RecorderError):
    """A signed note, a checkpoint or a verification key is malformed."""


class SignatureInvalid(RecorderError):
    """A signature is missing, malformed or not by the expected key."""


class VerifierMissing(RecorderError):
    """Neither the library ``cryptography`` nor the program ``ssh-keygen`` is here."""
