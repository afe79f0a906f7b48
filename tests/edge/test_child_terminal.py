"""A child draws on a terminal of its own, at every level that works here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator

import pytest

from gateway.connectors import LaunchSpec
from gateway.edge.child import Child, Level, WindowSize, available, find_psql, spawn
from gateway.edge.sandbox.programs import examine
from gateway.edge.sandbox.terminal import open_terminal
from gateway.errors import GatewayFault
from tests.edge.children import ENVIRONMENT, descriptors, nothing_stays, python, running
from tests.edge.terminal_attempts import masters

SIZE = WindowSize(cols=132, rows=43)
WAIT = "import sys; sys.stdin.read()"


@pytest.fixture(params=available(), ids=str)
def level(request: pytest.FixtureRequest) -> Level:
    """Each level that works here."""
    found: Level = request.param
    return found


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """No descriptor, child process or task outlives a test."""
    async with nothing_stays():
        yield


async def test_both_outputs_are_the_terminal_and_the_input_is_none(level: Level) -> None:
    code = (
        "import os, sys\n"
        "print([os.isatty(n) for n in (0, 1, 2)], *os.get_terminal_size(1), flush=True)\n"
        "print('err', file=sys.stderr, flush=True); print('\\x03\\x04\\x1a\\x1c', flush=True)\n"
        "sys.exit(5)"
    )
    async with running(code, level, terminal=SIZE) as child:
        assert await child.stderr.read() == b""
        told = await child.stdout.read()
        assert told == b"[False, True, True] 132 43\nerr\n\x03\x04\x1a\x1c\n"  # and no CR
        assert await child.wait() == 5


async def test_the_terminal_is_raw_and_controls_nobody(level: Level) -> None:
    code = (
        "import os, termios\n"
        "i, o, c, l, *_ = termios.tcgetattr(1)\n"
        "print(i, o, l & (termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN))\n"
        "try: os.open('/dev/tty', os.O_RDWR)\n"
        "except OSError as error: print('none')"
    )
    async with running(code, level, terminal=SIZE) as child:
        assert await child.stdout.read() == b"0 0 0\nnone\n"
    master, slave = open_terminal(SIZE)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(master, b"\x03")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.read(slave, 1)
    finally:
        os.close(master)
        os.close(slave)


async def test_control_characters_on_the_input_are_bytes(level: Level) -> None:
    keys = b"a\x03b\x1ac\x1cd\x04e\x15f\x17g\x7fh\x16i\x13j\x11\n"
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.readline())"
    async with running(code, level, first=keys, terminal=SIZE) as child:
        assert await child.stdout.read() == keys
        assert await child.wait() == 0


async def test_a_resize_is_seen_and_is_no_signal(level: Level) -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGWINCH, lambda *_: print('signalled', flush=True))\n"
        "print('ready', flush=True)\n"
        "for line in sys.stdin: print(*os.get_terminal_size(1), flush=True)"
    )
    async with running(code, level, terminal=SIZE) as child:
        assert await child.stdout.readline() == b"ready\n"
        for size in (WindowSize(20, 5), WindowSize(65535, 65535), WindowSize(1, 1)):
            child.resize(size)
            child.stdin.write(b"\n")
            assert await child.stdout.readline() == f"{size.cols} {size.rows}\n".encode()
        child.stdin.close()
        assert await child.stdout.read() == b""


async def test_a_resize_may_cross_the_end(level: Level) -> None:
    child = await python("pass", level, terminal=SIZE)
    await child.wait()
    child.resize(WindowSize(80, 24))
    assert await child.stdout.read() == b""
    child.resize(WindowSize(80, 24))
    await child.aclose()
    child.resize(WindowSize(80, 24))
    async with running(WAIT, level) as piped:
        piped.resize(WindowSize(80, 24))


@pytest.mark.parametrize(("cols", "rows"), [(0, 24), (80, 0), (-1, 24), (80, 65536), (2**32, 1)])
def test_no_terminal_has_such_a_size(cols: int, rows: int) -> None:
    with pytest.raises(GatewayFault, match="columns"):
        WindowSize(cols, rows)


async def test_output_arrives_whole_however_the_child_ends(level: Level) -> None:
    for length in (0, 1, 4095, 4096, 70_001):
        code = f"import os, sys; sys.stdout.write('x' * {length}); sys.stdout.flush(); os._exit(0)"
        for _ in range(4):
            async with running(code, level, terminal=SIZE) as child:
                if length < 4096:  # it fits: the child is gone before it is read
                    await child.wait()
                # A slave left open here would keep the stream from its end.
                assert await asyncio.wait_for(child.stdout.read(), 5) == b"x" * length


async def test_much_output_waits_for_its_reader(level: Level) -> None:
    code = "import sys; sys.stdout.write('x' * 2_000_000)"
    async with running(code, level, terminal=SIZE) as child:
        await asyncio.sleep(0.2)
        assert len(child.stdout._buffer) < 300_000  # type: ignore[attr-defined]
        assert not child.stdout.at_eof()
        assert len(await child.stdout.read()) == 2_000_000
        assert await child.wait() == 0


async def test_unread_output_does_not_hold_up_closing(level: Level) -> None:
    child = await python("while True: print('x' * 4_000)", level, terminal=SIZE)
    child.stdin.write(b"y" * 4_000_000)
    await asyncio.wait_for(child.aclose(), 5)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_a_hundred_aborted_starts_leave_nothing(level: Level) -> None:
    cancelled = 0
    for step in range(100):
        starting = asyncio.create_task(python(WAIT, level, terminal=SIZE))
        for _ in range(step % 25):
            await asyncio.sleep(0 if step < 50 else 0.0004)
        starting.cancel()
        try:
            child = await starting
        except asyncio.CancelledError:
            cancelled += 1
            continue
        with contextlib.suppress(asyncio.CancelledError):
            closing = asyncio.create_task(child.aclose())
            await asyncio.sleep(0)
            closing.cancel()  # aborted while it closes, too
            await closing
        await child.aclose()
    assert cancelled > 20
    await asyncio.sleep(0.01)
    assert not masters()


async def test_without_descriptors_it_is_a_fault_and_nothing_stays(level: Level) -> None:
    psql, spec = find_psql(), LaunchSpec("psql", ("--version",), ENVIRONMENT)
    examine(psql, ())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 64, hard))
    used: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            used.append(os.dup(0))
    refused: list[str] = []
    child: Child | None = None
    try:
        while child is None:  # from none left to just enough: each step of a start fails once
            try:
                child = await spawn(spec, level=level, program_path=psql, terminal=SIZE)
            except GatewayFault as fault:
                refused.append(fault.reason)
                os.close(used.pop())
    finally:
        for descriptor in used:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(refused) > 5
    assert all("Too many open files" in reason for reason in refused)
    assert (await child.stdout.read()).startswith(b"psql (PostgreSQL)")
    await child.aclose()
