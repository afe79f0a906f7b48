"""The guard's place in the world: psql's socket on one side, the server's on the other.

The gateway logs in upstream first. Only then is there a socket for psql; it serves one
connection of one process and is gone. Bytes move under back-pressure: at most one read
and one write buffer of each side are held.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from gateway.edge import upstream as up
from gateway.edge.upstream import READ_BYTES, Connection, Upstream, close_writer
from gateway.errors import GatewayFault, TargetUnavailable, TollhouseError
from gateway.guards.pgwire.guard import Guard, GuardSettings
from gateway.guards.pgwire.outputs import (
    ChildDone,
    Event,
    Output,
    ServerGone,
    ToChild,
    ToServer,
    UnitDone,
    UnitStarted,
    WireTicket,
)

SOCKET_NAME = ".s.PGSQL.5432"
"""Where libpq looks below ``psql -h DIR`` with its default port."""

IsChild = Callable[[int, int], bool]
"""Whether the process (pid, uid) that connected is the child that was spawned."""

_MAX_SOCKET_PATH_BYTES = 107
_WRITE_BUFFER_BYTES = 262_144


class PgGuard:
    """One session between a psql to come and a server that is logged in to.

    Made by ``open`` only. ``on_event`` is called on the loop, in order, before the
    bytes that follow the event leave; if it raises, the session ends.
    """

    def __init__(
        self,
        connection: Connection,
        upstream: Upstream,
        guard: Guard,
        listener: socket.socket,
        path: Path,
        on_event: Callable[[Event], None],
    ) -> None:
        self._connection = connection
        self._upstream = upstream
        self._guard = guard
        self._listener = listener
        self._path = path
        self._on_event = on_event
        self._child: asyncio.StreamWriter | None = None
        self._running = False
        self._closed: asyncio.Future[TollhouseError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        upstream: Upstream,
        socket_dir: Path,
        settings: GuardSettings,
        *,
        on_event: Callable[[Event], None],
        child_uid: int | None = None,
    ) -> PgGuard:
        """Log in upstream, then make the socket; psql is let in by ``admit``.

        Args:
            upstream: the target and login.
            socket_dir: a folder for this session alone; made if missing, 0700.
            settings: of the guard; ``parameters`` are taken from the server.
            on_event: see the class.
            child_uid: who shall reach the socket, if not the gateway's own user.

        Raises:
            TargetUnavailable: the target does not answer or refuses the login.
            GatewayFault: the socket cannot be made.
        """
        connection = await up.connect(upstream)
        try:
            path = socket_dir / SOCKET_NAME
            listener = _listen(path, child_uid)
        except BaseException:
            await connection.close()
            raise
        guard = Guard(replace(settings, parameters=connection.parameters))
        made = cls(connection, upstream, guard, listener, path, on_event)
        made._tasks = [asyncio.create_task(made._guarded(made._pump_server))]
        return made

    def admit(self, is_child: IsChild) -> None:
        """Accept psql, once it was spawned; until then its connection waits.

        Args:
            is_child: judges who connects; whoever else does is turned away.
        """
        if len(self._tasks) > 1:
            raise GatewayFault("a guard serves one child", rule="pgguard.admit")
        self._tasks.append(asyncio.create_task(self._guarded(partial(self._pump_child, is_child))))

    def queue(self, ticket: WireTicket) -> None:
        """Let one more unit pass; call it before the ticket's lines are fed to psql.

        Raises:
            GuardBroken: the ticket's id or nonce cannot be used.
        """
        self._guard.queue(ticket)

    @property
    def status(self) -> str:
        """The server's transaction status: I, T or E."""
        return self._guard.status

    async def wait_closed(self) -> TollhouseError | None:
        """Wait until the session ended; why, or None if psql ended it.

        TargetUnavailable where the server went away, GuardBroken where one side said
        what was not decided.
        """
        return await asyncio.shield(self._closed)

    async def cancel(self) -> None:
        """Stop the running statement; psql then gets its error and goes on.

        Raises:
            TargetUnavailable: the server could not be told.
        """
        if self._connection.key is None:
            raise TargetUnavailable("the server gave no key to cancel with", rule="target.cancel")
        await up.cancel(self._upstream, self._connection.key)

    async def close(self) -> None:
        """End the session from outside; what runs is cancelled. Safe to call again."""
        self._finish(None)
        if self._running:
            self._running = False
            with contextlib.suppress(TargetUnavailable):
                await self.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._stop_listening()
        if self._child is not None:
            await close_writer(self._child)
        await self._connection.close()

    async def __aenter__(self) -> PgGuard:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _pump_child(self, is_child: IsChild) -> None:
        raw = await self._accept(is_child)
        reader, self._child = await asyncio.open_connection(sock=raw, limit=READ_BYTES)
        self._child.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        while not self._closed.done():
            try:
                data = await reader.read(READ_BYTES)
            except ConnectionError:
                data = b""
            self._perform(self._guard.receive_child(data) if data else self._guard.child_eof())
            with contextlib.suppress(ConnectionError):  # the server's pump sees its end
                await self._connection.writer.drain()

    async def _accept(self, is_child: IsChild) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            while True:
                raw, _ = await loop.sock_accept(self._listener)
                pid, uid, _ = struct.unpack(
                    "3i", raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                )
                if is_child(pid, uid):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _WRITE_BUFFER_BYTES)
                    return raw
                raw.close()
        finally:
            self._stop_listening()

    async def _pump_server(self) -> None:
        reader = self._connection.reader
        while not self._closed.done():
            try:
                data = await reader.read(READ_BYTES)
            except OSError:
                data = b""
            self._perform(self._guard.receive_server(data) if data else self._guard.server_eof())
            if self._child is not None:
                with contextlib.suppress(ConnectionError):  # the child's pump sees its end
                    await self._child.drain()

    def _perform(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            match output:
                case ToChild(data):
                    if self._child is not None:
                        self._child.write(data)
                case ToServer(data):
                    self._connection.writer.write(data)
                case event:
                    self._tell(event)

    def _tell(self, event: Event) -> None:
        if isinstance(event, UnitStarted):
            self._running = True
        elif isinstance(event, UnitDone):
            self._running = False
        self._on_event(event)
        if isinstance(event, ChildDone):
            self._finish(None)
        elif isinstance(event, ServerGone):
            self._running = False
            said = f" (SQLSTATE {event.error.sqlstate})" if event.error else ""
            self._finish(
                TargetUnavailable(
                    f"the target closed the connection{said}",
                    "Nothing is known of an unfinished statement; look before you repeat it",
                    rule="target.gone",
                )
            )

    async def _guarded(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run one pump; whatever it raises ends the session and both connections."""
        try:
            await work()
        except TollhouseError as error:
            self._finish(error)
        except Exception as error:
            self._finish(GatewayFault(f"the guard failed ({type(error).__name__})", rule="pgguard"))
        if self._closed.done():
            self._hang_up()

    def _hang_up(self) -> None:
        """Close both sides at once, after what was written to them."""
        self._connection.writer.close()
        if self._child is not None:
            self._child.close()
        for task in self._tasks[1:] if self._child is None else ():
            task.cancel()  # it still waits for psql

    def _finish(self, reason: TollhouseError | None) -> None:
        if not self._closed.done():
            self._closed.set_result(reason)

    def _stop_listening(self) -> None:
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _listen(path: Path, child_uid: int | None) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        raise GatewayFault(
            "the path of the guard's socket is too long",
            f"Choose a state_dir so that {SOCKET_NAME} fits into {_MAX_SOCKET_PATH_BYTES} bytes",
            rule="pgguard.socket",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        listener.bind(str(path))
        path.chmod(0o600)
        if child_uid is not None and child_uid != os.geteuid():
            os.chown(path, child_uid, -1)
            os.chown(path.parent, child_uid, -1)
        listener.listen(4)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise GatewayFault(
            f"the guard's socket cannot be made ({os.strerror(error.errno or 0)})",
            rule="pgguard.socket",
        ) from None
    return listener
