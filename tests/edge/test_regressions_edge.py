"""What an adversary found in the edge: hangs, half scripts, one client that starves the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import asyncssh
import pytest

from gateway.connectors.psql.output import OutputSplitter
from gateway.core.action import Form
from gateway.core.events import Line
from gateway.core.identity import Identity
from gateway.core.mask import Masked
from gateway.core.plan import Parsed
from gateway.core.policy import Policies
from gateway.edge.channel import STDIN_HIGH_WATER_BYTES, Channel
from gateway.edge.child import Child
from gateway.edge.judging import Judges
from gateway.edge.pumps import Pumps
from gateway.edge.workers import Workers
from gateway.errors import RecorderFault
from gateway.policies import shipped
from gateway.sql.catalog import Catalog
from gateway.sql.limits import SqlLimits
from tests.deployment import deploy
from tests.edge.house import admission
from tests.sql.gate import CATALOG, judged
from tests.tickets import ETL

LIMIT_S = 10.0
SCRIPT_LIMIT_BYTES = 4 * STDIN_HIGH_WATER_BYTES
NONCE = "n" * 32


class _Open(asyncssh.SSHServer):
    """Lets anybody in: what is tested is the channel."""

    def __init__(self, serve: Callable[[Channel], Awaitable[None]]) -> None:
        self._serve = serve

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> Channel:
        return Channel(admission(), self._serve, lambda: None)


@asynccontextmanager
async def client_of(
    serve: Callable[[Channel], Awaitable[None]],
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A real connection whose channels are served."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.create_server(
        lambda: _Open(serve), "127.0.0.1", 0, server_host_keys=[key], encoding=None
    )
    try:
        async with asyncssh.connect(
            "127.0.0.1", acceptor.get_port(), known_hosts=None, config=None, agent_path=None
        ) as connection:
            yield connection
    finally:
        acceptor.close()
        await acceptor.wait_closed()


@pytest.mark.asyncio
async def test_a_script_above_the_high_water_mark_arrives_whole() -> None:
    got: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    async def serve(channel: Channel) -> None:
        got.set_result(await channel.read_all(SCRIPT_LIMIT_BYTES))
        channel.exit(0)

    script = b"-- 4567\n" * (3 * STDIN_HIGH_WATER_BYTES // 8)
    async with asyncio.timeout(LIMIT_S), client_of(serve) as connection:
        process = await connection.create_process(encoding=None)
        process.stdin.write(script)
        process.stdin.write_eof()
        assert await got == script


@pytest.mark.asyncio
async def test_half_a_script_of_a_client_that_left_is_nothing() -> None:
    got: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    async def serve(channel: Channel) -> None:
        got.set_result(await channel.read_all(SCRIPT_LIMIT_BYTES))

    async with asyncio.timeout(LIMIT_S), client_of(serve) as connection:
        process = await connection.create_process(encoding=None)
        process.stdin.write(b"delete from claims")
        await process.stdin.drain()
        await asyncio.sleep(0.1)
        process.close()  # and " where id = 1;" never comes
        assert await got == b""


@dataclass
class _Streams:
    """psql's two outputs, fed by the test."""

    stdout: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)
    stderr: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)


@pytest.mark.asyncio
async def test_a_record_that_fails_on_stderr_ends_the_unit_at_once() -> None:
    async def sink(data: Masked, stderr: bool) -> None:
        raise RecorderFault("the disk is full", rule="recorder.cast")

    streams = _Streams()
    pumps = Pumps(cast("Child", streams), sink, OutputSplitter(), 1 << 20)
    pumps.expect(NONCE)
    streams.stderr.feed_data(b"ERROR:  one statement of many\n")
    try:
        with pytest.raises(RecorderFault):
            async with asyncio.timeout(LIMIT_S):
                await pumps.reached(NONCE)  # stdout is silent: nothing else would tell
    finally:
        await pumps.cancel()


@pytest.mark.asyncio
async def test_a_stderr_that_ends_first_is_no_end_of_the_unit() -> None:
    async def sink(data: Masked, stderr: bool) -> None:
        """Take it."""

    streams = _Streams()
    pumps = Pumps(cast("Child", streams), sink, OutputSplitter(), 1 << 20)
    pumps.expect(NONCE)
    streams.stderr.feed_eof()
    waiting = asyncio.ensure_future(pumps.reached(NONCE))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    streams.stdout.feed_data(f"{NONCE}\n".encode())
    async with asyncio.timeout(LIMIT_S):
        assert await waiting
    await pumps.cancel()


class _SlowWorkers(Workers):
    """Two workers that a line can hold until the test lets go."""

    def __init__(self) -> None:
        super().__init__(count=2)
        self.busy: list[str] = []
        self.free = asyncio.Event()

    async def parse(
        self, text: bytes, *, form: Form, target: str, catalog: Catalog, limits: SqlLimits
    ) -> Parsed:
        self.busy.append(text.decode())
        if text.startswith(b"select 'bomb"):
            await self.free.wait()
        return judged(text)


class _Catalogs:
    async def current(self, target: str) -> Catalog:
        return CATALOG


@pytest.mark.asyncio
async def test_one_identity_leaves_a_worker_to_the_others(tmp_path: Path) -> None:
    config = deploy(tmp_path, "http://127.0.0.1:9")
    workers = _SlowWorkers()
    judges = Judges(config, Policies.load(shipped()), workers, _Catalogs())
    target = config.target[0].name
    other = Identity("agent", "i", "agent", "agent", ("reader",), (target,), (), ("i|boss",))
    bombs = [
        asyncio.ensure_future(judges.judge(Line(b"select 'bomb'", "single"), target, ETL))
        for _ in range(8)
    ]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(LIMIT_S):
        await judges.judge(Line(b"select 1", "single"), target, other)
        assert sorted(workers.busy) == ["select 'bomb'", "select 1"]
        workers.free.set()
        await asyncio.gather(*bombs)
