"""Framing of PostgreSQL's protocol 3.0, both directions, and the few messages we write.

Source: PostgreSQL documentation, "Message Formats". Sans-I/O; the readers take bytes
in any cut and raise only GuardBroken.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import GuardBroken

PROTOCOL_3_0 = 196608
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102

MAX_STARTUP_BYTES = 10_000
"""PostgreSQL's own limit (MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h)."""

DATA_ROW = ord("D")
COPY_DATA = ord("d")

_HEADER = struct.Struct("!BI")
_INT32 = struct.Struct("!I")
_RUN_TYPES = frozenset((DATA_ROW, COPY_DATA))


@dataclass(frozen=True, slots=True)
class Message:
    """One typed message.

    Attributes:
        type: its one letter, as an integer (``ord("Q")``).
        body: what follows the length field.
    """

    type: int
    body: bytes

    @property
    def letter(self) -> str:
        """The type for people; not every byte that a peer sends is a letter."""
        return chr(self.type) if 0x21 <= self.type <= 0x7E else f"0x{self.type:02x}"


@dataclass(frozen=True, slots=True)
class Run:
    """Whole messages of one type in a row, DataRow or CopyData, kept as they came.

    Attributes:
        type: DATA_ROW or COPY_DATA.
        block: the frames, headers included, with nothing before or after.
        starts: where in ``block`` each frame begins; never empty.
    """

    type: int
    block: bytes
    starts: list[int]


@dataclass(frozen=True, slots=True)
class Startup:
    """A message of the connection's first moments, which has no type byte.

    Attributes:
        code: PROTOCOL_3_0, SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST or any other.
        body: what follows the code.
    """

    code: int
    body: bytes


class FrameReader:
    """Cuts one direction of a connection into messages.

    Args:
        max_bytes: the longest message allowed, its length field included. It also
            bounds what is held back: one incomplete message and the last piece fed.
        startup: the first message has no type byte (the child's side).
    """

    def __init__(self, max_bytes: int, *, startup: bool = False) -> None:
        self._max_bytes = max_bytes
        self._startup = startup
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes in the order in which they came, cut anywhere."""
        self._buffer += data

    def end_startup(self) -> None:
        """From here on messages have a type byte."""
        self._startup = False

    @property
    def pending_bytes(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._buffer)

    def take_startup(self) -> Startup | None:
        """The next untyped message, or None until it is complete.

        Raises:
            GuardBroken: a length that no startup message may have.
        """
        if len(self._buffer) < 4:
            return None
        (length,) = _INT32.unpack_from(self._buffer)
        if not 8 <= length <= MAX_STARTUP_BYTES:
            raise GuardBroken("a startup message has an impossible length", rule="pgwire.frame")
        if len(self._buffer) < length:
            return None
        packet = self._cut(length)
        (code,) = _INT32.unpack_from(packet, 4)
        return Startup(code, packet[8:])

    def take(self) -> Message | Run | None:
        """The next typed message, or all rows that lie in one run; None until complete.

        Raises:
            GuardBroken: a length below 4 or over the limit.
        """
        size = self._frame_bytes(0)
        if size is None or size > len(self._buffer):
            return None
        if self._buffer[0] in _RUN_TYPES:
            return self._take_run()
        frame = self._cut(size)
        return Message(frame[0], frame[5:])

    def _take_run(self) -> Run:
        buffer, available, kind = self._buffer, len(self._buffer), self._buffer[0]
        unpack, limit = _HEADER.unpack_from, self._max_bytes
        starts: list[int] = []
        end = 0
        while end + 5 <= available:
            found, length = unpack(buffer, end)
            if found != kind:
                break
            if not 4 <= length <= limit:
                raise _bad_length(found)
            stop = end + 1 + length
            if stop > available:
                break
            starts.append(end)
            end = stop
        return Run(kind, self._cut(end), starts)

    def _frame_bytes(self, at: int) -> int | None:
        if len(self._buffer) < at + 5:
            return None
        found, length = _HEADER.unpack_from(self._buffer, at)
        if not 4 <= length <= self._max_bytes:
            raise _bad_length(found)
        return 1 + int(length)

    def _cut(self, size: int) -> bytes:
        with memoryview(self._buffer) as view:
            taken = bytes(view[:size])
        del self._buffer[:size]
        return taken


def _bad_length(kind: int) -> GuardBroken:
    letter = Message(kind, b"").letter
    return GuardBroken(
        f"a protocol message of type {letter} has an impossible length or is over the limit",
        "Results with very long rows cannot pass the gate",
        rule="pgwire.frame",
    )


def frame(letter: str, body: bytes = b"") -> bytes:
    """A typed message with its length."""
    return _HEADER.pack(ord(letter), len(body) + 4) + body


def cstring(text: bytes) -> bytes:
    """A protocol String.

    Raises:
        GuardBroken: a NUL inside, which would cut the text short at the peer.
    """
    if b"\0" in text:
        raise GuardBroken("a text with a NUL cannot be sent", rule="pgwire.nul")
    return text + b"\0"


def query(text: bytes) -> bytes:
    """A simple Query of exactly these bytes."""
    return frame("Q", cstring(text))


def ready(status: str) -> bytes:
    """ReadyForQuery with a transaction status: I, T or E."""
    return frame("Z", status.encode())


def command_complete(tag: bytes) -> bytes:
    """CommandComplete with this tag."""
    return frame("C", cstring(tag))


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus; both texts UTF-8."""
    return frame("S", cstring(name.encode()) + cstring(value.encode()))


