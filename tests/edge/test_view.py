"""The view over a real record: recorded before sent, in order, masked, failures shown."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.core.mask import Masked
from gateway.edge.child import WindowSize
from gateway.edge.recording import ScreenRecording
from gateway.edge.view import MAX_COLS, MAX_ROWS, View, bounded
from gateway.errors import RecorderFault
from tests.core.screen.reference import Reference
from tests.edge.house import PLANTED, House, judgement, open_ledger, open_record

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Far:
    """The client's end: a terminal that notes what the record held when bytes came."""

    house: House
    sent: bytes = b""
    recorded: list[str] = field(default_factory=list)

    async def send_screen(self, data: Masked) -> None:
        self.sent += data.data
        self.recorded.append(_output(self.house))


def _output(house: House) -> str:
    return "".join(data for code, data in house.events() if code == "o")


@dataclass
class Scene:
    """A view between a real record and a terminal."""

    house: House
    far: Far
    view: View


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Scene]:
    state = tmp_path / "state"
    async with open_ledger(state) as ledger:
        record = await open_record(state, ledger, ScreenRecording)
        assert isinstance(record, ScreenRecording)
        house = House(state, ledger, record)
        far = Far(house)
        yield Scene(house, far, View(far, record, WindowSize(40, 10)))


async def test_output_is_on_record_before_it_is_sent(here: Scene) -> None:
    await here.view.draw(b"one\r\n")
    await here.view.draw(b"two\r\n")
    assert [record.count("\r\n") for record in here.far.recorded] == [1, 2]
    assert here.far.sent == b"one\r\ntwo\r\n"


async def test_echo_comes_before_the_output_after_it(here: Scene) -> None:
    here.view.write("db=> sel")
    here.view.write("ect 1;\r\n")
    await here.view.draw(b"(1 row)\r\n")
    assert here.far.sent == b"db=> select 1;\r\n(1 row)\r\n"


async def test_the_echo_is_the_clients_own(here: Scene) -> None:
    """A name in quotes has no pattern: the record shows the line as it was decided."""
    here.view.begin_line("db=> ")
    here.view.write("db=> select 'Quartermainsson'\r\n")
    await here.view.settle()
    assert b"Quartermainsson" in here.far.sent
    assert _output(here.house) == ""
    await here.house.record.held(judgement(), "T-1")
    assert _output(here.house) == "db=> select id from claims\r\n"
    codes = [code for code, _ in here.house.events() if code != "h"]
    assert codes == ["o", "i", "m"]


async def test_a_secret_is_in_neither(here: Scene) -> None:
    for byte in f"a {PLANTED} b\r\n".encode():
        await here.view.draw(bytes([byte]))
    await here.view.finish()
    for sent in (here.far.sent.decode(), _output(here.house)):
        assert PLANTED[:-2] not in _SEQUENCE.sub("", sent)
        screen = Reference(40, 10)
        screen.feed(sent.encode())
        assert screen.rows()[0].startswith("a [SSN]")
    assert here.view.counts == {"ssn": 1}


async def test_a_resize_is_on_record(here: Scene) -> None:
    await here.view.draw(b"a\x1b[3;3Hb")
    await here.view.resize(WindowSize(30, 5))
    assert here.view.size == WindowSize(30, 5)
    codes = [(code, data) for code, data in here.house.events() if code == "r"]
    assert codes == [("r", "30x5")]


async def test_the_record_replays_to_the_same_screen(here: Scene) -> None:
    await here.view.draw(b"x\x1b[2;5Hy\x1b[31mred\x1b[0m\r\n" + b"l\r\n" * 20 + b"\x1b[Atop")
    await here.view.finish()
    screens = []
    for sent in (here.far.sent, _output(here.house).encode()):
        screen = Reference(40, 10)
        screen.feed(sent)
        screens.append(screen.rows())
    assert screens[0] == screens[1]


async def test_what_cannot_be_recorded_is_not_sent(here: Scene) -> None:
    here.house.fill_disk()
    with pytest.raises(RecorderFault):
        await here.view.draw(b"secret\r\n" * 200_000)
    assert here.far.sent == b""


class Gone:
    """A client that fails in the middle of an echo."""

    async def send_screen(self, data: Masked) -> None:
        raise RecorderFault("as if", rule="recorder.cast")


async def test_a_failure_in_an_echo_shows_at_the_next_draw(here: Scene) -> None:
    record = here.house.record
    assert isinstance(record, ScreenRecording)
    view = View(Gone(), record, WindowSize(80, 24))
    view.write("a")
    with pytest.raises(RecorderFault):
        await view.draw(b"b\r\n")
    with pytest.raises(RecorderFault):
        await view.settle()
    assert "b" not in _output(here.house)


@pytest.mark.parametrize(
    ("claimed", "size"),
    [
        ((0, 0), (80, 24)),
        ((1, 1), (20, 2)),
        ((10**9, 10**9), (MAX_COLS, MAX_ROWS)),
        ((132, 43), (132, 43)),
    ],
)
def test_windows_are_bounded(claimed: tuple[int, int], size: tuple[int, int]) -> None:
    assert bounded(*claimed) == WindowSize(*size)
