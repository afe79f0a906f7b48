"""The chain: each line of a cast is bound to all lines before it (pure)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from recorder.errors import LineTooLong

DIGEST_BYTES: Final = 32
"""Length of a link, a salt, a seed and a genesis: SHA-256's output."""

MAX_LINE_BYTES: Final = 65_535
"""Longest line, line feed included; the size that a tlog entry may have, too."""


def inner_digest(salt: bytes, line: bytes) -> bytes:
    """SHA-256(salt || line): stands for a line, and says nothing without its salt.

    A bare digest of a line of PHI could be guessed, hence the salt.

    Raises:
        LineTooLong: the line is over MAX_LINE_BYTES.
        ValueError: the salt is not 32 bytes.
    """
    _check_length("salt", salt)
    if len(line) > MAX_LINE_BYTES:
        raise LineTooLong(f"{len(line)} bytes; the limit is {MAX_LINE_BYTES}")
    return hashlib.sha256(salt + line).digest()


def link_inner(previous: bytes, inner: bytes) -> bytes:
    """SHA-256(previous || inner): the next link, from the digest of a line.

    Args:
        previous: 32 bytes, the link before; the genesis for the header line.
        inner: 32 bytes, from ``inner_digest``; all that is left of an erased line.
    """
    _check_length("previous link", previous)
    _check_length("inner digest", inner)
    return hashlib.sha256(previous + inner).digest()


def link(previous: bytes, salt: bytes, line: bytes) -> bytes:
    """Bind one recorded line to everything recorded before it.

    SHA-256(previous || SHA-256(salt || line)) (docs/formats.md, "Chain").

    Args:
        previous: 32 bytes; the genesis for the header line.
        salt: 32 bytes, of this line only.
        line: as written, UTF-8, its line feed included.

    Raises:
        LineTooLong: the line is over MAX_LINE_BYTES; nothing was linked.
        ValueError: the salt or the previous link is not 32 bytes.
    """
    return link_inner(previous, inner_digest(salt, line))


def salt_for(seed: bytes, index: int) -> bytes:
    """HMAC-SHA256(seed, u64be(index)): the salt of line ``index`` (0 is the header).

    Raises:
        ValueError: the seed is not 32 bytes, or the index is no 64-bit number.
    """
    _check_length("seed", seed)
    if not 0 <= index < 2**64:
        raise ValueError("a line's index is a 64-bit number")
    return hmac.digest(seed, index.to_bytes(8, "big"), "sha256")


class Chain:
    """The running head over the lines of one cast.

    Attributes:
        lines: how many lines were added.
    """

    def __init__(self, genesis: bytes) -> None:
        """Start at ``genesis``, 32 bytes; ValueError otherwise."""
        _check_length("genesis", genesis)
        self._head = genesis
        self.lines = 0

    @property
    def head(self) -> str:
        """The link of the last line, lowercase hex; the genesis before the first."""
        return self._head.hex()

    def add(self, salt: bytes, line: bytes) -> bytes:
        """Link one line and return its inner digest.

        Raises:
            LineTooLong: the line is over the limit; the chain is unchanged.
            ValueError: the salt is not 32 bytes; the chain is unchanged.
        """
        inner = inner_digest(salt, line)
        self.add_inner(inner)
        return inner

    def add_inner(self, inner: bytes) -> None:
        """Link a line of which only the inner digest is left.

        Raises:
            ValueError: it is not 32 bytes; the chain is unchanged.
        """
        self._head = link_inner(self._head, inner)
        self.lines += 1


def _check_length(name: str, value: bytes) -> None:
    if len(value) != DIGEST_BYTES:
        raise ValueError(f"{name}: {len(value)} bytes instead of {DIGEST_BYTES}")
