"""The file beside a cast that proves it line by line (pure).

One line of 130 bytes for each line of the cast: its salt, a space, its inner
digest, both lowercase hex. The digest tells which line was changed, and it is
what stays when a line is erased: then 64 dashes stand for the salt.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from pathlib import Path
from typing import Final, NamedTuple

from recorder.errors import RecorderError

SALT_LINE_BYTES: Final = 130

ERASED_SALT: Final = b"-" * 64

_LINE: Final = re.compile(rb"([0-9a-f]{64}|-{64}) ([0-9a-f]{64})\n")


class Proof(NamedTuple):
    """What proves one line.

    Attributes:
        salt: 32 bytes; None if the line was erased.
        inner: 32 bytes, SHA-256(salt || line).
    """

    salt: bytes | None
    inner: bytes


def salts_path(cast: Path) -> Path:
    """Where the salts of a cast lie: beside it, with ``.salts`` added to its name."""
    return cast.with_name(f"{cast.name}.salts")


def salt_line(salt: bytes, inner: bytes) -> bytes:
    """The line of the salts file for one line of the cast; 32 bytes each."""
    return f"{salt.hex()} {inner.hex()}\n".encode()


def erased_line(inner: bytes) -> bytes:
    """The line of the salts file for a line whose text and salt were destroyed."""
    return ERASED_SALT + f" {inner.hex()}\n".encode()


def parse_salt_line(line: bytes) -> Proof:
    """Read one line of a salts file, its line feed included.

    Raises:
        RecorderError: it is no such line.
    """
    found = _LINE.fullmatch(line)
    if found is None:
        raise RecorderError("not a salt and a digest")
    salt, inner = found.groups()
    return Proof(None if salt == ERASED_SALT else unhexlify(salt), unhexlify(inner))
