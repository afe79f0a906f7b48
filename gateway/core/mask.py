"""Masked bytes: the only bytes that reach a client or a recording.

``Masked`` can be made in this module alone, so a type error stands between raw
output and the outside. What an exec child writes goes through ``StreamMasker``,
what the gateway itself says through ``masked_message``, what a PTY shows through
``painted``.

Only what was matched leaves: escape sequences and other controls are dropped
before matching, so no colour, cursor move or backspace can cut a number for the
matcher and join it again for the reader.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final, NoReturn

from gateway.core.patterns import MAX_MATCH_CHARS, Searcher
from gateway.core.phi import CONSTANT, TAGS
from gateway.core.plaintext import Cleaner, positions, shadow
from gateway.core.screen.controls import FILL, Fixed, Lines, Segment, Text

LINE_LIMIT_CHARS: Final = 65_536
"""An incomplete line is held up to here; then its safe prefix leaves."""

OVERLAP_CHARS: Final = 2 * MAX_MATCH_CHARS
"""How much of a long line, in shadow characters, is held or kept as context."""

_PLAIN: Final = b"\t\n" + bytes(range(0x20, 0x7F))

_MAKE = object()


class Masked:
    """Bytes that passed the masker; immutable, made in this module only.

    Attributes:
        data: UTF-8, with no control characters but LF, TAB and CR; from
            ``painted`` also those of ``screen.controls``.
    """

    __slots__ = ("_data",)
    _data: bytes

    def __init__(self, data: bytes, token: object = None) -> None:
        if token is not _MAKE:
            raise TypeError("Masked bytes are made by gateway.core.mask only")
        object.__setattr__(self, "_data", bytes(data))

    @property
    def data(self) -> bytes:
        """The bytes, to be written and never changed."""
        return self._data

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("Masked bytes cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise TypeError("Masked bytes cannot be changed")

    def __reduce__(self) -> NoReturn:
        # Unpickling and copying would make one without the token.
        raise TypeError("Masked bytes cannot be pickled or copied")

    def __init_subclass__(cls) -> None:
        raise TypeError("Masked cannot be subclassed")

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Masked) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"<Masked {len(self._data)} bytes>"


EMPTY: Final = Masked(b"", _MAKE)


def join(parts: Iterable[Masked]) -> Masked:
    """Several masked outputs as one.

    Raises:
        TypeError: a part is not Masked.
    """
    kept = list(parts)
    if not all(type(part) is Masked for part in kept):
        raise TypeError("only Masked bytes can be joined")
    return Masked(b"".join(part.data for part in kept), _MAKE)


def tag(kind: str | None) -> bytes:
    """What is shown in place of a cell.

    Args:
        kind: of the one PHI column that the cell is a plain copy of; None, or a
            kind that ``phi.TAGS`` does not know, gives the constant ``[PHI]``,
            also in place of NULL, because a mask must not speak.
    """
    return (CONSTANT if kind is None else TAGS.get(kind, CONSTANT)).encode("ascii")


_ALL_PATTERNS: Final = Searcher()


class StreamMasker:
    """Masks one output stream of a child; one object a stream, not shared.

    Complete lines leave as soon as their line feed is read; the incomplete last
    line is held until it is complete or ``finish`` is called. When a line
    reaches LINE_LIMIT_CHARS characters, all of it leaves but its last
    OVERLAP_CHARS visible characters (and no finding is cut). No pattern spans
    more than MAX_MATCH_CHARS, and as much again of what left is kept for
    matching, so every finding is seen whole with its neighbours. The output
    depends on the bytes only, never on how they were split.

    Invalid UTF-8 becomes U+FFFD. Escape sequences, controls but LF, TAB, CR,
    and bidi controls are dropped.

    Attributes:
        counts: findings by pattern name, for those that have left.
    """

    def __init__(self, searcher: Searcher = _ALL_PATTERNS) -> None:
        self.counts: Counter[str] = Counter()
        self._searcher = searcher
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cleaner = Cleaner()
        self._context = ""
        self._held = ""

    def feed(self, data: bytes) -> Masked:
        """Take raw bytes of any length; return what may leave now."""
        return Masked(self._advance(self._clean(data)).encode(), _MAKE)

    def finish(self) -> Masked:
        """The stream has ended: return the rest. Nothing may be fed afterwards.

        An escape sequence that never ended is dropped.
        """
        out = self._advance(self._cleaner.clean(self._decoder.decode(b"", final=True)))
        out += self._mask(self._held, len(self._held))
        self._held = ""
        return Masked(out.encode(), _MAKE)

    def _clean(self, data: bytes) -> str:
        plain = not data.translate(None, _PLAIN)
        if plain and self._cleaner.idle and not self._decoder.getstate()[0]:
            return data.decode("ascii")
        return self._cleaner.clean(self._decoder.decode(data))

    def _advance(self, text: str) -> str:
        """Add clean text; return the masked text of what is now decided."""
        return "".join(
            self._advance_piece(text[start : start + LINE_LIMIT_CHARS])
            for start in range(0, len(text), LINE_LIMIT_CHARS)
        )

    def _advance_piece(self, text: str) -> str:
        out: list[str] = []
        position = 0
        first, last = text.find("\n") + 1, text.rfind("\n") + 1
        if first and len(self._held) + first <= LINE_LIMIT_CHARS:
            # No line in here reaches the limit: all complete lines at once.
            out.append(self._mask(self._held + text[:last], len(self._held) + last))
            self._held, position = "", last
        while position < len(text):
            room = LINE_LIMIT_CHARS - len(self._held)
            line_end = text.find("\n", position, position + room) + 1
            stop = line_end or min(len(text), position + room)
            self._held += text[position:stop]
            position = stop
            if line_end:
                out.append(self._mask(self._held, len(self._held)))
                self._held = ""
            elif len(self._held) == LINE_LIMIT_CHARS:
                out.append(self._cut())
        return "".join(out)

    def _cut(self) -> str:
        """Let the safe prefix of a held line leave."""
        seen = shadow(self._held)
        if len(seen) <= 2 * OVERLAP_CHARS:
            # Almost all of it is invisible: nothing a reader would miss.
            self._held = "".join(self._held[at] for at in positions(self._held))
            return ""
        keep = len(seen) - OVERLAP_CHARS
        cut = positions(self._held)[keep] if len(seen) != len(self._held) else keep
        return self._mask(self._held, cut)

    def _mask(self, text: str, limit: int) -> str:
        """Mask ``text`` up to ``limit``, or up to the end of a finding that spans it.

        The rest of the text is held; what has left stays as context until its
        line ends.
        """
        whole = self._context + text
        begin, limit = len(self._context), len(self._context) + limit
        out: list[str] = []
        done = begin
        for start, end, name, tag_text in findings(whole, self._searcher):
            if end <= begin:
                continue
            if start >= limit:
                break
            self.counts[name] += 1
            out.append(whole[done : max(start, done)])
            out.append(tag_text)
            done = end
        limit = max(limit, done)
        out.append(whole[done:limit])
        self._held = whole[limit:]
        self._context = "" if whole.endswith("\n", 0, limit) else _tail(whole[:limit])
        return "".join(out)


def _tail(text: str) -> str:
    """The end of a text that holds OVERLAP_CHARS shadow characters."""
    line = text[text.rfind("\n") + 1 :]
    kept = positions(line)
    return line if len(kept) <= OVERLAP_CHARS else line[kept[-OVERLAP_CHARS] :]


def findings(text: str, searcher: Searcher) -> list[tuple[int, int, str, str]]:
    """Findings as (start, end, pattern name, tag), in characters of the text.

    Args:
        text: clean, lines separated by LF; no finding crosses one.
    """
    if text.isascii() and "\r" not in text:
        found = searcher.find(text.encode("ascii"))
        return [(span.start, span.end, span.pattern.name, span.pattern.tag) for span in found]
    seen = shadow(text)
    found = searcher.find(seen)
    if not found:
        return []
    at: Iterable[int] | list[int] = range(len(text)) if len(seen) == len(text) else positions(text)
    places = list(at)
    return [
        (places[span.start], places[span.end - 1] + 1, span.pattern.name, span.pattern.tag)
        for span in found
    ]


def mask_text(text: str) -> str:
    """Replace what the patterns find in a text of the gateway's own.

    For reasons, names and messages that may quote someone. Mask first, then
    ``display.show``: an escape written into a number would hide it from the
    patterns. Control characters are dropped as from a stream.
    """
    masker = StreamMasker()
    data = text.encode("utf-8", "replace")
    return (masker.feed(data).data + masker.finish().data).decode()


def masked_message(text: str) -> Masked:
    """A message of the gateway's own as bytes for a client or a record.

    The same as ``mask_text``: JSON stays JSON, and parts that came from outside
    were to be shown by ``display.show`` when the message was put together.
    """
    return Masked(mask_text(text).encode(), _MAKE)


# What a terminal would act on or not show; TAB and LF stand in ``Lines`` only.
_NOT_PAINTED = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def painted(segments: Iterable[Segment]) -> Masked:
    """What the screen shows, as bytes for the client's terminal and the recording.

    The screen masked it already; it is searched here once more, and what is still
    found becomes mask glyphs, so that a fault in the screen's bookkeeping shows
    nothing.

    Raises:
        TypeError: a segment is none of ``screen.controls``.
        ValueError: a control's number is out of its bounds.
    """
    out: list[str] = []
    checked: tuple[str, str] = ("", "")
    for segment in segments:
        if type(segment) is Text:
            if segment.line != checked[0]:
                flat = segment.line.replace("\n", "\ufffd").replace("\t", "\ufffd")
                checked = (segment.line, _checked(flat))
            out.append(checked[1][segment.start : segment.end])
        elif type(segment) is Lines:
            out.append(_checked(segment.text).replace("\n", "\r\n"))
        elif type(segment) is Fixed:
            out.append(segment.value)
        elif isinstance(segment, Segment) and not isinstance(segment, Text | Lines | Fixed):
            out.append(segment.sequence())
        else:
            raise TypeError("only the screen's controls can be painted")
    return Masked("".join(out).encode("utf-8", "replace"), _MAKE)


def _checked(text: str) -> str:
    """The text with mask glyphs in place of controls and of what is found in it."""
    text = _NOT_PAINTED.sub(FILL, text)
    # In the search a glyph is any sign, which keeps the text ASCII and the search fast.
    while found := findings(text.replace(FILL, ";"), _ALL_PATTERNS):
        for start, end, _, _ in found:
            text = text[:start] + FILL * (end - start) + text[end:]
    return text
