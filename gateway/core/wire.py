"""SSH's wire encoding (RFC 4251 section 5), read from the front."""

from __future__ import annotations


class WireUnreadable(ValueError):
    """The bytes end inside a field; the caller says what they were meant to be."""


class Wire:
    """A reader over bytes that came from outside; nothing is skipped or guessed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether every byte was read."""
        return self._at == len(self._data)

    def number(self, size_bytes: int) -> int:
        """An unsigned big-endian number.

        Raises:
            WireUnreadable: too few bytes are left.
        """
        return int.from_bytes(self.take(size_bytes), "big")

    def string(self) -> bytes:
        """A string behind its 32-bit length.

        Raises:
            WireUnreadable: too few bytes are left.
        """
        return self.take(self.number(4))

    def take(self, size_bytes: int) -> bytes:
        """That many bytes as they are.

        Raises:
            WireUnreadable: too few bytes are left.
        """
        end = self._at + size_bytes
        if end > len(self._data):
            raise WireUnreadable("the bytes end inside a field")
        part, self._at = self._data[self._at : end], end
        return part


def split_strings(data: bytes) -> tuple[bytes, ...]:
    """The strings that fill the bytes exactly.

    Raises:
        WireUnreadable: the last one is cut.
    """
    wire, found = Wire(data), []
    while not wire.done:
        found.append(wire.string())
    return tuple(found)


def join_strings(*parts: bytes) -> bytes:
    """Each part behind its 32-bit length."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
