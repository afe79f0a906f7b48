"""The prompt's session: keys while a line runs, its ways out, and psql's terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from gateway.core.events import Judgement, Line
from gateway.core.mask import Masked, masked_message
from gateway.core.session import Session
from gateway.edge.child import Child, WindowSize
from gateway.edge.prompt import Prompt
from gateway.edge.prompting import PromptExecution, PromptSession, ScreenOutlet, ScreenOutput
from gateway.edge.recording import ScreenRecording
from gateway.edge.runner import Runner, Sink
from gateway.edge.view import View
from gateway.errors import Denied
from tests.edge.house import (
    House,
    ScriptedClerk,
    ScriptedExecution,
    forever,
    judgement,
    open_ledger,
    open_record,
)


@dataclass
class Wire:
    """The client's end of the screen."""

    sent: bytes = b""

    async def send_screen(self, data: Masked) -> None:
        self.sent += data.data


@dataclass
class Lanes(ScriptedExecution):
    """Scripted lanes that can be interrupted."""

    status: str = "I"
    interrupted: asyncio.Event = field(default_factory=asyncio.Event)

    async def interrupt(self) -> None:
        self.log.append("interrupt")
        self.interrupted.set()

    async def release(self) -> None:
        self.log.append("release")

    def resize(self) -> None:
        self.log.append("resize")


@dataclass
class Scene:
    """A prompt on a real runner, record and screen; the lanes are scripted."""

    house: House
    wire: Wire
    view: View
    lanes: Lanes
    session: PromptSession
    exits: list[int]

    async def until_sent(self, text: bytes) -> None:
        async with asyncio.timeout(5):
            while text not in self.wire.sent:  # noqa: ASYNC110  # the wire is what a client reads
                await asyncio.sleep(0.01)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    state = tmp_path / "state"
    async with open_ledger(state) as ledger:
        record = await open_record(state, ledger, ScreenRecording)
        assert isinstance(record, ScreenRecording)
        wire = Wire()
        log: list[str] = []
        exits: list[int] = []
        view = View(wire, record, WindowSize(80, 24))
        lanes = Lanes(log)

        async def judge(line: Line) -> Judgement:
            return judgement(line=line)

        runner = Runner(
            Session(waits=False, one_line=False),
            clerk=ScriptedClerk(log, judge),
            execution=lanes,
            record=record,
            outlet=ScreenOutlet(view, exits.append),
            as_json=False,
        )
        editor = Prompt("db", term="dumb", size=lambda: view.size, write=view.write, names={})
        session = PromptSession(editor, runner, cast("PromptExecution", lanes), view)
        yield Scene(House(state, ledger, record), wire, view, lanes, session, exits)


async def test_lines_run_one_after_the_other(here: Scene) -> None:
    here.session.typed(b"select id from claims;\rselect id\r")
    serving = asyncio.create_task(here.session.serve())
    await here.until_sent(b"... ")
    here.session.typed(b"from claims;\r\x04")
    await asyncio.wait_for(serving, 10)
    assert here.exits == [0]
    assert here.lanes.log.count("run") == here.lanes.log.count("release") == 2
    typed = [data for code, data in here.house.events() if code == "i"]
    assert len(typed) == 2
    assert here.house.verified().complete


@pytest.mark.parametrize("keys", [b"\x04", b"\\q\r", b" exit \r", b"quit;\r"])
async def test_ways_out(here: Scene, keys: bytes) -> None:
    here.session.typed(keys)
    await asyncio.wait_for(here.session.serve(), 10)
    assert here.exits == [0]
    assert "judge" not in here.lanes.log


async def test_control_c_stops_what_runs_and_keeps_what_is_typed_after_it(here: Scene) -> None:
    async def sleep(sink: Sink) -> None:
        await here.lanes.interrupted.wait()

    here.lanes.running = sleep
    serving = asyncio.create_task(here.session.serve())
    here.session.typed(b"select id from claims;\r")
    async with asyncio.timeout(5):
        while "run" not in here.lanes.log:  # noqa: ASYNC110  # what a client would wait for
            await asyncio.sleep(0.01)
    here.session.typed(b"\x03\x04")
    await asyncio.wait_for(serving, 10)
    assert "interrupt" in here.lanes.log
    assert here.exits == [0]


async def test_control_c_at_the_prompt_stops_nothing(here: Scene) -> None:
    serving = asyncio.create_task(here.session.serve())
    await here.until_sent(b"db=> ")
    here.session.typed(b"select\x03")
    await here.until_sent(b"^C")
    here.session.typed(b"\x04")
    await asyncio.wait_for(serving, 10)
    assert "interrupt" not in here.lanes.log


async def test_a_resize_reaches_the_screen_and_the_lanes(here: Scene) -> None:
    serving = asyncio.create_task(here.session.serve())
    await here.until_sent(b"db=> ")
    here.session.resized((100, 30))
    async with asyncio.timeout(5):
        while "resize" not in here.lanes.log:  # noqa: ASYNC110  # a task of the session's own
            await asyncio.sleep(0.01)
    here.session.typed(b"\x04")
    await asyncio.wait_for(serving, 10)
    assert here.view.size == WindowSize(100, 30)
    assert ("r", "100x30") in here.house.events()


async def test_a_client_that_left_leaves_no_task(here: Scene) -> None:
    async def hang(sink: Sink) -> None:
        await forever()

    here.lanes.running = hang
    before = asyncio.all_tasks()
    serving = asyncio.create_task(here.session.serve())
    here.session.typed(b"select id from claims;\r")
    async with asyncio.timeout(5):
        while "run" not in here.lanes.log:  # noqa: ASYNC110  # what a client would wait for
            await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert "stop" in here.lanes.log


class Drawing:
    """A psql that only draws."""

    def __init__(self) -> None:
        self.stdout = asyncio.StreamReader()


async def test_nonces_end_units_and_never_show(here: Scene) -> None:
    psql, nonce = Drawing(), "N" + "ab" * 16
    output = ScreenOutput(cast("Child", psql), here.view, 1_000)
    output.expect(nonce)
    for byte in f" one\n{nonce}\n two\n".encode():
        psql.stdout.feed_data(bytes([byte]))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(output.reached(nonce), 5)
    psql.stdout.feed_eof()
    await output.finish()
    assert nonce.encode() not in here.wire.sent
    assert b" one\r\n" in here.wire.sent
    assert output.drawn_bytes == len(" one\n two\n")


async def test_a_psql_that_ends_reaches_nothing(here: Scene) -> None:
    psql, nonce = Drawing(), "N" + "cd" * 16
    output = ScreenOutput(cast("Child", psql), here.view, 1_000)
    output.expect(nonce)
    psql.stdout.feed_eof()
    assert await asyncio.wait_for(output.reached(nonce), 5) is False


async def test_too_much_output_ends_it(here: Scene) -> None:
    psql, nonce = Drawing(), "N" + "ef" * 16
    output = ScreenOutput(cast("Child", psql), here.view, 100)
    output.expect(nonce)
    psql.stdout.feed_data(b"x" * 101 + b"\n")
    with pytest.raises(Denied) as caught:
        await asyncio.wait_for(output.reached(nonce), 5)
    assert caught.value.rule == "limits.output"
    assert here.wire.sent == b""


async def test_notices_are_drawn_on_the_screen(here: Scene) -> None:
    outlet = ScreenOutlet(here.view, here.exits.append)
    await outlet.send(masked_message("tollhouse: one\n  two\n"), stderr=True)
    assert here.wire.sent == b"tollhouse: one\r\n  two\r\n"
    outlet.exit(7)
    assert here.exits == [7]
