"""The gateway's own line editor, on an SSH channel.

The child never sees a byte that was not decided, so the editor is ours: multi-line
until psql's lexing says that it is complete, history of this session only,
highlighting, completion of what the identity may see, bracketed paste. It draws
into the masked screen like everything else, and none of prompt_toolkit's own doors
(system prompt, external editor, suspend) is open.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.data_structures import Size
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from pygments.lexers.sql import PostgresLexer

from gateway.core.display import show
from gateway.edge.child import WindowSize
from gateway.edge.keyboard import ChannelInput
from gateway.sql.completeness import is_complete

MAX_LINE_CHARS = 1 << 18
"""A statement longer than this is cut off at the editor; the gate's own limit is smaller."""

GOODBYES = frozenset({"\\q", "exit", "quit", "exit;", "quit;"})
"""What ends a session when it is all that was typed, as in psql."""

_WORD = re.compile(r"[A-Za-z0-9_.\"]+")
_KEYWORDS = (
    "SELECT FROM WHERE GROUP BY ORDER LIMIT OFFSET JOIN LEFT INNER USING HAVING DISTINCT UNION "
    "INSERT INTO VALUES UPDATE SET DELETE RETURNING WITH RECURSIVE EXPLAIN COPY TO STDOUT BEGIN "
    "COMMIT ROLLBACK SAVEPOINT NULL AND OR NOT IN EXISTS CASE WHEN THEN ELSE END COUNT SUM AVG"
).split()


class _Pen:
    """What prompt_toolkit believes to be a terminal's file."""

    encoding = "utf-8"

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        return True


class Names(Completer):
    """Completes keywords, tables and columns.

    Args:
        tables: name to columns, of what the identity may read.
    """

    def __init__(self, tables: dict[str, tuple[str, ...]]) -> None:
        self._tables = tables
        self._columns = sorted({column for columns in tables.values() for column in columns})

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """What begins like the word before the cursor; after ``t.`` only columns of t."""
        word = document.get_word_before_cursor(pattern=_WORD)
        table, dot, start = word.rpartition(".")
        if dot and table in self._tables:
            choices: Iterable[str] = self._tables[table]
        elif word:
            choices, start = (*self._tables, *self._columns, *_KEYWORDS), word
        else:
            return
        for choice in choices:
            if choice.lower().startswith(start.lower()) and choice != start:
                yield Completion(choice, start_position=-len(start), display=show(choice))


class Prompt:
    """One session's editor.

    Args:
        target: named in the prompt.
        term: the client's TERM.
        size: the client's window, asked anew at each drawing.
        write: takes what is to be drawn; never blocks.
        names: for completion.
    """

    def __init__(
        self,
        target: str,
        *,
        term: str,
        size: Callable[[], WindowSize],
        write: Callable[[str], None],
        names: dict[str, tuple[str, ...]],
    ) -> None:
        self.keys = ChannelInput()
        self._target = target
        self._write = write
        pen = cast("TextIO", _Pen(write))
        self._output = Vt100_Output(
            pen, lambda: _size(size()), term=term, enable_cpr=False, enable_bell=False
        )
        # A terminal that cannot move its cursor is sent no sequence, not even at the start.
        self._editor = None if term in ("", "dumb", "unknown") else self._make_editor(term, names)

    def _make_editor(self, term: str, names: dict[str, tuple[str, ...]]) -> PromptSession[str]:
        with create_app_session(input=self.keys, output=self._output):
            return PromptSession(
                multiline=True,
                history=InMemoryHistory(),
                lexer=PygmentsLexer(PostgresLexer),
                completer=Names(names),
                complete_while_typing=False,
                key_bindings=_bindings(),
                prompt_continuation=self._continuation,
                color_depth=ColorDepth.DEPTH_8_BIT if "256" in term else ColorDepth.DEPTH_4_BIT,
                enable_system_prompt=False,
                enable_open_in_editor=False,
                enable_suspend=False,
                mouse_support=False,
                reserve_space_for_menu=4,
                input=self.keys,
                output=self._output,
            )

    def sign(self, status: str) -> str:
        """The prompt itself; ``status`` as for ``read``."""
        mark = {"T": "*", "E": "!"}.get(status, "")
        return f"{show(self._target)}={mark}> "

    async def read(self, status: str) -> str | None:
        """Read one statement.

        Args:
            status: the transaction's: I, T or E; shown as psql shows it.

        Returns:
            The text; empty after Ctrl-C; None at Ctrl-D or when the client is gone.
        """
        prompt = self.sign(status)
        if self._editor is None:
            return await PlainReader(self.keys, self._write).read(prompt, "... ")
        try:
            # Without an application session of one's own, the last prompt that was drawn
            # anywhere in the gateway would get everybody's keys.
            with create_app_session(input=self.keys, output=self._output):
                return await self._editor.prompt_async(
                    prompt, set_exception_handler=False, handle_sigint=False
                )
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None

    def resized(self) -> None:
        """The client's window has another size."""
        if self._editor is not None and self._editor.app.is_running:
            self._editor.app._on_resize()

    def _continuation(self, width: int, number: int, wrapped: int) -> AnyFormattedText:
        return " " * max(0, width - 3) + "-> "


class PlainReader:
    """Reads a statement without moving the cursor."""

    def __init__(self, keys: ChannelInput, write: Callable[[str], None]) -> None:
        self._keys = keys
        self._write = write

    async def read(self, prompt: str, more: str) -> str | None:
        """Lines until the statement is complete; None at Ctrl-D on an empty one."""
        text, line = "", ""
        arrived = asyncio.Event()
        self._write(prompt)
        with self._keys.attach(arrived.set):
            while True:
                while (key := self._keys.next_key()) is not None:
                    name = str(getattr(key.key, "value", key.key))
                    if name == "c-c":
                        self._write("^C\r\n")
                        return ""
                    if name == "c-d" and not text and not line:
                        self._write("\r\n")
                        return None
                    if name in ("c-m", "c-j"):
                        self._write("\r\n")
                        text, line = f"{text}{line}\n", ""
                        if _is_whole(text):
                            return text.rstrip("\n")
                        self._write(more)
                    elif name in ("c-h", "backspace") and line:
                        # The cursor cannot go back here: the line begins anew below.
                        line = line[:-1]
                        self._write(f"\r\n{more if text else prompt}{line}")
                    elif name == "<bracketed-paste>" or len(name) == 1:
                        typed = key.data if len(name) > 1 else name
                        line += typed
                        self._write(typed)
                if self._keys.closed:
                    return None
                arrived.clear()
                await arrived.wait()


def _is_whole(text: str) -> bool:
    return text.strip() in GOODBYES or is_complete(text.encode("utf-8", "replace"))


def _bindings() -> KeyBindings:
    """Enter sends what is complete; Ctrl-D on an empty line ends."""
    bindings = KeyBindings()

    @bindings.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if _is_whole(buffer.text):
            buffer.validate_and_handle()
        elif len(buffer.text) < MAX_LINE_CHARS:
            buffer.newline(copy_margin=False)

    @bindings.add("tab")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state:
            buffer.complete_next()
        else:
            buffer.start_completion(insert_common_part=True)

    return bindings


def _size(window: WindowSize) -> Size:
    return Size(rows=max(2, window.rows), columns=max(20, window.cols))
