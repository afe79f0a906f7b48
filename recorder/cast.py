"""asciicast v2 as Tollhouse writes it: bytes of lines, and a strict reader (pure).

Stock players ignore the header key ``x_chain`` and the code ``h``, and crash on
anything but three elements with string data
(https://docs.asciinema.org/manual/asciicast/v2/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast, get_args

from recorder.chain import DIGEST_BYTES, MAX_LINE_BYTES
from recorder.errors import CastUnreadable, LineTooLong

Code = Literal["o", "i", "m", "r", "h"]
"""Output, input, marker, resize, head of the chain."""

CODES: Final[frozenset[str]] = frozenset(get_args(Code))

SESSION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Session ids name files, so no separator and no leading dot."""

CHAIN_VERSION: Final = 1

_EVENT: Final = re.compile(rb'\[((?:0|[1-9][0-9]{0,9})\.[0-9]{6}),"([oimrh])",(".*")\]\n')
_SIZE: Final = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_HEAD: Final = re.compile(r"[1-9][0-9]{0,18}:[0-9a-f]{64}")
_MAX_TIME_US: Final = 10**16 - 1
# Slices of this many characters fit the line cap unless escapes or wide
# characters blow them up; then they are halved.
_SLICE_CHARS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a cast.

    Attributes:
        session: the session's id.
        genesis: 32 bytes, where the chain starts.
        cols: width of the terminal, cells.
        rows: height of the terminal, cells.
        started: aware, whole seconds.
        title: shown by players; None to leave it out.
    """

    session: str
    genesis: bytes
    cols: int
    rows: int
    started: datetime
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line after the header.

    Attributes:
        time_us: microseconds since the session's start.
        code: see Code.
        data: output, a masked command, a marker, ``COLSxROWS`` or ``<lines>:<hex>``.
    """

    time_us: int
    code: Code
    data: str


def header_line(header: Header) -> bytes:
    """The header as its line in the file, line feed included.

    Raises:
        ValueError: a field that no cast may hold (docs/formats.md, "Cast").
        LineTooLong: the title is too long.
    """
    _check_header(header)
    fields: dict[str, object] = {
        "version": 2,
        "width": header.cols,
        "height": header.rows,
        "timestamp": int(header.started.timestamp()),
    }
    if header.title is not None:
        fields["title"] = header.title
    fields["x_chain"] = {
        "version": CHAIN_VERSION,
        "session": header.session,
        "genesis": header.genesis.hex(),
    }
    return _bounded(_dump(fields) + b"\n")


def event_line(event: Event) -> bytes:
    """One event as its line in the file, line feed included.

    Raises:
        ValueError: a code, a time or data that no cast may hold; lone surrogates too.
        LineTooLong: the data do not fit one line; see ``split_event``.
    """
    if event.code not in CODES:
        raise ValueError("unknown event code")
    if not 0 <= event.time_us <= _MAX_TIME_US:
        raise ValueError("event time out of range")
    _check_data(event.code, event.data)
    seconds, rest = divmod(event.time_us, 1_000_000)
    return _bounded(f'[{seconds}.{rest:06d},"{event.code}",'.encode() + _dump(event.data) + b"]\n")


def split_event(event: Event) -> Iterator[bytes]:
    """The event as one line, or as several of the same time where one is too short.

    The data of the lines joined are the data given; no character is cut. An event
    without data gives one line.

    Raises:
        ValueError: as ``event_line``.
    """
    data = event.data
    pieces = [data[at : at + _SLICE_CHARS] for at in range(0, len(data), _SLICE_CHARS)] or [""]
    pieces.reverse()
    while pieces:
        piece = pieces.pop()
        try:
            yield event_line(Event(event.time_us, event.code, piece))
        except LineTooLong:
            half = len(piece) // 2
            pieces += [piece[half:], piece[:half]]


def crlf(text: str, *, after_cr: bool = False) -> str:
    """Line feeds of a pipe as the CR LF that a terminal would have shown.

    Args:
        text: what the pipe delivered.
        after_cr: the piece before this one ended in CR.
    """
    shown = re.sub(r"(?<!\r)\n", "\r\n", text)
    return shown[1:] if after_cr and text.startswith("\n") else shown


