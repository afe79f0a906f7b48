"""The editor alone: keys in, drawing out; no channel and no psql."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from gateway.edge.child import WindowSize
from gateway.edge.keyboard import ChannelInput
from gateway.edge.prompt import Names, PlainReader
from gateway.edge.prompt import Prompt as Editor

TABLES: dict[str, tuple[str, ...]] = {"patients": ("id", "ssn"), "claims": ("id", "patient_id")}


class Desk:
    """A plain reader and what it wrote."""

    def __init__(self) -> None:
        self.keys = ChannelInput()
        self.written = ""
        self.reader = PlainReader(self.keys, self._write)

    def _write(self, text: str) -> None:
        self.written += text

    async def read(self, *typed: bytes) -> str | None:
        reading = asyncio.ensure_future(self.reader.read("db=> ", "... "))
        for each in typed:
            await asyncio.sleep(0)
            self.keys.feed(each)
        return await asyncio.wait_for(reading, 5)


async def test_a_plain_line() -> None:
    desk = Desk()
    assert await desk.read(b"select 1", b";\r") == "select 1;"
    assert desk.written == "db=> select 1;\r\n"


async def test_plain_lines_until_complete() -> None:
    desk = Desk()
    assert await desk.read(b"select 'a\r", b"b'\r;\r") == "select 'a\nb'\n;"
    assert desk.written == "db=> select 'a\r\n... b'\r\n... ;\r\n"


async def test_keys_that_were_typed_ahead_are_for_the_next_read() -> None:
    desk = Desk()
    assert await desk.read(b"select 1;\rselect 2;\r") == "select 1;"
    assert await desk.read() == "select 2;"


async def test_backspace_writes_the_line_anew() -> None:
    """Nothing moves the cursor: a terminal that cannot would show the sequence."""
    desk = Desk()
    assert await desk.read("sé\x7f\x7f\x7felect 1;\r".encode()) == "elect 1;"
    assert "\b" not in desk.written
    assert "\x1b" not in desk.written
    assert desk.written.endswith("elect 1;\r\n")


@pytest.mark.parametrize(
    ("typed", "read"),
    [(b"select\x03", ""), (b"\x04", None), (b"x\x04;\r", "x;"), (b"\x1b[A\x15;\r", ";")],
)
async def test_plain_control_keys(typed: bytes, read: str | None) -> None:
    assert await Desk().read(typed) == read


async def test_a_plain_reader_ends_with_its_client() -> None:
    desk = Desk()
    reading = asyncio.ensure_future(desk.reader.read("", ""))
    await asyncio.sleep(0)
    desk.keys.close()
    assert await asyncio.wait_for(reading, 5) is None


def _completed(text: str) -> list[str]:
    found = Names(TABLES).get_completions(Document(text), CompleteEvent())
    return [text[: len(text) + each.start_position] + each.text for each in found]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("select * from pat", ["select * from patients", "select * from patient_id"]),
        ("select SS", ["select ssn"]),
        ("select patients.", ["select patients.id", "select patients.ssn"]),
        ("select claims.s", []),
        ("select nowhere.s", []),
        ("insert in", ["insert IN", "insert INNER", "insert INSERT", "insert INTO"]),
        ("select ", []),
        ("", []),
    ],
)
def test_completion(text: str, wanted: list[str]) -> None:
    assert sorted(_completed(text)) == sorted(wanted)


def test_a_hostile_name_is_shown_safely() -> None:
    names = Names({"pat\x1b[2J\u202e": ()})
    (found,) = names.get_completions(Document("pat"), CompleteEvent())
    shown = found.display_text
    assert "\x1b" not in shown
    assert "\u202e" not in shown


class Session:
    """One editor and what it drew."""

    def __init__(self, term: str = "xterm") -> None:
        self.drawn = ""
        self._drew = asyncio.Event()
        self.size = WindowSize(80, 24)
        self.editor = Editor(
            "claims-db", term=term, size=lambda: self.size, write=self._write, names=TABLES
        )

    def _write(self, text: str) -> None:
        self.drawn += text
        self._drew.set()

    async def until(self, shown: Callable[[str], bool]) -> None:
        async with asyncio.timeout(5):
            while not shown(self.drawn):
                self._drew.clear()
                await self._drew.wait()


@asynccontextmanager
async def _reading(session: Session, status: str = "I") -> AsyncIterator[asyncio.Task[str | None]]:
    before, mark = len(session.drawn), {"T": "*", "E": "!"}.get(status, "=")
    task = asyncio.create_task(session.editor.read(status))
    await session.until(lambda drawn: f"{mark}>" in drawn[before:])
    try:
        yield task
    finally:
        session.editor.keys.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_editors_never_get_each_others_keys() -> None:
    one, other = Session(), Session()
    async with _reading(one) as mine, _reading(other) as yours:
        for left, right in zip(b"select 1;\r", b"select 2;\r", strict=True):
            one.editor.keys.feed(bytes([left]))
            other.editor.keys.feed(bytes([right]))
            await asyncio.sleep(0)
        assert await asyncio.wait_for(mine, 5) == "select 1;"
        assert await asyncio.wait_for(yours, 5) == "select 2;"


@pytest.mark.parametrize(("status", "prompt"), [("I", "=>"), ("T", "=*>"), ("E", "=!>")])
async def test_the_prompt_shows_the_transaction(status: str, prompt: str) -> None:
    session = Session()
    async with _reading(session, status):
        assert f"claims-db{prompt}" in session.drawn


@pytest.mark.parametrize(
    ("typed", "read"),
    [(b"\x03", ""), (b"\x04", None), (b"select 1\r\r;\r", "select 1\n\n;"), (b"exit\r", "exit")],
)
async def test_what_an_editor_returns(typed: bytes, read: str | None) -> None:
    session = Session()
    async with _reading(session) as task:
        session.editor.keys.feed(typed)
        assert await asyncio.wait_for(task, 5) == read


async def test_keys_that_came_while_nobody_read_are_read_first() -> None:
    session = Session()
    session.editor.keys.feed(b"select 'ahead';\r\x04")
    assert await asyncio.wait_for(session.editor.read("I"), 5) == "select 'ahead';"
    assert await asyncio.wait_for(session.editor.read("I"), 5) is None


async def test_a_client_that_left_ends_the_editor() -> None:
    session = Session()
    async with _reading(session) as task:
        session.editor.keys.close()
        assert await asyncio.wait_for(task, 5) is None


async def test_history_is_of_this_session_only() -> None:
    one, other = Session(), Session()
    async with _reading(one) as task:
        one.editor.keys.feed(b"select 'mine';\r")
        await asyncio.wait_for(task, 5)
    async with _reading(other) as task:
        other.editor.keys.feed(b"\x1b[A;\r")
        assert await asyncio.wait_for(task, 5) == ";"


async def test_a_dumb_terminal_is_sent_no_sequence() -> None:
    session = Session("dumb")
    async with _reading(session) as task:
        session.editor.keys.feed(b"ab\x7f;\r")
        session.editor.resized()
        assert await asyncio.wait_for(task, 5) == "a;"
    assert "\x1b" not in session.drawn
