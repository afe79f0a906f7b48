"""Plain lines: text that needs no screen, so scrollback and copying stay native.

A line is plain when it holds text of characters that take one cell on every
terminal and ends in CR LF. It is masked as text, each hidden character by one cell, so that
the client's screen and ours keep the same geometry.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import Final

from gateway.core.patterns import Searcher
from gateway.core.screen.controls import FILL, Column, Fixed, Lines, Segment, Text, Up
from gateway.core.screen.view import covers, held, hidden

LINE_LIMIT_CHARS: Final = 8_192
"""A longer line goes over the screen."""

_CLASS = (
    r"\x20-\x7e\xa1-\xac\xae-\u02ff\u038e-\u03a1\u03a3-\u03ff\u0400-\u0482\u048a-\u052f"
    r"\u2010-\u2015\u2018-\u201e\u2020-\u2022\u2026\u20ac\u2190-\u2193\u2500-\u259f"
)
_PLAIN = re.compile(f"[{_CLASS}]*")
_PLAIN_LINES = re.compile(f"(?:[{_CLASS}]*\r\n)+")
_ASCII = b"\r\n" + bytes(range(0x20, 0x7F))


def is_plain(text: str) -> bool:
    """Whether a text without controls can stand in a plain line."""
    return (text.isascii() and text.isprintable()) or _PLAIN.fullmatch(text) is not None


def plain_block(data: bytes) -> str:
    """The complete plain lines that the data begins with, LF between them; may be empty.

    Only whole runs up to the last CR LF are taken; with anything else in them, nothing.
    """
    block = data[: data.rfind(b"\r\n") + 2] if b"\r\n" in data else b""
    if not block:
        return ""
    ends = block.count(b"\r\n")
    if block.count(b"\r") != ends or block.count(b"\n") != ends:
        return ""
    if block.translate(None, _ASCII):
        try:
            text = block.decode("utf-8")
        except UnicodeDecodeError:
            return ""
        if _PLAIN_LINES.fullmatch(text) is None:
            return ""
    else:
        text = block.decode("ascii")
    text = text.replace("\r\n", "\n")
    if len(text) > LINE_LIMIT_CHARS and max(map(len, text.split("\n"))) > LINE_LIMIT_CHARS:
        return ""
    return text


class Plain:
    """The lines since the screen was last needed, and the one that is not complete.

    Attributes:
        raw: the incomplete line, as it came.
        sent: what the client shows of it; has as many characters once flushed.
        tail: the last complete lines, raw and as sent.
        count: complete lines since the screen was left.
        anchor: the last character of ``raw`` that the child wrote, not an echo; or -1.
    """

    def __init__(self, searcher: Searcher, counts: Counter[str], columns: int, lines: int) -> None:
        self.raw = self.sent = ""
        self.tail: deque[tuple[str, str]] = deque(maxlen=lines)
        self.count = 0
        self.anchor = -1
        self._searcher = searcher
        self._counts = counts
        self._columns = columns
        self._lines = lines

    def add(self, text: str, *, echo: bool) -> None:
        """Lengthen the incomplete line by plain text."""
        self.raw += text
        if not echo:
            self.anchor = len(self.raw) - 1

    def close(self) -> list[Segment]:
        """Nothing more will come: show the incomplete line, holding nothing back."""
        self.anchor = -1
        self.tally()
        return self.flush()

    def tally(self) -> None:
        """Count what is found in the incomplete line: it will not end as a line."""
        self._counts.update(cover.name for cover in covers(self.raw, self._searcher))

    def block(self, text: str) -> Lines:
        """Complete plain lines, while no line is incomplete."""
        found = covers(text, self._searcher)
        self._counts.update(cover.name for cover in found)
        masked = hidden(text, found)
        lines = text.count("\n")
        self.count += lines
        keep = self.tail.maxlen or 0
        raw, sent = text.rsplit("\n", keep + 1)[-keep - 1 :], masked.rsplit("\n", keep + 1)
        self.tail.extend(zip(raw[:-1], sent[-keep - 1 :][:-1], strict=True))
        return Lines(masked)

    def end(self) -> list[Segment]:
        """The incomplete line is complete: CR LF came."""
        found = covers(self.raw, self._searcher)
        out = self._rewrite(hidden(self.raw, found))
        self._counts.update(cover.name for cover in found)
        self.tail.append((self.raw, self.sent))
        self.count += 1
        self.raw = self.sent = ""
        self.anchor = -1
        return [*out, Fixed.RETURN, Fixed.FEED]

    def flush(self) -> list[Segment]:
        """Show the incomplete line, what may become an identifier as mask glyphs."""
        found = covers(self.raw, self._searcher)
        masked = hidden(self.raw, found)
        if self.anchor >= 0:
            around = held(self.raw, self.anchor)
            taken = {at for cover in found for at in range(cover.start, cover.end)}
            masked = "".join(
                FILL if at in around and at not in taken else char for at, char in enumerate(masked)
            )
        return self._rewrite(masked)

    def _rewrite(self, masked: str) -> list[Segment]:
        """Turn what the client shows of the line into ``masked``, which is no shorter.

        What has left the client's window stays as it was sent.
        """
        same = 0
        for old, new in zip(self.sent, masked, strict=False):
            if old != new:
                break
            same += 1
        out: list[Segment] = []
        if same < len(self.sent):
            bottom = (len(self.sent) - 1) // self._columns
            top = max(0, bottom - self._lines + 1)
            same = max(same, top * self._columns)
            up = bottom - same // self._columns
            out += [Up(up)] if up else []
            out.append(Column(same % self._columns))
        if same < len(masked):
            out.append(Text(masked, same, len(masked)))
        self.sent = self.sent[:same] + masked[same:]
        return out
