"""Children for tests: Python in a client's place, a relay in a guard's, and what must not stay."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from gateway.connectors import LaunchSpec
from gateway.edge.child import Child, Level, WindowSize, spawn
from tests.edge.confinement import find_interpreter

ENVIRONMENT = {"LANG": "C.UTF-8"}


async def python(
    code: str, level: Level, *words: str, first: bytes = b"", terminal: WindowSize | None = None
) -> Child:
    """A child that runs Python, in place of a client."""
    interpreter = find_interpreter()
    assert interpreter is not None, "no Python 3.11 that the child's user can execute"
    spec = LaunchSpec("python", ("-I", "-S", "-c", code, *words), ENVIRONMENT, None, first)
    return await spawn(
        spec,
        level=level,
        program_path=interpreter.path,
        extra=interpreter.extra,
        terminal=terminal,
    )


@contextlib.asynccontextmanager
async def running(
    code: str, level: Level, first: bytes = b"", terminal: WindowSize | None = None
) -> AsyncIterator[Child]:
    """A child that is closed at the end."""
    child = await python(code, level, first=first, terminal=terminal)
    try:
        yield child
    finally:
        await child.aclose()


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """A session's folder under one that every user may pass."""
    root = Path(tempfile.mkdtemp(prefix="th"))
    root.chmod(0o711)
    folder = root / "s"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(root)


@contextlib.asynccontextmanager
async def nothing_stays() -> AsyncIterator[None]:
    """No descriptor, child process or task outlives the block."""
    before = descriptors(), children()
    yield
    await asyncio.sleep(0.01)  # transports close their descriptors in the next turn
    assert descriptors() == before[0]
    assert len(children()) == len(before[1])  # the zygote may be another one
    assert len(asyncio.all_tasks()) == 1


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> dict[int, bytes]:
    """This process's children, zombies too, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
    return found


@contextlib.asynccontextmanager
async def relay(
    path: Path, upstream: Path, connected: asyncio.Queue[tuple[int, int]]
) -> AsyncIterator[None]:
    """Bytes to and fro, as behind a guard's socket; notes who connected."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, _ = struct.unpack("3i", packed)
        connected.put_nowait((pid, uid))
        there, back = await asyncio.open_unix_connection(upstream)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # the pumps see the end
