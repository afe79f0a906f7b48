"""Transactions: one writer, durable on return, and never in doubt about the outcome.

A commit that raises may still have happened. The journal therefore keeps both
marks, before and after, and looks which one the database holds before it writes
again. A third one means that somebody else wrote, and ends all writing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.errors import RecorderFault
from gateway.store import schema
from gateway.store.database import BEGIN, connect, faults, prepare
from gateway.store.ledger import Mark, Writing, rebuild, watermark_row
from gateway.store.seal import RowMac

T = TypeVar("T")


class Journal:
    """The store's transactions. Use `open`; methods belong to one event loop.

    Attributes:
        mac: makes and checks the codes of rows.
    """

    def __init__(self, engine: AsyncEngine, lock_fd: int, mac: RowMac, mark: Mark) -> None:
        self.mac = mac
        self._engine = engine
        self._lock_fd = lock_fd
        self._mark = mark
        self._attempted: Mark | None = None
        self._writer = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, folder: Path, mac: RowMac) -> Journal:
        """Open the store in a folder; create it if there is none.

        Raises:
            RecorderFault: see `database.prepare`, `ledger.rebuild`; or the store
                is of a newer version.
        """
        lock_fd = await asyncio.to_thread(prepare, folder)
        engine = connect(folder)
        try:
            with faults("be opened"):
                async with engine.connect() as connection:
                    await connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
                    mark = await connection.run_sync(_load, mac)
                    await connection.commit()
        except BaseException:
            await engine.dispose()
            os.close(lock_fd)
            raise
        return cls(engine, lock_fd, mac, mark)

    @property
    def mark(self) -> Mark:
        """What is committed."""
        return self._mark

    async def close(self) -> None:
        """Wait for what runs, then let go of the store; again is no error."""
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*self._running, return_exceptions=True)
        try:
            await self._truncate()
        finally:
            await self._engine.dispose()
            os.close(self._lock_fd)

    async def write(self, work: Callable[[Writing], Awaitable[T]]) -> T:
        """Run one transaction to its end, even if the caller is cancelled meanwhile.

        Args:
            work: everything that the transaction does; what it raises rolls back.

        Returns:
            What ``work`` returned, once it is on the disk.

        Raises:
            RecorderFault: it may or may not have happened; treat it as a failure.
        """
        return await self._detached(self._write(work))

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run queries on one consistent state.

        Raises:
            RecorderFault: the store cannot be read.
        """
        return await self._detached(self._read(work))

    async def truncate(self) -> None:
        """Move the write-ahead log into the file and empty it, so that destroyed text is gone."""
        await self._detached(self._truncate())

    async def _detached(self, work: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            work.close()
            raise RecorderFault("The store is closed", rule="store.closed")
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._settle)
        return await asyncio.shield(task)

    def _settle(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # A caller that was cancelled never asks; the failure is the caller's to tell.
            task.exception()

    async def _write(self, work: Callable[[Writing], Awaitable[T]]) -> T:
        async with self._writer:
            with faults("be written"):
                async with self._engine.connect() as connection:
                    await connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
                    await self._settle_doubt(connection)
                    writing = Writing(connection, self.mac, self._mark)
                    result = await work(writing)
                    self._attempted = await writing.finish()
                    await connection.commit()
            self._mark, self._attempted = self._attempted, None
            return result

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        with faults("be read"):
            async with self._engine.connect() as connection:
                return await work(connection)

    async def _settle_doubt(self, connection: AsyncConnection) -> None:
        stored = await connection.scalar(select(schema.watermark.c.mac))
        if self._attempted is not None and stored == self._attempted.mac:
            self._mark = self._attempted
        elif stored != self._mark.mac:
            raise RecorderFault(
                "The ledger was changed outside of the gateway while it was open",
                "Keep the folder for the inquiry and run `tollhouse verify` on it",
                rule="store.watermark",
            )
        self._attempted = None

    async def _truncate(self) -> None:
        with faults("be written"):
            async with self._writer, self._engine.connect() as connection:
                # A checkpoint cannot run inside a transaction.
                await connection.execution_options(**{BEGIN: None})
                await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))


def _load(connection: Connection, mac: RowMac) -> Mark:
    """Create the tables or check them; what is committed."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > schema.VERSION:
        raise RecorderFault(
            f"The store is of version {version}, and this gateway knows {schema.VERSION}",
            "Install the release that wrote it, or a newer one",
            rule="store.version",
        )
    if version == 0:
        schema.metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(schema.watermark).values(watermark_row(Mark(), mac)))
        connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")
    # Sessions do not outlive the gateway that held them.
    gone = update(schema.session).where(schema.session.c.state == "open").values(state="lost")
    connection.execute(gone)
    return rebuild(connection, mac)
