"""Each real psql draws on its terminal as wide as the window is, before and after a resize."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePosixPath

import pytest

from gateway.connectors.psql.launch import launch
from gateway.edge.child import Child, Level, WindowSize, available, spawn
from tests.edge.children import nothing_stays, relay, session_folder
from tests.servers import Server

WIDE = "select repeat('lorem ipsum ', 15) as a, repeat('dolor ', 15) as b, 'end' as c;\n"
SENTINEL = "N0123456789"


@pytest.fixture(params=available(), ids=str)
def level(request: pytest.FixtureRequest) -> Level:
    """Each level that works here."""
    found: Level = request.param
    return found


@asynccontextmanager
async def psql(server: Server, level: Level, size: WindowSize, *flags: str) -> AsyncIterator[Child]:
    """A psql of the server's version on a terminal."""
    connected: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    with session_folder() as folder:
        async with (
            nothing_stays(),
            relay(folder / ".s.PGSQL.5432", server.socket_path, connected),
        ):
            spec = launch(
                flags,
                socket_dir=PurePosixPath(folder),
                user="postgres",
                database="postgres",
                restrict_key="K1",
            )
            child = await spawn(spec, level=level, program_path=server.psql, terminal=size)
            try:
                yield child
            finally:
                await child.aclose()


async def ask(child: Child, text: str) -> list[str]:
    """Feed one statement; the lines that are drawn for it."""
    child.stdin.write(text.encode() + f"select '{SENTINEL}' as sentinel;\n".encode())
    lines: list[str] = []
    while not lines or SENTINEL not in lines[-1]:
        line = await asyncio.wait_for(child.stdout.readline(), 10)
        assert line, lines
        lines.append(line.decode().removesuffix("\n"))
    await asyncio.wait_for(child.stdout.readuntil(b"\n\n"), 10)  # "(1 row)" and what follows
    end = next(n for n, line in enumerate(lines) if "sentinel" in line.lower())
    return lines[:end]


async def test_a_wide_table_wraps_at_the_window(pg_server: Server, level: Level) -> None:
    async with psql(pg_server, level, WindowSize(100, 24), "-P", "format=wrapped") as child:
        widths = []
        for cols in (100, 60, 200, 40):
            child.resize(WindowSize(cols, 24))
            drawn = await ask(child, WIDE)
            widths.append(max(len(line) for line in drawn))
            assert any("end" in line for line in drawn)
            assert not any("\r" in line or "\x1b" in line for line in drawn)
        for cols, width in zip((100, 60, 200, 40), widths, strict=True):
            assert cols - 3 <= width <= cols, widths


async def test_expanded_follows_the_window(pg_server: Server, level: Level) -> None:
    async with psql(pg_server, level, WindowSize(80, 24), "-P", "expanded=auto") as child:
        assert any("RECORD 1" in line for line in await ask(child, WIDE))
        child.resize(WindowSize(400, 24))
        assert not any("RECORD 1" in line for line in await ask(child, WIDE))


async def test_errors_and_rows_keep_their_order(pg_server: Server, level: Level) -> None:
    async with psql(pg_server, level, WindowSize(80, 24), "-At") as child:
        child.stdin.write(b"select 1;\nselect 1/0;\nselect 2;\n\\! id\nselect E'3\\x03';\n")
        child.stdin.close()
        lines = (await child.stdout.read()).decode().splitlines()
        assert [line[:6] for line in lines[:3]] == ["1", "ERROR:", "2"]
        assert "restricted" in lines[3]
        assert lines[4:] == ["3\x03"]
        assert await child.wait() == 0
