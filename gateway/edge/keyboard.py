"""Keys from a channel: what a client sends, as key presses for the editor.

Whatever arrives, it takes bounded memory and little of the loop's time: other sessions
are served by the same loop.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import contextvars
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from prompt_toolkit.input import Input
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys

KEYS_AT_ONCE = 256
"""So many keys are handled before other sessions have their turn."""

MAX_WAITING_KEYS = 1 << 16
"""What is typed ahead beyond this is dropped."""

MAX_PASTE_CHARS = 1 << 18
"""A longer paste is dropped whole: a part of a statement is another statement."""

_MAX_SEQUENCE_CHARS = 32
_IN_SEQUENCE = frozenset("[O<0123456789;")
_PASTE_BEGIN, _PASTE_END = "\x1b[200~", "\x1b[201~"
_COUNTER = itertools.count()


class ChannelInput(Input):
    """Keys from a channel instead of a terminal of the gateway's."""

    def __init__(self) -> None:
        self._keys: deque[KeyPress] = deque()
        self._parser = Vt100Parser(self._take)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail = ""
        self._sequence_chars = 0
        self._paste: list[str] | None = None
        self._paste_chars = 0
        self._callback: Callable[[], None] | None = None
        self._closed = False
        # Each input its own: prompt_toolkit keeps typeahead by this name.
        self._name = f"channel-{next(_COUNTER)}"

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        text, self._tail = self._tail + self._decoder.decode(data), ""
        while text:
            text = self._paste_text(text) if self._paste is not None else self._type_text(text)
        self._wake()

    def _type_text(self, text: str) -> str:
        """Take keys up to the beginning of a paste; return what follows it."""
        typed, begin, rest = text.partition(_PASTE_BEGIN)
        if begin:
            self._paste, self._paste_chars = [], 0
        else:
            typed, self._tail = _hold(typed, _PASTE_BEGIN)
        self._type(typed)
        return rest

    def _paste_text(self, text: str) -> str:
        """Take pasted text up to its end; return what follows it."""
        assert self._paste is not None
        pasted, end, rest = text.partition(_PASTE_END)
        if not end:
            pasted, self._tail = _hold(pasted, _PASTE_END)
        self._paste_chars += len(pasted)
        if self._paste_chars > MAX_PASTE_CHARS:
            self._paste.clear()
        else:
            self._paste.append(pasted)
        if end:
            whole, self._paste = "".join(self._paste), None
            if self._paste_chars <= MAX_PASTE_CHARS:
                self._take(KeyPress(Keys.BracketedPaste, whole))
        return rest

    def _type(self, text: str) -> None:
        """Parse keys; a sequence without end is cut, for the parser remembers every prefix."""
        for char in text:
            if char == "\x1b":
                self._sequence_chars = 1
            elif self._sequence_chars and char in _IN_SEQUENCE:
                self._sequence_chars += 1
                if self._sequence_chars > _MAX_SEQUENCE_CHARS:
                    continue
            else:
                self._sequence_chars = 0
            self._parser.feed(char)

    def _take(self, key: KeyPress) -> None:
        if len(self._keys) < MAX_WAITING_KEYS:
            self._keys.append(key)

    def close(self) -> None:
        """The client is gone: whoever reads gets the end."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._callback is not None:
            self._callback()

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self._closed

    def fileno(self) -> int:
        """There is no descriptor; nothing asks for one while attached."""
        raise NotImplementedError

    def typeahead_hash(self) -> str:
        """A name that no other session has."""
        return self._name

    def read_keys(self) -> list[KeyPress]:
        """The next keys, KEYS_AT_ONCE at most; where there are more, it calls back again."""
        keys = [self._keys.popleft() for _ in range(min(KEYS_AT_ONCE, len(self._keys)))]
        if self._keys and self._callback is not None:
            asyncio.get_running_loop().call_soon(self._wake)
        return keys

    def next_key(self) -> KeyPress | None:
        """The next key alone, if there is one; those after it stay."""
        return self._keys.popleft() if self._keys else None

    def flush_keys(self) -> list[KeyPress]:
        """A lone Escape is a key after all."""
        if self._paste is None:
            tail, self._tail = self._tail, ""
            self._type(tail)
            self._parser.flush()
            self._sequence_chars = 0
        return self.read_keys()

    def raw_mode(self) -> AbstractContextManager[None]:
        """The client's terminal is raw already."""
        return contextlib.nullcontext()

    def cooked_mode(self) -> AbstractContextManager[None]:
        """Likewise; it stays so."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def attach(self, input_ready_callback: Callable[[], None]) -> Iterator[None]:
        """Call back when keys arrived, in the context of who waits for them.

        prompt_toolkit finds the application that keys are for in a context variable,
        and the keys come from the connection, which has none of a session's.
        """
        context = contextvars.copy_context()
        before, self._callback = self._callback, lambda: context.run(input_ready_callback)
        if self._keys or self._closed:
            # They came while nobody waited, and no other may follow.
            asyncio.get_running_loop().call_soon(self._wake)
        try:
            yield
        finally:
            self._callback = before

    @contextlib.contextmanager
    def detach(self) -> Iterator[None]:
        """Do not call back for a while."""
        before, self._callback = self._callback, None
        try:
            yield
        finally:
            self._callback = before


def _hold(text: str, mark: str) -> tuple[str, str]:
    """Keep back an end of the text with which the mark may begin."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if mark.startswith(text[-size:]):
            return text[:-size], text[-size:]
    return text, ""
