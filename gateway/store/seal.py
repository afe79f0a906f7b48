"""Two keys against whoever can write to, or read, the database file.

`RowMac` authenticates rows: a writer to the database alone cannot make one.
`TextSeal` encrypts the pending text of tickets. Both keys live outside of the
store's folder.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

import rfc8785
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import RecorderFault

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12

Row = dict[str, Any]
"""One row by column name; values are str, int, bytes or None."""

_log: Final = logging.getLogger(__name__)


class RowMac:
    """HMAC-SHA256(key, table name || JCS(row)), bytes as lower case hex in the row.

    No table's name is the beginning of another's followed by ``{``, so name and
    row cannot be read in two ways.

    Attributes:
        refused: how many rows failed since the store was opened.
    """

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 bytes.

        Raises:
            RecorderFault: another length.
        """
        self._key = _checked(key, "mac")
        self.refused = 0

    def make(self, table: str, row: Mapping[str, object]) -> bytes:
        """The code of a row, 32 bytes; a ``mac`` in the row is left out.

        Raises:
            RecorderFault: the row holds what JSON cannot.
        """
        members = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in row.items()
            if name != "mac"
        }
        try:
            canonical = rfc8785.dumps(members)  # type: ignore[arg-type]
        except (rfc8785.CanonicalizationError, UnicodeError) as error:
            raise RecorderFault(f"A row of {table} cannot be written", rule="store.row") from error
        return hmac.digest(self._key, table.encode() + canonical, hashlib.sha256)

    def sign(self, table: str, row: Row) -> Row:
        """The row with its ``mac``."""
        return {**row, "mac": self.make(table, row)}

    def holds(self, table: str, row: Mapping[str, object]) -> bool:
        """Whether the row is ours; one that is not is counted and logged, without its values."""
        mac = row.get("mac")
        try:
            good = isinstance(mac, bytes) and hmac.compare_digest(mac, self.make(table, row))
        except RecorderFault:
            good = False
        if not good:
            self.report(table)
        return good

    def report(self, table: str) -> None:
        """Count and log a row that somebody else wrote or brought back."""
        self.refused += 1
        _log.error("A row of table %s was changed outside of the gateway and is refused", table)


class TextSeal:
    """AES-256-GCM: 12 bytes of random nonce, then the ciphertext with its tag.

    The ticket's id is bound, so that a sealed text cannot be moved to another.
    """

    def __init__(self, key: bytes) -> None:
        """Take a key of 32 bytes.

        Raises:
            RecorderFault: another length.
        """
        self._cipher = AESGCM(_checked(key, "seal"))

    def seal(self, text: bytes, ticket: str) -> bytes:
        """The text, encrypted for this ticket."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text, ticket.encode())

    def open(self, sealed: bytes, ticket: str) -> bytes:
        """The text again.

        Raises:
            RecorderFault: sealed under another key, for another ticket, or changed.
        """
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, body, ticket.encode())
        except (InvalidTag, ValueError) as error:
            raise RecorderFault(
                f"The text of ticket {ticket} cannot be opened",
                "Check that the seal key is the one that the ticket was made with",
                rule="store.seal",
            ) from error


def _checked(key: bytes, name: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise RecorderFault(
            f"The store's {name} key is not {KEY_BYTES} bytes",
            "Make a new one with `tollhouse init`",
            rule="store.key",
        )
    return key
