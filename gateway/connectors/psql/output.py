"""psql's stdout, told apart: what it drew, and the nonces that end each unit.

The guard makes psql print a random nonce as a command tag once all output of a
unit has come, in order and on the same stream (docs/decisions/0001). No
statement can guess one, so none can forge the end of its own output.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drawn:
    """Bytes that psql drew; not masked by patterns yet."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A unit's nonce came: all of its output lies before it."""

    nonce: str


class OutputSplitter:
    """Takes psql's stdout in pieces of any size; gives what was drawn and what ended.

    Args:
        quiet_marker: a tag line to strip (``psql -q``), or None.
    """

    def __init__(self, quiet_marker: str | None = None) -> None:
        self._quiet = f"{quiet_marker}\n".encode() if quiet_marker else None
        self._nonces: list[bytes] = []
        self._buffer = b""

    def expect(self, nonce: str) -> None:
        """Look for this nonce as well; call it before its unit is fed to psql."""
        self._nonces.append(f"{nonce}\n".encode())

    def feed(self, data: bytes) -> list[Drawn | Ended]:
        """Take some bytes; what could still become a nonce or marker is held."""
        self._buffer += data
        found: list[Drawn | Ended] = []
        while (hit := self._next()) is not None:
            position, token = hit
            self._draw(found, position)
            self._buffer = self._buffer[len(token) :]
            if token in self._nonces:
                self._nonces.remove(token)
                found.append(Ended(token[:-1].decode()))
        self._draw(found, len(self._buffer) - self._held())
        return found

    def finish(self) -> list[Drawn | Ended]:
        """The stream ended: give what was held."""
        found: list[Drawn | Ended] = []
        self._draw(found, len(self._buffer))
        return found

    def _tokens(self) -> list[bytes]:
        return [*self._nonces, self._quiet] if self._quiet else self._nonces

    def _next(self) -> tuple[int, bytes] | None:
        hits = [(self._buffer.find(token), token) for token in self._tokens()]
        return min((hit for hit in hits if hit[0] >= 0), default=None)

    def _held(self) -> int:
        """Length of the longest end of the buffer that begins some token."""
        longest = max((len(token) for token in self._tokens()), default=1)
        for length in range(min(longest - 1, len(self._buffer)), 0, -1):
            if any(token.startswith(self._buffer[-length:]) for token in self._tokens()):
                return length
        return 0

    def _draw(self, found: list[Drawn | Ended], length: int) -> None:
        if length > 0:
            found.append(Drawn(self._buffer[:length]))
        self._buffer = self._buffer[max(length, 0) :]
