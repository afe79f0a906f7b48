"""A terminal to judge by: plain pyte, with the alternate screen that it lacks."""

from __future__ import annotations

import copy
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import pyte

from gateway.core.plaintext import Cleaner
from gateway.core.screen.terminal import MaskedTerminal


class _Screen(pyte.Screen):
    """pyte's screen, restoring the main screen and its cursor as xterm does."""

    def __init__(self, columns: int, lines: int) -> None:
        self._main: tuple[Any, Any] | None = None
        super().__init__(columns, lines)

    def set_mode(self, *modes: int, **kwargs: Any) -> None:
        if 1049 in modes and self._main is None:
            self._main = (copy.deepcopy(dict(self.buffer)), copy.copy(self.cursor))
            self.erase_in_display(2)
        super().set_mode(*modes, **kwargs)

    def reset_mode(self, *modes: int, **kwargs: Any) -> None:
        if 1049 in modes and self._main is not None:
            rows, self.cursor = self._main
            self.buffer.clear()
            self.buffer.update(rows)
            self._main = None
        super().reset_mode(*modes, **kwargs)


class Reference:
    """What a reader's terminal shows of the bytes that left."""

    def __init__(self, cols: int, rows: int) -> None:
        self._screen = _Screen(cols, rows)
        self._stream = pyte.ByteStream(self._screen)

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)

    def resize(self, cols: int, rows: int) -> None:
        self._screen.resize(rows, cols)

    def rows(self) -> list[str]:
        return [unicodedata.normalize("NFC", row.rstrip()) for row in self._screen.display]

    def cursor(self) -> tuple[int, int]:
        return self._screen.cursor.y, self._screen.cursor.x

    def colours(self, y: int) -> list[str]:
        return [self._screen.buffer[y][x].fg for x in range(self._screen.columns)]


class Session:
    """The masked terminal and its reader, who looks after each piece."""

    def __init__(self, cols: int = 80, rows: int = 24) -> None:
        self.terminal = MaskedTerminal(cols, rows)
        self.reader = Reference(cols, rows)
        self.sent = b""
        self.frames: list[list[str]] = []

    def feed(self, data: bytes, *, echo: bool = False) -> Session:
        self._read(self.terminal.feed(data, echo=echo).data)
        return self

    def resize(self, cols: int, rows: int) -> Session:
        self.reader.resize(cols, rows)
        self._read(self.terminal.resize(cols, rows).data)
        return self

    def finish(self) -> Session:
        self._read(self.terminal.finish().data)
        return self

    def _read(self, data: bytes) -> None:
        self.sent += data
        self.reader.feed(data)
        self.frames.append(self.reader.rows())

    def agrees(self) -> bool:
        """Whether the reader sees exactly what the terminal says that is shown."""
        wanted = [unicodedata.normalize("NFC", row) for row in self.terminal.shown()]
        return wanted == self.reader.rows()

    def stripped(self) -> str:
        """Everything that left, in order, with controls and escapes taken out."""
        return Cleaner().clean(self.sent.decode())


def play(pieces: Iterable[bytes], cols: int = 80, rows: int = 24) -> Session:
    session = Session(cols, rows)
    for piece in pieces:
        session.feed(piece)
    return session.finish()


def speaks(text: str, secret: str) -> bool:
    """Whether a secret can be read in a text, however it is spaced or decorated."""
    return bare(secret) in bare(text)


def bare(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text)
    return re.sub(r"[^0-9a-z@]", "", plain.lower())
