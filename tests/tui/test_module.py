"""``python -m tui --fd N`` on a real terminal and a real socket pair."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import socket
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tui.memory import MemoryTickets, ticket
from tests.tui.test_near import answer

ROOT = Path(__file__).parents[2]
WAIT_S = 30.0


async def test_the_queue_on_a_descriptor() -> None:
    tickets = MemoryTickets(ticket(7), ticket(8))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(master, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tui", "--fd", str(theirs.fileno()), "--place", "the-gate"),
        cwd=ROOT,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        pass_fds=[theirs.fileno()],
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
    )
    theirs.close()
    os.close(slave)
    gateway = asyncio.create_task(answer(ours, tickets))
    try:
        assert b"the-gate" in await _until(master, b"where id = 7")
        # Typed faster than anything is drawn: still in this order.
        os.write(master, b"ja")
        await _until(master, b"Approve T-8?")
        os.write(master, b"\x1b")
        await asyncio.sleep(0.5)
        os.write(master, b"\x1b[<0;10;3M\x1b[<0;10;3ma")
        await _until(master, b"Approve T-7?")
        os.write(master, b"\x1b")
        await asyncio.sleep(0.5)
        os.write(master, b"/adaq")
        await _until(master, b"No ticket holds these words")
        os.write(master, b"\x7f" * 4)
        await asyncio.sleep(0.5)
        os.write(master, b"id = 7\r")
        await _until(master, b"filter: id = 7")
        await asyncio.sleep(0.5)
        os.write(master, b"a")
        await _until(master, b"Approve T-7?")
        os.write(master, b"seen\r")
        await _until(master, b"Enter once more")
        os.write(master, b"\r")
        await _until(master, b"T-7 is granted")
        os.write(master, b"q")
        end = await _until(master, b"\x1b[?1049l")
        assert b"Traceback" not in end
        assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
        await asyncio.wait_for(gateway, WAIT_S)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        gateway.cancel()
        os.close(master)
        ours.close()
    assert tickets.votes == [("T-7", True, "seen")]


@pytest.mark.parametrize("arguments", [[], ["--fd", "x"], ["--fd", "0"]])
def test_without_a_descriptor_or_a_terminal_it_says_so(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


async def _until(master: int, wanted: bytes) -> bytes:
    """Read the terminal until these bytes came; returns all that was read."""
    seen = b""
    deadline_s = time.monotonic() + WAIT_S
    while wanted not in seen:
        assert time.monotonic() < deadline_s, f"{wanted!r} did not come"
        try:
            seen += os.read(master, 65_536)
        except BlockingIOError:
            await asyncio.sleep(0.02)
        except OSError:
            # Linux: the last holder of the terminal has closed it.
            break
    return seen
