"""A real psql behind a real guard, for tests, the transcript and the benchmark."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core.plan import ColumnPlan, CopyOut, ResultPlan, Unit
from gateway.credentials import NoPassword
from gateway.edge.pgguard import PgGuard
from gateway.edge.upstream import Upstream
from gateway.guards.pgwire.guard import GuardSettings
from gateway.guards.pgwire.outputs import Event, UnitStarted, WireTicket
from tests.servers import Server

ENVIRONMENT = {"LANG": "C.UTF-8", "PSQL_PAGER": "", "PSQL_HISTORY": "/dev/null", "TERM": "dumb"}


def columns(*kinds: str | bool | None) -> tuple[ColumnPlan, ...]:
    """Plans by position: False is shown, None masked with the constant, a text its kind."""
    return tuple(
        ColumnPlan(f"c{i}", masked=kind is not False, kind=kind if isinstance(kind, str) else None)
        for i, kind in enumerate(kinds)
    )


def rows(*kinds: str | bool | None, phi: bool = False) -> ResultPlan:
    """The plan of a statement that returns rows."""
    return ResultPlan(columns(*kinds), touches_phi=phi, returns="rows")


def tag(*, phi: bool = False) -> ResultPlan:
    """The plan of a statement that returns only its tag."""
    return ResultPlan((), touches_phi=phi, returns="tag")


def copy(*kinds: str | bool | None, form: CopyOut | None = None) -> ResultPlan:
    """The plan of COPY TO STDOUT."""
    return ResultPlan(columns(*kinds), touches_phi=True, returns="copy", copy=form or CopyOut())


def ticket_for(
    text: str | bytes, *results: ResultPlan, catalog: str = "", max_rows: int | None = None
) -> WireTicket:
    """A fresh ticket for a unit."""
    data = text.encode() if isinstance(text, str) else text
    unit = Unit(data, results)
    return WireTicket(secrets.token_hex(16), "N" + secrets.token_hex(16), unit, catalog, max_rows)


def upstream_of(server: Server, database: str = "postgres", *, read_only: bool = False) -> Upstream:
    """The superuser on the server's Unix socket; the wire is under test, not the login."""
    return Upstream(
        user="postgres",
        database=database,
        password=NoPassword(),
        socket_dir=server.socket_dir,
        port=server.port,
        read_only=read_only,
    )


@dataclass
class GuardedPsql:
    """One psql, one guard; ``run`` feeds a unit and gives what psql printed for it."""

    guard: PgGuard
    process: asyncio.subprocess.Process
    events: list[Event]
    _stderr: asyncio.Task[bytes] = field(repr=False)

    async def feed(self, data: bytes) -> None:
        """Write to psql's stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def wait_for_start(self, ticket: WireTicket) -> None:
        """Wait until the server was sent the unit."""
        for _ in range(1000):
            if UnitStarted(ticket.id) in self.events:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the unit did not start")

    async def start(self, ticket: WireTicket) -> None:
        """Queue a unit and feed its lines."""
        self.guard.queue(ticket)
        await self.feed(ticket.lines)

    async def output_of(self, ticket: WireTicket) -> str:
        """Everything psql prints up to the ticket's nonce; that line is left out."""
        assert self.process.stdout is not None
        data = await asyncio.wait_for(self.process.stdout.readuntil(ticket.nonce.encode()), 30)
        assert await self.process.stdout.readexactly(1) == b"\n"
        return data.removesuffix(ticket.nonce.encode()).decode()

    async def run(
        self,
        text: str | bytes,
        *results: ResultPlan,
        catalog: str = "",
        max_rows: int | None = None,
    ) -> str:
        """One unit from ticket to nonce; what psql printed on stdout."""
        ticket = ticket_for(text, *results, catalog=catalog, max_rows=max_rows)
        await self.start(ticket)
        return await self.output_of(ticket)

    async def finish(self) -> tuple[int, str]:
        """Close psql's stdin; its exit code and all that it wrote to stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = await asyncio.wait_for(self.process.wait(), 30)
        return code, (await self._stderr).decode()


@asynccontextmanager
async def guarded_psql(
    server: Server,
    flags: Sequence[str] = (),
    *,
    database: str = "postgres",
    settings: GuardSettings | None = None,
    upstream: Upstream | None = None,
    limit_bytes: int = 64 * 1024 * 1024,
) -> AsyncIterator[GuardedPsql]:
    """A psql of the server's own version, restricted, behind a guard.

    ``limit_bytes`` bounds what the test's own reader of stdout holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="guard-"))
    events: list[Event] = []
    try:
        async with await PgGuard.open(
            upstream or upstream_of(server, database),
            folder / "s",
            settings or GuardSettings({}),
            on_event=events.append,
        ) as guard:
            process = await asyncio.create_subprocess_exec(
                server.psql,
                *("-X", "-n", "--no-password", "-P", "pager=off"),
                *("-v", "PROMPT1=", "-v", "PROMPT2=", "-h", str(folder / "s")),
                *("-U", "nobody", "-d", "nothing", *flags),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=ENVIRONMENT,
                start_new_session=True,
                limit=limit_bytes,
            )
            guard.admit(lambda pid, uid: (pid, uid) == (process.pid, os.geteuid()))
            assert process.stderr is not None
            stderr = asyncio.create_task(process.stderr.read())
            session = GuardedPsql(guard, process, events, stderr)
            try:
                await session.feed(b"\\restrict " + secrets.token_hex(16).encode() + b"\n")
                yield session
            finally:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    await asyncio.wait_for(process.wait(), 0.5)
                except TimeoutError:
                    process.kill()
                    await process.wait()
                await stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)
