"""Errors and notices of the server: what of them the child may print.

A message about PHI quotes it (``Key (ssn)=(…) already exists``), and no pattern finds
every way it does. So after a statement that touches PHI only the severity and a known
SQLSTATE pass. Else the text passes, with a caret of our own: the server's position
counts in the decided text, of which psql holds only the ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.guards.pgwire.codec import error_response, parse_fields
from gateway.guards.pgwire.sqlstates import SQLSTATES
from gateway.guards.pgwire.text import clean

TextFilter = Callable[[bytes], bytes]
"""Masks patterns in a text of the server; its answer is cleaned of controls again."""

_SEVERITIES = frozenset(
    (b"ERROR", b"FATAL", b"PANIC", b"WARNING", b"NOTICE", b"DEBUG", b"INFO", b"LOG")
)
_SHOWN_CHARACTERS = 60
_BEFORE_CARET = 30


@dataclass(frozen=True, slots=True)
class ServerError:
    """What the gateway itself may know of an error: no text of the server's.

    Attributes:
        severity: ``ERROR``, ``FATAL`` or ``PANIC``.
        sqlstate: five characters of PostgreSQL's list, or ``XX000``.
    """

    severity: str
    sqlstate: str

    @property
    def condition(self) -> str:
        """The condition's name, as ``unique_violation``."""
        return SQLSTATES[self.sqlstate]


def read_error(body: bytes) -> ServerError:
    """The parts of an ErrorResponse that hold no value of a row.

    Raises:
        GuardBroken: malformed.
    """
    fields = parse_fields(body)
    severity = _severity(fields)
    return ServerError(severity.decode(), _sqlstate(fields))


def withheld(body: bytes, *, letter: str) -> bytes:
    """The message without its text, for a statement that touches PHI.

    Args:
        body: of ErrorResponse or NoticeResponse.
        letter: E or N.

    Raises:
        GuardBroken: malformed.
    """
    fields = parse_fields(body)
    severity, state = _severity(fields), _sqlstate(fields)
    what = "refused this statement" if letter == "E" else "commented on this statement"
    text = (
        f"the server {what}; its message may quote PHI and is withheld "
        f"(SQLSTATE {state} {SQLSTATES[state]})"
    )
    shown = {"S": severity, "V": severity, "C": state.encode(), "M": text.encode()}
    return error_response(shown, letter=letter)


def shown(body: bytes, text: bytes, text_filter: TextFilter, *, letter: str) -> bytes:
    """The message with its text, detail and hint, and a caret into the decided text.

    Args:
        body: of ErrorResponse or NoticeResponse.
        text: the decided text that the position counts in.
        text_filter: see TextFilter.
        letter: E or N.

    Raises:
        GuardBroken: malformed.
    """
    fields = parse_fields(body)
    severity = _severity(fields)
    message = fields.get("M", b"")
    place = _place(fields.get("P", b""), text)
    out = {"S": severity, "V": severity, "C": _sqlstate(fields).encode()}
    # The caret must stay under its character: both lines are filtered apart from the
    # rest, and dropped where the filter changes them.
    filtered = clean(text_filter(message))
    if place and clean(text_filter(place)) == place:
        filtered += b"\n" + place
    out["M"] = filtered
    for name in ("D", "H"):
        if name in fields:
            out[name] = clean(text_filter(fields[name]))
    return error_response(out, letter=letter)


def own_error(sqlstate: str, message: str, *, severity: str = "ERROR", hint: str = "") -> bytes:
    """An ErrorResponse of the gateway's."""
    fields = {
        "S": severity.encode(),
        "V": severity.encode(),
        "C": sqlstate.encode(),
        "M": message.encode(),
    }
    if hint:
        fields["H"] = hint.encode()
    return error_response(fields)


def _severity(fields: Mapping[str, bytes]) -> bytes:
    # V is never translated; a server without it is older than any that we serve.
    severity = fields.get("V", b"ERROR")
    return severity if severity in _SEVERITIES else b"ERROR"


def _sqlstate(fields: Mapping[str, bytes]) -> str:
    state = fields.get("C", b"").decode("ascii", "replace")
    return state if state in SQLSTATES else "XX000"


def _place(position: bytes, text: bytes) -> bytes:
    """Two lines, ``LINE n: …`` and a caret, or nothing.

    Args:
        position: decimal, counted in characters from 1.
        text: UTF-8.
    """
    if not position.isdigit() or len(position) > 9:
        return b""
    characters = text.decode("utf-8", "replace")
    at = int(position) - 1
    if not 0 <= at <= len(characters):
        return b""
    start = characters.rfind("\n", 0, at) + 1
    end = characters.find("\n", at)
    line = characters[start : end if end >= 0 else len(characters)].replace("\t", " ")
    column = at - start
    left = max(0, column - _BEFORE_CARET) if len(line) > _SHOWN_CHARACTERS else 0
    part = line[left : left + _SHOWN_CHARACTERS]
    before = "..." if left else ""
    after = "..." if left + _SHOWN_CHARACTERS < len(line) else ""
    label = f"LINE {characters.count(chr(10), 0, at) + 1}: {before}"
    caret = " " * (len(label) + column - left) + "^"
    return f"{label}{part}{after}\n{caret}".encode()
