"""A lane: one psql, its guard and one upstream connection, kept while they are needed.

A command has a lane of its own; a prompt keeps one for each login, so that
transactions live. psql is fed one-use tickets; the guard replaces each by the
decided bytes, so what was decided is byte for byte what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from gateway.connectors.psql.launch import launch
from gateway.core.mask import mask_text
from gateway.core.plan import Unit
from gateway.edge.child import Child, Level, WindowSize, spawn
from gateway.edge.pgguard import PgGuard
from gateway.edge.upstream import Upstream
from gateway.errors import Denied, GatewayFault, TargetUnavailable
from gateway.guards.pgwire.guard import GuardSettings
from gateway.guards.pgwire.outputs import (
    CatalogChanged,
    Event,
    ResultDone,
    RowsExceeded,
    UnitDone,
    UnitStarted,
    WireTicket,
)
from gateway.sql.catalog import Catalog
from gateway.sql.catalog_queries import FINGERPRINT

END_TIMEOUT_S = 5.0

Sent = Callable[[Unit], Awaitable[None]]
"""Told of each unit that the guard let through, before the next one is fed."""


class Output(Protocol):
    """Takes what psql draws and knows when a unit's output is complete; see ``pumps``."""

    def expect(self, nonce: str) -> None:
        """A unit with this nonce is about to be fed."""
        ...

    async def reached(self, nonce: str) -> bool:
        """Wait until all output of the unit was passed on; False if psql ended first."""
        ...

    async def finish(self) -> None:
        """Wait for the end of psql's output; raises what the record or the client raised."""
        ...


@dataclass(slots=True)
class Tally:
    """What ran on a lane, in numbers.

    Attributes:
        failed: the last unit ended in an error of the server's.
        rows: rows that were sent or touched.
        masked: cells that were hidden, by rule.
        refusal: what the guard itself refused; it wins over psql's exit code.
    """

    failed: bool = False
    rows: int = 0
    masked: Counter[str] = field(default_factory=Counter)
    refusal: Denied | TargetUnavailable | None = None