def startup(parameters: Mapping[str, str]) -> bytes:
    """A StartupMessage for protocol 3.0."""
    body = b"".join(cstring(k.encode()) + cstring(v.encode()) for k, v in parameters.items())
    return _INT32.pack(len(body) + 9) + _INT32.pack(PROTOCOL_3_0) + body + b"\0"


def ssl_request() -> bytes:
    """Asks the server for TLS; the answer is one byte, S or N."""
    return struct.pack("!II", 8, SSL_REQUEST)


def cancel_request(key: BackendKey) -> bytes:
    """The whole of a connection that asks the server to stop what that backend runs."""
    return (
        struct.pack("!II", 12 + len(key.secret), CANCEL_REQUEST) + _INT32.pack(key.pid) + key.secret
    )


def terminate() -> bytes:
    """The polite end of a connection."""
    return frame("X")


@dataclass(frozen=True, slots=True)
class BackendKey:
    """What a cancel request must know; the secret stays out of every ``repr``."""

    pid: int
    secret: bytes

    def __repr__(self) -> str:
        return f"BackendKey(pid={self.pid})"


def parse_backend_key(body: bytes) -> BackendKey:
    """The body of BackendKeyData.

    Raises:
        GuardBroken: not 4 bytes of pid and 4 to 256 of secret.
    """
    if not 8 <= len(body) <= 260:
        raise GuardBroken("the server's BackendKeyData is malformed", rule="pgwire.frame")
    return BackendKey(_INT32.unpack_from(body)[0], body[4:])


def parse_parameter(body: bytes) -> tuple[str, str]:
    """The body of ParameterStatus: name and value.

    Raises:
        GuardBroken: not two UTF-8 strings.
    """
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2]:
        raise GuardBroken("the server's ParameterStatus is malformed", rule="pgwire.frame")
    try:
        return parts[0].decode(), parts[1].decode()
    except UnicodeDecodeError:
        raise GuardBroken("a ParameterStatus is not UTF-8", rule="pgwire.frame") from None


def parse_status(body: bytes) -> str:
    """The transaction status in ReadyForQuery: I, T or E.

    Raises:
        GuardBroken: anything else.
    """
    if body not in (b"I", b"T", b"E"):
        raise GuardBroken("the server's ReadyForQuery is malformed", rule="pgwire.frame")
    return body.decode()


def parse_tag(body: bytes) -> bytes:
    """The tag in CommandComplete, without its NUL.

    Raises:
        GuardBroken: not one short string of capitals, digits and spaces.
    """
    tag = body[:-1]
    plain = tag.replace(b" ", b"").isalnum() and tag.isascii() and len(tag) <= 64
    if body[-1:] != b"\0" or not plain:
        raise GuardBroken("the server's CommandComplete is malformed", rule="pgwire.frame")
    return tag


def parse_fields(body: bytes) -> dict[str, bytes]:
    """The fields of ErrorResponse or NoticeResponse by their letter; the last wins.

    Raises:
        GuardBroken: the list is not well formed.
    """
    if body[-1:] != b"\0":
        raise GuardBroken("an error message of the server is malformed", rule="pgwire.frame")
    fields: dict[str, bytes] = {}
    for part in body[:-1].split(b"\0")[:-1]:
        if not part:
            raise GuardBroken("an error message of the server is malformed", rule="pgwire.frame")
        fields[chr(part[0])] = part[1:]
    return fields


def error_response(fields: Mapping[str, bytes], *, letter: str = "E") -> bytes:
    """ErrorResponse, or NoticeResponse with letter N.

    Args:
        fields: values by field letter; NUL bytes inside are dropped.
        letter: E or N.
    """
    parts = [k.encode() + value.replace(b"\0", b"") + b"\0" for k, value in fields.items()]
    return frame(letter, b"".join(parts) + b"\0")