def parse_header(line: bytes) -> Header:
    """Read the first line of a cast.

    Args:
        line: whole, its line feed included.

    Raises:
        CastUnreadable: it is no header of a chained cast.
    """
    fields = _load_object(line)
    chain = fields.get("x_chain")
    if fields.get("version") != 2 or not isinstance(chain, dict):
        raise CastUnreadable(1, "not an asciicast v2 header with an x_chain")
    if chain.get("version") != CHAIN_VERSION or set(chain) != {"version", "session", "genesis"}:
        raise CastUnreadable(1, "x_chain is of a version that this reader does not know")
    title = fields.get("title")
    numbers = [fields.get("width"), fields.get("height"), fields.get("timestamp")]
    genesis, session = chain["genesis"], chain["session"]
    if not (
        isinstance(genesis, str)
        and re.fullmatch(r"[0-9a-f]{64}", genesis)
        and isinstance(session, str)
        and (title is None or isinstance(title, str))
        and all(type(number) is int for number in numbers)
    ):
        raise CastUnreadable(1, "a header field has the wrong type")
    cols, rows, timestamp = cast("list[int]", numbers)
    try:
        started = datetime.fromtimestamp(timestamp, UTC)
        header = Header(session, bytes.fromhex(genesis), cols, rows, started, title)
        _check_header(header)
    except (ValueError, OverflowError, OSError):
        raise CastUnreadable(1, "a header field is out of its range") from None
    return header


def parse_event(line: bytes, line_number: int) -> Event:
    """Read one line after the header.

    Args:
        line: whole, its line feed included.
        line_number: 1-based, for the error.

    Raises:
        CastUnreadable: it is no event line of the form that ``event_line`` writes.
    """
    if len(line) > MAX_LINE_BYTES:
        raise CastUnreadable(line_number, "longer than a line may be")
    found = _EVENT.fullmatch(line)
    if found is None:
        raise CastUnreadable(line_number, "not an event of three elements")
    seconds, _, rest = found[1].partition(b".")
    code = cast("Code", found[2].decode())
    try:
        data = json.loads(found[3])
        if not isinstance(data, str):
            raise CastUnreadable(line_number, "the data are no string")
        _check_data(code, data)
        # The one way to write a string: what is shown and what is hashed agree.
        if _dump(data) != found[3]:
            raise CastUnreadable(line_number, "the string is not written in its one form")
    except (ValueError, RecursionError):
        raise CastUnreadable(line_number, "the data cannot be read") from None
    return Event(int(seconds) * 1_000_000 + int(rest), code, data)


class CastReader:
    """Reads a cast from pieces of any size.

    Attributes:
        header: None until its line was complete.
        line_number: complete lines read so far.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.line_number = 0
        self._rest = b""
        self._time_us = 0

    def feed(self, data: bytes) -> list[Event]:
        """Take more bytes and return the events that they complete.

        Raises:
            CastUnreadable: the cast breaks its format; the reader is of no more use.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = [event for line in lines if (event := self._take(line + b"\n")) is not None]
        if len(self._rest) >= MAX_LINE_BYTES:
            raise CastUnreadable(self.line_number + 1, "longer than a line may be")
        return events

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            CastUnreadable: there is no header, or the last line has no line feed.
        """
        if self._rest or self.header is None:
            raise CastUnreadable(self.line_number + 1, "the file ends inside a line")

    def _take(self, line: bytes) -> Event | None:
        self.line_number += 1
        if self.header is None:
            self.header = parse_header(line)
            return None
        event = parse_event(line, self.line_number)
        if event.time_us < self._time_us:
            raise CastUnreadable(self.line_number, "earlier than the line before it")
        self._time_us = event.time_us
        return event


def _check_header(header: Header) -> None:
    if not SESSION_ID.fullmatch(header.session):
        raise ValueError("the session id cannot name a file")
    if len(header.genesis) != DIGEST_BYTES:
        raise ValueError("the genesis is not 32 bytes")
    if not (0 < header.cols <= 65_535 and 0 < header.rows <= 65_535):
        raise ValueError("the terminal's size is out of range")
    if header.started.tzinfo is None:
        raise ValueError("the start has no time zone")
    if header.title is not None:
        _dump(header.title)


def _check_data(code: Code, data: str) -> None:
    form = {"r": _SIZE, "h": _HEAD}.get(code)
    if form is not None and not form.fullmatch(data):
        raise ValueError("the data do not have the form of their code")


def _bounded(line: bytes) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        raise LineTooLong(f"{len(line)} bytes; the limit is {MAX_LINE_BYTES}")
    return line


def _dump(value: object) -> bytes:
    # UnicodeEncodeError, for lone surrogates, is a ValueError.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _load_object(line: bytes) -> dict[str, object]:
    if not line.endswith(b"\n") or len(line) > MAX_LINE_BYTES:
        raise CastUnreadable(1, "no line feed, or longer than a line may be")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise CastUnreadable(1, "not JSON") from None
    if not isinstance(value, dict):
        raise CastUnreadable(1, "not a JSON object")
    return cast("dict[str, object]", value)