class Lane:
    """Made by ``open``; whoever has it closes it."""

    def __init__(self, upstream: Upstream, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.tally = Tally()
        self._upstream = upstream
        self._folder = folder
        self._guard: PgGuard | None = None
        self._child: Child | None = None
        self._units: dict[str, Unit] = {}
        self._sent: list[Unit] = []

    @classmethod
    async def open(
        cls, upstream: Upstream, catalog: Catalog, runtime_dir: Path, quiet_marker: str | None
    ) -> Lane:
        """Log in upstream and make the guard's socket; nothing is sent and no child runs yet.

        Args:
            upstream: target and login.
            catalog: what units on this lane are decided with.
            runtime_dir: a private folder with a short path.
            quiet_marker: see ``GuardSettings``.

        Raises:
            TargetUnavailable: the target does not answer or refuses the login.
            GatewayFault: the socket cannot be made.
        """
        # 128 random bits: where a sandbox cannot forbid connecting, the name is unknown.
        lane = cls(upstream, catalog, runtime_dir / secrets.token_hex(16))
        settings = GuardSettings(
            parameters={},
            catalog=catalog,
            fingerprint_sql=FINGERPRINT,
            text_filter=_masked_bytes,
            quiet_marker=quiet_marker,
        )
        lane._guard = await PgGuard.open(upstream, lane._folder, settings, on_event=lane._on_event)
        return lane

    @property
    def started(self) -> bool:
        """Whether psql was spawned on it."""
        return self._child is not None

    @property
    def status(self) -> str:
        """The server's transaction status: I, T or E."""
        return self._guard.status if self._guard is not None else "I"

    async def start(
        self,
        arguments: tuple[str, ...],
        *,
        level: Level,
        psql: Path,
        terminal: WindowSize | None = None,
    ) -> Child:
        """Spawn psql and let it through to the guard.

        Args:
            arguments: psql's own flags, vetted.
            level: of the sandbox.
            psql: the program.
            terminal: draw into a terminal of this size instead of pipes.

        Raises:
            GatewayFault: it does not start.
        """
        assert self._guard is not None
        spec = launch(
            arguments,
            socket_dir=PurePosixPath(self._folder),
            user=self._upstream.user,
            database=self._upstream.database,
            restrict_key=secrets.token_hex(16),
        )
        self._child = await spawn(spec, level=level, program_path=psql, terminal=terminal)
        self._guard.admit(self._child.is_child)
        return self._child

    async def feed(
        self, unit: Unit, catalog: str, max_rows: int | None, output: Output, sent: Sent
    ) -> bool:
        """Let one unit run and wait until all of its output was passed on.

        Args:
            unit: decided bytes and plans.
            catalog: the fingerprint it was decided under.
            max_rows: see ``WireTicket``.
            output: takes what psql draws.
            sent: told once the unit went to the server.

        Returns:
            False if psql ended first.

        Raises:
            RecorderFault: the record cannot be kept.
        """
        assert self._guard is not None
        assert self._child is not None
        ticket = WireTicket(
            id=secrets.token_hex(16),
            nonce=secrets.token_hex(16),
            unit=unit,
            catalog=catalog,
            max_rows=max_rows,
        )
        self.tally.failed = False
        self._units[ticket.id] = unit
        self._guard.queue(ticket)
        output.expect(ticket.nonce)
        self._child.stdin.write(ticket.lines)
        with contextlib.suppress(ConnectionError):  # psql is gone: its output ends too
            await self._child.stdin.drain()
        reached = await output.reached(ticket.nonce)
        del self._units[ticket.id]
        gone, self._sent = self._sent, []
        for each in gone:
            await sent(each)
        return reached

    async def end(self, output: Output) -> int:
        """Close psql's stdin, take the rest of its output and its exit code.

        Raises:
            Denied, TargetUnavailable, GuardBroken: the guard had something to say; it
                wins over psql's own exit code.
            GatewayFault: psql does not end.
        """
        assert self._child is not None
        self._child.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await output.finish()
                code = await self._child.wait()
        except TimeoutError:
            raise GatewayFault("psql did not end", rule="child.end") from None
        await self.raise_refusal(ended=True)
        return code

    async def raise_refusal(self, *, ended: bool) -> None:
        """Raise what the guard had to say, if anything.

        Args:
            ended: the session on the wire is over; wait for its last word.
        """
        if self.tally.refusal is not None:
            raise self.tally.refusal
        if ended and self._guard is not None:
            async with asyncio.timeout(END_TIMEOUT_S):
                error = await self._guard.wait_closed()
            if error is not None:
                raise error

    def resize(self, size: WindowSize) -> None:
        """The terminal has another size from the next statement on."""
        if self._child is not None:
            self._child.resize(size)

    async def cancel(self) -> None:
        """Stop the running statement on the server; psql gets its error and goes on."""
        if self._guard is not None:
            await self._guard.cancel()

    async def close(self) -> None:
        """Cancel on the server, end psql and remove the socket's folder; again is no error."""
        guard, self._guard = self._guard, None
        child, self._child = self._child, None
        try:
            if guard is not None:
                await guard.close()
        finally:
            if child is not None:
                await child.aclose()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _on_event(self, event: Event) -> None:
        tally = self.tally
        match event:
            case UnitStarted(id=ticket):
                self._sent.append(self._units[ticket])
            case ResultDone(rows=rows, tag=tag, masked=masked):
                tally.rows += rows or rows_of(tag)
                for column in masked:
                    tally.masked[f"column:{column.kind or 'phi'}"] += column.cells
            case UnitDone(error=error):
                tally.failed = error is not None
            case CatalogChanged():
                tally.refusal = catalog_changed()
            case RowsExceeded(rows=rows, max_rows=limit):
                tally.refusal = Denied(
                    f"{rows} rows are more than the {limit} that were granted; all was rolled back",
                    "Narrow the statement, or ask for a grant of more rows",
                    rule="grant.max-rows",
                )
            case _:
                pass


def rows_of(tag: str) -> int:
    """The row count at the end of a command tag (``DELETE 3``), or 0."""
    last = tag.rsplit(" ", 1)[-1]
    return int(last) if last.isascii() and last.isdigit() else 0


def catalog_changed() -> TargetUnavailable:
    """Nothing was sent: what the line was decided with no longer holds."""
    return TargetUnavailable(
        "The target's definitions changed while this line was decided; nothing was sent",
        "Send the command again",
        rule="target.catalog-changed",
    )


def _masked_bytes(text: bytes) -> bytes:
    """The guard's filter for what the server says in words."""
    return mask_text(text.decode("utf-8", "replace")).encode()
